"""Reading → HTML: verdicts, experts, distances and the formula with the sentence's own numbers.

What is said is decided here, how it looks is in templates/{reading,details,formulas,effect}.html;
colours and sizes are assets/style.css's. Knows nothing of gradio.
"""

from __future__ import annotations

from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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

MOST_LABELS = 6  # rows of a card: of more labels the likeliest few alone, and more of them on demand
FEW_LABELS, MORE_LABELS = 3, 12
MOST_TERMS = 4  # experts whose α is written out: beyond, the loudest alone
NEAR_EQUAL = 0.15  # α within this share of equal weight is called close to equal


class Opinion(NamedTuple):
    """What logits say: the likeliest label, and a row for each label.

    Of many labels the rows are the likeliest three, the likeliest first.
    """

    best: int
    name: str
    probability: float
    rows: list[tuple[int, str, float, float]]  # label's number and name, probability, logit
    more: list[tuple[int, str, float, float]]  # those that follow
    left: int  # labels without a row

    @classmethod
    def of(cls, logits: np.ndarray, names: list[str]) -> Opinion:
        """Make the Opinion of logits (labels,), with these names of the labels."""
        probabilities, best = softmax(logits).tolist(), int(logits.argmax())
        shown, more = list(range(len(names))), []
        if len(names) > MOST_LABELS:
            order = np.argsort(-logits, kind="stable")[: FEW_LABELS + MORE_LABELS].tolist()
            shown, more = order[:FEW_LABELS], order[FEW_LABELS:]
        rows, more = ([(i, names[i], probabilities[i], float(logits[i])) for i in part]
                      for part in (shown, more))
        return cls(best, names[best], probabilities[best], rows, more, len(names) - len(rows) - len(more))


class Weight(NamedTuple):
    """An expert, its α, and the clusters that it was taught and those that it has not seen."""

    name: str
    alpha: float
    said: Opinion
    taught: list[str]
    unseen: list[str]


def weights(reading: Reading, monju: SentenceReader, names: list[str]) -> list[Weight]:
    """Return every expert of a reading, with these names of the labels."""
    return [Weight(name, reading.alpha[name], Opinion.of(reading.logits[name], names),
                   [monju.clusters[i] for i in subset],
                   [c for i, c in enumerate(monju.clusters) if i not in subset])
            for name, subset in zip(monju.experts, monju.subsets)]


# in the answer's place, and what the experts said


def waiting(t: Translator) -> Markup:
    """Draw what stands in the answer's place while a run is loaded."""
    return note(t("waiting"), t, busy=True)


def hint(t: Translator) -> Markup:
    """Draw what stands in the answer's place where nothing is typed."""
    return note(t("hint"), t)


def minority(reading: Reading, monju: SentenceReader, t: Translator) -> Markup:
    """Say which experts said something other than Monju."""
    labels = {expert: monju.label_names[int(reading.logits[expert].argmax())] for expert in monju.experts}
    others = [expert for expert in monju.experts if labels[expert] != reading.monju.name]
    if not others:
        return t("unanimous", n=len(labels))
    if len(others) == len(labels):
        return t("compromise")
    if len(others) == 1 and len(labels) > 2:
        return t("one_outvoted", expert=others[0], label=t.label(labels[others[0]]))
    by_label = {}
    for expert in others:
        by_label.setdefault(labels[expert], []).append(expert)
    groups = t("comma").join(f"{t.listed(experts)} ({t.label(label)})" for label, experts in by_label.items())
    if 2 * len(others) < len(labels):
        return t("outvoted", experts=groups)
    return t("outweighed", experts=groups,
             winners=t.listed([expert for expert in labels if expert not in others]))


# how it came about: from distances to α to the verdict


def details(reading: Reading, monju: SentenceReader, t: Translator,
            others: np.ndarray | None = None) -> Markup:
    """Draw how the answer came about: distances, the gate's formula, the fusion, the baseline's models.

    Parameters
    ----------
    reading, monju, t
        The reading, its run under the settings on show, and the translator.
    others : ndarray (n, experts), optional
        α of the held-out sentences, where it is known.
    """
    gate, names = None if monju.combiner else gates.make(monju.config), t.labels(monju.label_names)
    # of many experts the loudest alone is written out
    few, rows = len(monju.experts) <= MOST_TERMS, weights(reading, monju, names)
    learned = f"way_{monju.gate}"
    return html(
        "details.html", t, distances=reading.distances,
        nearest=min(reading.distances, key=reading.distances.get),
        farthest=max(reading.distances.values()), learned=gate is None and learned in TEXTS and learned,
        **formula(gate, reading, monju), written=rows if few else [max(rows, key=lambda row: row.alpha)],
        loudest=loudest(reading, t), fusion=few and fusion(reading, monju, t),
        others=None if others is None else len(others),
        **among(reading, others, t),
        members=[(name, Opinion.of(reading.logits[name], names)) for name in monju.members])


def formula(gate: gates.Gate | None, reading: Reading, monju: SentenceReader) -> dict[str, Any]:
    """Return the gate's formula by its name in templates/formulas.html, with what stands in it."""
    k, m = monju.config.k, monju.config.subset_size
    if any(reading.distances.values()):  # else the gate's formula would divide by zero
        if type(gate) is gates.Distance:  # divisor: experts that have not seen a given cluster
            power = "" if gate.sharpness == 1 else f"{gate.sharpness:g}"
            return {"formula": "distance", "power": power, "divisor": comb(k - 1, m)}
        if type(gate) in (gates.Membership, gates.Posterior):  # divisor: experts that know a given cluster
            values = {"temperature": None} if type(gate) is gates.Posterior else {
                "temperature": f"{gate.temperature:g}", "power": f"{gate.power:g}"}
            return {"formula": "membership", "divisor": comb(k - 1, m - 1), **values}
    return {"formula": "bare"}


def loudest(reading: Reading, t: Translator) -> Markup:
    """Say the nearest cluster, the expert of the largest α, and how far α is from equal weights."""
    nearest = min(reading.distances, key=reading.distances.get)
    equal = 1 / len(reading.alpha)
    spread = max(abs(alpha - equal) for alpha in reading.alpha.values()) / equal
    if spread < 1e-9:
        return t("tied", cluster=nearest)
    text = t("loudest", cluster=nearest, expert=max(reading.alpha, key=reading.alpha.get))
    return text + " " + t("near_equal") if spread < NEAR_EQUAL else text


def fusion(reading: Reading, monju: SentenceReader, t: Translator) -> dict[str, Any]:
    """Return Σ α · logit (or · probability) of Monju's label: its terms and their sum."""
    best = int(reading.monju.probabilities.argmax())
    what, scores = {"logits": ("logit", lambda logits: logits), "probabilities": ("probability", softmax),
                    "product": ("log_p",
                                lambda logits: len(monju.experts) * log_softmax(logits))}[monju.config.fusion]
    terms = [(reading.alpha[name], float(scores(reading.logits[name])[best])) for name in monju.experts]
    return {"what": what, "label": t.label(reading.monju.name), "terms": terms,
            "total": sum(alpha * value for alpha, value in terms)}


def among(reading: Reading, others: np.ndarray | None, t: Translator) -> dict[str, Any]:
    """Return the sentence's α among others' (n, experts): a triangle for three experts, else bars."""
    alpha = list(reading.alpha.values())
    if others is None:
        return {}
    if len(alpha) == 3:
        title = t("ternary_alt",
                  alpha=", ".join(f"{name} {value:.3f}" for name, value in reading.alpha.items()))
        return {"triangle": triangle(list(reading.alpha), alpha, others, title)}
    full = max(float(others.max()), *alpha) or 1
    bands = np.quantile(others, [0.05, 0.95], axis=0).T / full
    return {"triangle": None, "among": [(name, value / full, band, value)
                                        for (name, value), band in zip(reading.alpha.items(), bands)]}


def effect(values: dict[str, Any], t: Translator) -> Markup:
    """Say the accuracy under the controls' settings; `values` as `combiners.effect` returns them."""
    return html("effect.html", t, **values)


# the line under the page


def about(monju: SentenceReader, metrics: dict, t: Translator) -> Markup:
    """Say which run is shown and its accuracies, with intervals."""
    config, data = monju.config, monju.run.manifest["data"]
    # names alone: a path would tell of the machine that trained
    sentences = [t("run", run=monju.run.path.resolve().name, backbone=Path(config.backbone).name,
                   data=Path(config.data).name, train=f"{data['train']:,}")]
    scores = []
    for name in ("monju", "baseline"):
        if score := metrics.get(name):
            accuracy, low, high = (percent(value, 1) for value in (score["accuracy"], *score["interval"]))
            scores.append(t("score", name=t(name), accuracy=accuracy, low=low, high=high))
    sentences.append(t("scores", n=f"{metrics['n']:,}", scores=t("comma").join(scores),
                       point=f"{100 / metrics['n']:.2f}"))
    if pair := metrics.get("monju_vs_baseline"):
        sentences.append(t("difference", points=signed(100 * pair["difference"]), p=f"{pair['p_value']:.2g}"))
    return note(Markup(" ").join(sentences), t, "about", role=None)
