"""What is watched of a training beside its history: held-out sentences on a plane, and pinned sentences.

The page writes the pinned sentences; every process that trains reads them again at each held-out check, and
the reports bring back what the models say (`reports.Check`). The job's process keeps it in three files:

    pins      the sentences, a JSON list
    map       where the held-out sentences and the clusters' centres lie, a JSON object
    checks    a line each: what one model said at one check, or the α of one pinned sentence

Reading changes nothing of the training: nothing is dropped out or learned, and the random state is put back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monju.config import Config
from monju.data.notes import refusal
from monju.ensemble import fusion, gates, subsets
from monju.utils.files import write

if TYPE_CHECKING:
    from monju.clustering.cluster_model import Clustering
    from monju.training.progress import Progress

MOST, LONGEST = 5, 500  # pinned sentences, and characters of one


def pinned(path: Path) -> list[str]:
    """Return the pinned sentences in a file; none where it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return [text for text in found if isinstance(text, str)][:MOST] if isinstance(found, list) else []


def sentences(texts: Iterable[str]) -> list[str]:
    """Return sentences to pin: each once, none empty. Raises MonjuError for too many or too long ones."""
    texts = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if len(texts) > MOST:
        raise refusal("too_many_pins", most=MOST)
    if any(len(text) > LONGEST for text in texts):
        raise refusal("long_pin", most=LONGEST)
    return texts


class Watch:
    """Keeps what is watched of one training. `pins`, `map` and `checks` are the paths of its files."""

    def __init__(self, pins: Path, map: Path, checks: Path):
        self.pins, self.map, self.checks = pins, map, checks
        self.weights: dict[str, list[float]] = {}

    def clustered(self, config: Config, clustering: Clustering, held_out: Sequence[str],
                  label_names: Sequence[str]) -> None:
        """Write the map, once the clusters are found: `held_out` are the sentences of the checks."""
        import torch

        from monju.clustering.projections import plane_of

        self.config, self.clustering = config, clustering
        with torch.random.fork_rng():
            vectors, distances, _ = clustering.place(held_out)
        transform, centres = plane_of(clustering.clusterer.centres_)
        points = zip(transform(vectors).round(4).tolist(), distances.argmin(axis=1).tolist())
        found = {"centres": centres.round(4).tolist(), "points": [[*at, cluster] for at, cluster in points],
                 "texts": list(held_out), "labels": list(label_names), "fusion": config.fusion,
                 "experts": subsets.expert_names(config)}
        with suppress(OSError):  # a full disk is the run's own to tell
            write(self.map, json.dumps(found))

    def checked(self, event: Progress) -> None:
        """Keep what a model said, where it was checked, and the α of what was pinned since."""
        check = event.step.check
        if check is None:
            return
        with suppress(OSError), open(self.checks, "ab") as file:
            for text in check.pinned:
                if text not in self.weights:
                    self.weights[text] = self.alpha(text)
                    file.write((json.dumps({"text": text, "alpha": self.weights[text]}) + "\n").encode())
            said = {"model": event.model, "step": event.step.step, "right": check.right,
                    "pinned": {text: np.round(own, 4).tolist() for text, own in check.pinned.items()}}
            file.write((json.dumps(said) + "\n").encode())

    def alpha(self, text: str) -> list[float]:
        """Return the experts' weights for a sentence, by the run's gate."""
        import torch

        with torch.random.fork_rng():
            _, distances, posterior = self.clustering.place([text])
        pairs = subsets.expert_subsets(self.config.k, self.config.subset_size)
        return gates.make(self.config)(distances, pairs, posterior)[0].tolist()


# ---- what it comes to


def last_life(checks: Sequence[dict]) -> list[dict]:
    """Return the checks without those that a resumed training repeats: it begins at its last checkpoint."""
    kept: list[dict] = []
    for line in checks:
        if "model" in line:
            kept = [other for other in kept
                    if other.get("model") != line["model"] or other["step"] < line["step"]]
        kept.append(line)
    return kept


def verdicts(found: dict[str, Any], checks: Sequence[dict], text: str) -> list[dict[str, Any]]:
    """Return what was said of a pinned sentence at every check, in the order of the checks.

    Parameters
    ----------
    found : dict
        The map.
    checks : sequence of dict
        The lines of the checks.
    text : str
        The sentence.

    Returns
    -------
    list of dict
        "model", "step", "said" ({model: (label number, probability)}, the last of each model so far) and
        "monju" (the same of the experts read so far, weighted by their α among each other; None before the
        first).
    """
    alpha, logits, history = None, {}, []
    experts = found["experts"]
    for line in last_life(checks):
        if line.get("text") == text:
            alpha = dict(zip(experts, line["alpha"]))
        elif text in line.get("pinned", {}):
            logits[line["model"]] = np.array(line["pinned"][text])
            said = {model: surest(own) for model, own in logits.items()}
            read = [name for name in experts if name in logits]
            monju = None
            if alpha and read:
                weights = np.array([alpha[name] for name in read])
                weights = weights / weights.sum() if weights.sum() else np.full(len(read), 1 / len(read))
                mixed = fusion.TABLE[found["fusion"]](np.stack([logits[name] for name in read])[None],
                                                      weights[None])
                monju = surest(mixed[0])
            history.append({"model": line["model"], "step": line["step"], "said": said, "monju": monju})
    return history


def surest(logits: np.ndarray) -> tuple[int, float]:
    """Return the label of the largest logit [labels], and its probability."""
    odds = np.exp(logits - logits.max())
    return int(logits.argmax()), float(odds.max() / odds.sum())


def right_share(found: dict[str, Any], checks: Sequence[dict]) -> tuple[list[str], list[float | None]]:
    """Return the experts that were checked, and what share of them was right of each held-out sentence.

    None before the first check. Each expert counts as it was at its last check.
    """
    last = {line["model"]: line["right"] for line in checks if "right" in line}
    read = [name for name in found["experts"] if len(last.get(name, "")) == len(found["points"])]
    if not read:
        return [], [None] * len(found["points"])
    shares = np.mean([[letter == "1" for letter in last[name]] for name in read], axis=0)
    return read, shares.tolist()
