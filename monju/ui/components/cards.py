"""Reading → HTML: verdicts, experts, distances and the formula with the sentence's own numbers.

What is said is decided here, how it looks is in templates/{reading,details,formulas,effect}.html;
colours and sizes are assets/style.css's. Knows nothing of gradio.
"""

from __future__ import annotations

from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from markupsafe import Markup
from scipy.special import log_softmax, softmax

from monju.ensemble import gates
from monju.ensemble.outputs import Reading
from monju.ui.components.markup import html, note
from monju.ui.components.ternary import triangle
from monju.ui.i18n.translator import TEXTS, Translator
from monju.utils.format import percent, signed

if TYPE_CHECKING:
    from monju.inference.reader import SentenceReader

MOST_LABELS = 6  # rows of a card: beyond, the least likely labels are counted instead
MOST_TERMS = 4  # experts whose α is written out: beyond, the loudest alone
NEAR_EQUAL = 0.15  # α within this share of equal weight is called close to equal


class Opinion(NamedTuple):
    """What logits say: the likeliest label, and a row for each of the likely ones."""

    best: int
    name: str
    probability: float
    rows: list[tuple[int, str, float, float]]  # label's number and name, probability, logit
    left: int  # labels without a row

    @classmethod
    def of(cls, logits: np.ndarray, names: list[str]) -> Opinion:
        probabilities, best = softmax(logits).tolist(), int(logits.argmax())
        likeliest = sorted(sorted(range(len(names)), key=lambda i: -probabilities[i])[:MOST_LABELS])
        rows = [(i, names[i], probabilities[i], float(logits[i])) for i in likeliest]
        return cls(best, names[best], probabilities[best], rows, len(names) - len(rows))


class Weight(NamedTuple):
    """An expert, its α, and the clusters that it was taught and those that it has not seen."""

    name: str
    alpha: float
    said: Opinion
    taught: list[str]
    unseen: list[str]


def weights(found: Reading, monju: SentenceReader, names: list[str]) -> list[Weight]:
    """Every expert of a reading, with these names of the labels."""
    return [Weight(name, found.alpha[name], Opinion.of(found.logits[name], names),
                   [monju.clusters[i] for i in subset],
                   [c for i, c in enumerate(monju.clusters) if i not in subset])
            for name, subset in zip(monju.experts, monju.subsets)]


# the answer


def reading(found: Reading, monju: SentenceReader, t: Translator) -> Markup:
    """A Reading's answer: both verdicts, what to make of them, the experts."""
    names, equal = t.labels(monju.label_names), 1 / len(monju.experts)
    verdicts = [("monju", t("monju_by"), Opinion.of(found.monju.logits, names))]
    if found.baseline is not None:
        by = t("baseline_by", n=len(monju.members))
        verdicts.append(("baseline", by, Opinion.of(found.baseline.logits, names)))
    return html("reading.html", t, text=found.text, verdicts=verdicts, notes=found.notes,
                differ=found.baseline is not None and found.baseline.label != found.monju.label,
                agreement=agreement(found, t), minority=minority(found, monju, t),
                title=t("experts", n=len(monju.experts), m=monju.config.subset_size, k=monju.config.k),
                clusters=monju.clusters, experts=weights(found, monju, names), equal=equal,
                # the bar's right end: the equal-weight mark is well inside
                full=max(2 * equal, *found.alpha.values()))


def waiting(t: Translator) -> Markup:
    """What stands in the answer's place while a run is loaded."""
    return note(t("waiting"), t, busy=True)


def hint(t: Translator) -> Markup:
    """What stands in the answer's place where nothing is typed."""
    return note(t("hint"), t)


def agreement(found: Reading, t: Translator) -> Markup:
    """In words: whether the ensembles agree."""
    label = t.label(found.monju.name)
    if found.baseline is None:
        return t("no_baseline", label=label)
    if found.baseline.label != found.monju.label:
        return t("disagree", monju=label, baseline=t.label(found.baseline.name))
    return t("agree", label=label)


def minority(found: Reading, monju: SentenceReader, t: Translator) -> Markup:
    """In words: the experts that said something other than Monju."""
    says = {expert: monju.label_names[int(found.logits[expert].argmax())] for expert in monju.experts}
    others = [expert for expert in monju.experts if says[expert] != found.monju.name]
    if not others:
        return t("unanimous", n=len(says))
    if len(others) == len(says):
        return t("compromise")
    if len(others) == 1 and len(says) > 2:
        return t("one_outvoted", expert=others[0], label=t.label(says[others[0]]))
    camps = {}
    for name in others:
        camps.setdefault(says[name], []).append(name)
    named = t("comma").join(f"{t.listed(camp)} ({t.label(label)})" for label, camp in camps.items())
    if 2 * len(others) < len(says):
        return t("outvoted", experts=named)
    return t("outweighed", experts=named,
               winners=t.listed([expert for expert in says if expert not in others]))


# how it came about: from distances to α to the verdict


def details(found: Reading, monju: SentenceReader, t: Translator,
            others: np.ndarray | None = None) -> Markup:
    """How the answer came about: distances, the gate's formula, the fusion, the baseline's models.

    Parameters
    ----------
    found, monju, t
        The reading, its run under the settings on show, and the words.
    others : ndarray (n, experts), optional
        α of the held-out sentences, where it is known.
    """
    gate, names = None if monju.combiner else gates.make(monju.config), t.labels(monju.label_names)
    # of many experts the loudest alone is written out
    few, rows = len(monju.experts) <= MOST_TERMS, weights(found, monju, names)
    learned = f"way_{monju.gate}"
    return html(
        "details.html", t, distances=found.distances, nearest=min(found.distances, key=found.distances.get),
        farthest=max(found.distances.values()), learned=gate is None and learned in TEXTS and learned,
        **formula(gate, found, monju), written=rows if few else [max(rows, key=lambda row: row.alpha)],
        loudest=loudest(found, t), fusion=few and fusion(found, monju, t),
        others=None if others is None else len(others),
        **among(found, others, t),
        members=[(name, Opinion.of(found.logits[name], names)) for name in monju.members])


def formula(gate, found: Reading, monju: SentenceReader) -> dict:
    """The gate's formula by its name in templates/formulas.html, with what stands in it."""
    k, m = monju.config.k, monju.config.subset_size
    if any(found.distances.values()):  # else the gate's formula would divide by zero
        if type(gate) is gates.Distance:  # divisor: experts that have not seen a given cluster
            power = "" if gate.sharpness == 1 else f"{gate.sharpness:g}"
            return {"formula": "distance", "power": power, "divisor": comb(k - 1, m)}
        if type(gate) in (gates.Membership, gates.Posterior):  # divisor: experts that know a given cluster
            how = {"temperature": None} if type(gate) is gates.Posterior else {
                "temperature": f"{gate.temperature:g}", "power": f"{gate.power:g}"}
            return {"formula": "membership", "divisor": comb(k - 1, m - 1), **how}
    return {"formula": "bare"}


def loudest(found: Reading, t: Translator) -> Markup:
    """In words: the nearest cluster, who speaks loudest, and how far that is from an equal-weight average."""
    nearest = min(found.distances, key=found.distances.get)
    equal = 1 / len(found.alpha)
    spread = max(abs(alpha - equal) for alpha in found.alpha.values()) / equal
    if spread < 1e-9:
        return t("tied", cluster=nearest)
    told = t("loudest", cluster=nearest, expert=max(found.alpha, key=found.alpha.get))
    return told + " " + t("near_equal") if spread < NEAR_EQUAL else told


def fusion(found: Reading, monju: SentenceReader, t: Translator) -> dict:
    """Σ α · logit (or · probability) of Monju's label: its terms and their sum."""
    best = int(found.monju.probabilities.argmax())
    what, part = {"logits": ("logit", lambda logits: logits), "probabilities": ("probability", softmax),
                  "product": ("log_p",
                              lambda logits: len(monju.experts) * log_softmax(logits))}[monju.config.fusion]
    terms = [(found.alpha[name], float(part(found.logits[name])[best])) for name in monju.experts]
    return {"what": what, "label": t.label(found.monju.name), "terms": terms,
            "total": sum(alpha * value for alpha, value in terms)}


def among(found: Reading, others: np.ndarray | None, t: Translator) -> dict:
    """This sentence's α among others' (n, experts): a triangle for three experts, else bars."""
    alpha = list(found.alpha.values())
    if others is None:
        return {}
    if len(alpha) == 3:
        title = t("ternary_alt",
                    alpha=", ".join(f"{name} {value:.3f}" for name, value in found.alpha.items()))
        return {"triangle": triangle(list(found.alpha), alpha, others, title)}
    full = max(float(others.max()), *alpha) or 1
    bands = np.quantile(others, [0.05, 0.95], axis=0).T / full
    return {"triangle": None, "among": [(name, value / full, band, value)
                                        for (name, value), band in zip(found.alpha.items(), bands)]}


def effect(found: dict, t: Translator) -> Markup:
    """The accuracy under the controls' settings, in words (see LoadedRun.effect)."""
    return html("effect.html", t, **found)


# the line under the page


def about(monju: SentenceReader, metrics: dict, t: Translator) -> Markup:
    """Which run is shown and what it is worth, with intervals."""
    config, data = monju.config, monju.run.manifest["data"]
    # names alone: a path would tell of the machine that trained
    told = [t("run", run=monju.run.path.resolve().name, backbone=Path(config.backbone).name,
                data=Path(config.data).name, train=f"{data['train']:,}")]
    scored = []
    for name in ("monju", "baseline"):
        if found := metrics.get(name):
            accuracy, low, high = (percent(value, 1) for value in (found["accuracy"], *found["interval"]))
            scored.append(t("score", name=t(name), accuracy=accuracy, low=low, high=high))
    told.append(t("scores", n=f"{metrics['n']:,}", scores=t("comma").join(scored),
                    point=f"{100 / metrics['n']:.2f}"))
    if pair := metrics.get("monju_vs_baseline"):
        told.append(t("difference", points=signed(100 * pair["difference"]), p=f"{pair['p_value']:.2g}"))
    return note(Markup(" ").join(told), t, "about", role=None)
