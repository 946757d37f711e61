"""Why a sentence's α is what it is: its height off the plane from the side, its distances, the lesson.

templates/side_view.html draws it. The side view is true to scale: a sentence stands `off` above the plane of
the three centres, a centre lies r = sqrt(d² − off²) from its foot, and the line between them is d long. Knows
nothing of gradio.
"""

from __future__ import annotations

from math import ceil, floor, log10, sqrt
from typing import Any

from markupsafe import Markup

from monju.ensemble import gates
from monju.evaluation.cluster_map import ClusterMap
from monju.inference.reader import SentenceReader
from monju.inference.what_if import Place
from monju.ui.components.cards import NEAR_EQUAL
from monju.ui.components.markup import html
from monju.ui.i18n.translator import Translator
from monju.utils.spread import spread

NEARLY_EQUAL = 1.25  # the farthest centre's distance over the nearest's, up to which they are called so
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 320, 190, 44, 18, 40  # of the side view, in px
LETTER = 26  # px from one centre's letter to the next
TICKS = 5  # at most, along the distances' axis


def side_view(place: Place, monju: SentenceReader, cluster_map: ClusterMap, t: Translator) -> Markup:
    """Draw a sentence's height off the plane, its distances, and what they mean for α."""
    distances = dict(zip(monju.clusters, place.distances))
    return html("side_view.html", t, view=None if place.off is None else view(distances, place.off),
                off=place.off, axis=axis(distances), lesson=lesson(place, monju, cluster_map, t))


def view(distances: dict[str, float], off: float) -> dict[str, Any]:
    """Return the side view's places: {width, height, base, here, foot, centres: [(name, x, letter's x)]}."""
    along = {name: sqrt(max(0.0, d * d - off * off)) for name, d in distances.items()}
    scale = min((HEIGHT - TOP - BOTTOM) / (off or 1), (WIDTH - LEFT - LETTER) / (max(along.values()) or 1))
    base = HEIGHT - BOTTOM
    places = {name: LEFT + scale * r for name, r in along.items()}
    letters = spread(list(places.values()), LETTER, LEFT, WIDTH - LETTER / 2)
    return {"width": WIDTH, "height": HEIGHT, "base": base, "x": LEFT, "y": round(base - scale * off, 1),
            "centres": [(name, round(x, 1), round(letter, 1))
                        for (name, x), letter in zip(places.items(), letters)]}


def axis(distances: dict[str, float]) -> dict[str, Any]:
    """Return a zoomed axis for distances: {low, high, ticks: [(share, text)], rows: [(name, d, share)]}."""
    least, most = min(distances.values()), max(distances.values())
    room = max(most - least, 1e-3 * (most or 1))
    step = 10 ** floor(log10(room / TICKS))
    step *= next(times for times in (1, 2, 5, 10, 20) if room / (step * times) <= TICKS - 2)
    # room below the least, so that its bar is seen
    low, high = max(0.0, step * floor(least / step - 0.5)), step * ceil(most / step + 0.01)
    digits = max(0, -floor(log10(step) + 1e-9))
    ticks = [low + step * i for i in range(round((high - low) / step) + 1)]
    return {"low": f"{low:.{digits}f}", "zero": low == 0,
            "ticks": [((at - low) / (high - low), f"{at:.{digits}f}") for at in ticks],
            "rows": [(name, d, (d - low) / (high - low)) for name, d in distances.items()]}


def lesson(place: Place, monju: SentenceReader, cluster_map: ClusterMap, t: Translator) -> Markup:
    """Say in one or two sentences what this sentence's distances mean for its α."""
    distances, alpha, equal = place.distances, list(place.alpha.values()), 1 / len(place.alpha)
    far = {"least": f"{min(distances):.2f}", "most": f"{max(distances):.2f}",
           "dim": f"{cluster_map.vectors.shape[1]:,}", "k": len(distances)}
    weights = {"low": f"{min(alpha):.2f}", "high": f"{max(alpha):.2f}", "n": len(alpha),
               "gate": gate_of(monju, t)}
    alike = max(distances) <= NEARLY_EQUAL * min(distances)
    even = max(abs(a - equal) for a in alpha) < NEAR_EQUAL * equal
    return t(f"lesson_{'alike' if alike else 'apart'}_{'even' if even else 'uneven'}", **far, **weights)


def gate_of(monju: SentenceReader, t: Translator) -> Markup:
    """Name what makes α of the distances: the sharpness p of the poster's gate, or the gate."""
    gate = gates.make(monju.config)
    return (t("lesson_sharpness", p=f"{gate.sharpness:g}") if type(gate) is gates.Distance
            else t("lesson_gate", gate=t(f"gate_{monju.config.gate}")))
