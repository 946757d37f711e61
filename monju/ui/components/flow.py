"""The flow: one Reading drawn from left to right, the sentence among the clusters, the experts, the verdict.

`flow` decides what is said, templates/flow.html and assets/flow.css how it looks, and assets/flow.js moves
what changes and lights what a number comes from. Every number carries its name (`data-n`), what it comes from
and its arithmetic. Knows nothing of gradio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from monju.clustering.projections import plane_of
from monju.ensemble import gates
from monju.ensemble.outputs import Reading
from monju.inference import what_if
from monju.ui.components import cards
from monju.ui.components.cards import Opinion
from monju.ui.components.markup import html
from monju.ui.i18n.translator import Translator

if TYPE_CHECKING:
    from monju.inference.reader import SentenceReader

MOST_EXPERTS = 6  # drawn: of more, those with the largest α
WIDTH, HEIGHT, MARGIN = 240, 210, 22  # of the small map, in px
Point = tuple[float, float]


@dataclass(frozen=True)
class Voice:
    """One expert as it is drawn."""

    name: str
    alpha: float
    said: Opinion
    taught: list[tuple[str, bool]]  # (cluster, whether the expert learned it)
    met: bool  # whether it learned the nearest cluster
    same: bool  # whether it says what Monju says
    say: str  # the arithmetic of its α


def flow(reading: Reading, monju: SentenceReader, t: Translator, unsure_below: float | None = None) -> Markup:
    """Draw a Reading.

    Parameters
    ----------
    reading, monju, t
        The reading, its run under the settings on show, and the translator.
    unsure_below : float, optional
        The probability under which a verdict is told to be unsure.
    """
    names = t.labels(monju.label_names)
    verdict = Opinion.of(reading.monju.logits, names)
    nearest = min(reading.distances, key=lambda cluster: reading.distances[cluster])
    voices = [voice(row, reading, monju, nearest, verdict.best)
              for row in cards.weights(reading, monju, names)]
    shown = sorted(sorted(voices, key=lambda one: -one.alpha)[:MOST_EXPERTS], key=voices.index)
    baseline = None if reading.baseline is None else Opinion.of(reading.baseline.logits, names)
    return html("flow.html", t, text=reading.text, place=place(reading, monju), nearest=nearest,
                voices=shown, hidden=len(voices) - len(shown), experts=len(voices), equal=1 / len(voices),
                m=monju.config.subset_size, k=monju.config.k, verdict=verdict,
                sum=mixture(reading, monju, t), baseline=baseline, members=len(monju.members),
                differ=baseline is not None and baseline.best != verdict.best,
                minority=cards.minority(reading, monju, t),
                unsure=unsure_below is not None and verdict.probability < unsure_below, notes=reading.notes,
                turns=turns(reading, monju, names))


def voice(row: cards.Weight, reading: Reading, monju: SentenceReader, nearest: str, best: int) -> Voice:
    """Return an expert as it is drawn, `best` being the number of Monju's label."""
    return Voice(row.name, row.alpha, row.said, [(c, c in row.taught) for c in monju.clusters],
                 nearest in row.taught, row.said.best == best, arithmetic(row, reading, monju))


def arithmetic(row: cards.Weight, reading: Reading, monju: SentenceReader) -> str:
    """Return how an expert's α follows from this sentence's distances, where the gate is the poster's."""
    gate = None if monju.combiner else gates.make(monju.config)
    if type(gate) is not gates.Distance or not any(reading.distances.values()):
        return f"α_{row.name} = {row.alpha:.3f}"
    power = "" if gate.sharpness == 1 else f"^{gate.sharpness:g}"
    above = " + ".join(f"{reading.distances[c]:.3f}{power}" for c in row.unseen)
    below = " + ".join(f"{d:.3f}{power}" for d in reading.distances.values())
    divisor = comb(monju.config.k - 1, monju.config.subset_size)
    below = f"({below})" if divisor == 1 else f"({divisor} · ({below}))"
    return f"α_{row.name} = {f'({above})' if len(row.unseen) > 1 else above} / {below} = {row.alpha:.3f}"


def mixture(reading: Reading, monju: SentenceReader, t: Translator) -> str:
    """Return the weighted sum of Monju's label with this sentence's numbers."""
    mixed = cards.fusion(reading, monju, t)
    terms = " + ".join(f"{alpha:.3f} · {value:.2f}" for alpha, value in mixed["terms"][:MOST_EXPERTS])
    more = " + …" if len(mixed["terms"]) > MOST_EXPERTS else ""
    return f"{t(mixed['what'])} {mixed['label']}: {terms}{more} = {mixed['total']:.2f}"


def place(reading: Reading, monju: SentenceReader) -> dict[str, Any] | None:
    """Return where the sentence stands among the centres, as drawn; None where there is no plane.

    {"centres": [(name, x, y, distance)], "here": (x, y)}. The plane is the map's: the centres' own for three,
    else the two directions in which the centres differ most.
    """
    drawn, centres = monju.memo("flow plane", lambda: small_map(monju.clustering.clusterer.centres_))
    return {"width": WIDTH, "height": HEIGHT, "here": drawn(reading.vector),
            "centres": [(name, *centre, d) for (name, d), centre in zip(reading.distances.items(), centres)]}


def small_map(centres: np.ndarray) -> tuple[Callable[[np.ndarray], Point], list[Point]]:
    """Return a function from a vector [dim] to its point on WIDTH × HEIGHT, and the centres' points."""
    plane, places = plane_of(centres)
    reach = 1.6 * np.abs(places).max() or 1.0

    def drawn(place: np.ndarray) -> Point:
        x, y = np.clip(place / reach, -1, 1) * (WIDTH / 2 - MARGIN, MARGIN - HEIGHT / 2)
        return round(WIDTH / 2 + float(x), 1), round(HEIGHT / 2 + float(y), 1)

    def of(vector: np.ndarray) -> Point:
        return drawn(plane(np.asarray(vector, np.float64)[None])[0])

    return of, [drawn(place) for place in places]


def turns(reading: Reading, monju: SentenceReader, names: list[str]) -> dict[str, Any] | None:
    """Return over which sharpness the verdict is which; None for a gate without one.

    {"now", "most", "parts": [(from, to, label, whether it is the one on show)], "flips"}, places as shares of
    the slider.
    """
    if monju.combiner or monju.config.gate != "distance":
        return None
    powers, labels = what_if.verdicts_over_sharpness(reading, monju)
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1), len(labels)]
    most, best, last = float(powers[-1]), int(reading.monju.logits.argmax()), len(labels) - 1
    parts = [(powers[a] / most, powers[min(b, last)] / most, names[labels[a]], int(labels[a]) == best)
             for a, b in zip(edges, edges[1:])]
    flips = [f"{powers[b]:g}" for b in edges[1:-1]]
    return {"now": monju.config.sharpness / most, "most": most, "parts": parts, "flips": flips}
