"""Example sentences of a run: its own, or some of its held-out sentences, named by what they show.

assets/examples.json has, for each run that ships, sentences that were written for it, with the right label,
what Monju says, and the case (`evaluation.cases`; "outside" where no label fits).
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from monju.errors import MonjuError
from monju.evaluation.cases import cases
from monju.runs.registry import SHIPPED
from monju.ui.i18n.translator import Translator
from monju.utils.files import ROOT

if TYPE_CHECKING:
    from monju.inference.run_cache import LoadedRun

EXAMPLES = json.loads((ROOT / "assets" / "examples.json").read_text(encoding="utf-8"))
SHOWN = 5
ORDER = ("unseen", "rescued", "agree", "outside", "both_wrong", "alone", "saved", "broken")
LONGEST = 90  # characters of a sentence that is offered


def examples(opened: LoadedRun) -> list[tuple[str, str]]:
    """Return up to SHOWN sentences of a run as (case, text), each of another case where it can be.

    None where it has none of its own and its held-out sentences cannot be read.
    """
    if own := written(opened.run.path):
        return own
    data = opened.data()
    if data is None:
        return []
    try:
        outputs, labels = opened.held_out()
    except MonjuError:
        return []
    found = cases(opened.decide(outputs), labels).tolist()
    return varied([(case, text) for case, text in zip(found, data.validation.texts) if len(text) <= LONGEST])


def surprising(opened: LoadedRun, before: str) -> str:
    """Return a held-out sentence on which Monju and the baseline differ, never the one before.

    Where none can be read, one of the run's own on which not all agree.
    """
    own = EXAMPLES[opened.run.path.name] if written(opened.run.path) else []
    texts = [example["text"] for example in own if example["case"] != "agree"]
    if data := opened.data(wait=not own):
        predictions = opened.decide(opened.held_out()[0])
        if predictions.baseline is not None:
            differ = predictions.monju.argmax(axis=1) != predictions.baseline.argmax(axis=1)
            texts = [data.validation.texts[i] for i in np.flatnonzero(differ)] or texts
    return random.choice([text for text in texts if text != before] or [before])


def written(run: Path) -> list[tuple[str, str]]:
    """Return SHOWN of the sentences that were written for a run that ships, as (case, text)."""
    if run.resolve() not in [shipped.resolve() for shipped in SHIPPED]:
        return []
    return varied([(example["case"], example["text"]) for example in EXAMPLES[run.resolve().name]])


def varied(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return SHOWN of the pairs (case, text), one case after another in ORDER."""
    by_case = {case: [text for other, text in pairs if other == case] for case in ORDER}
    rounds = [(case, texts[i]) for i in range(SHOWN) for case, texts in by_case.items() if i < len(texts)]
    return rounds[:SHOWN]


def labelled(pairs: list[tuple[str, str]], t: Translator) -> list[str]:
    """Return what stands on SHOWN buttons: the case; "" on one that is not needed."""
    return [*(str(t(f"case_{case}")) for case, _ in pairs), *[""] * (SHOWN - len(pairs))]
