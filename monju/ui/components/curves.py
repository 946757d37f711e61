"""The curves of a training: one chart a value, one line a model, named in a margin where names never touch.

Heights are pixels of the page, widths are stretched to the room there is, so that text keeps its size; names
and numbers stand beside the picture (templates/job.html). An expert's line alternates between the colours of
the clusters that it learns, a baseline's is grey. Knows nothing of gradio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

HEIGHT, WIDTH, MARGIN = 220, 1000, 8  # WIDTH is stretched
APART = 16  # of two names, in px
MOST_NAMED = HEIGHT // APART
DASHES = ("7 4", "2 4", "12 3 2 3", "4 2", "1 3", "9 2 1 2")  # of the members of a baseline


def curve(models: dict[str, dict], what: str, title: str, times: int, digits: int) -> dict[str, Any]:
    """Return the chart of one value of the history, `what`; without lines where none of the history has it.

    Parameters
    ----------
    models : dict
        `progress.standing`.
    what, title : str
        The value and its name.
    times, digits : int
        What it is multiplied by, and the digits that are shown.
    """
    points = {name: [(line["step"], times * line[what]) for line in model["lines"] if line[what] is not None]
              for name, model in models.items()}
    points = {name: line for name, line in points.items() if line}
    if not points:
        return {"title": title, "lines": []}
    steps = max(*(line[-1][0] for line in points.values()),
                *(model["last"]["steps"] for model in models.values() if model["last"]))
    low, high = (f(value for line in points.values() for _, value in line) for f in (min, max))
    margin = (high - low) * 0.05 or 0.05 * times
    low, high = low - margin, high + margin

    def x(step: float) -> float:
        return WIDTH * step / steps

    def y(value: float) -> float:
        return MARGIN + (HEIGHT - 2 * MARGIN) * (high - value) / (high - low)

    named = {name: y(line[-1][1]) for name, line in points.items()}
    places = apart(named) if len(named) <= MOST_NAMED else {}
    return {"title": title, "what": what, "steps": steps, "width": WIDTH, "height": HEIGHT, "digits": digits,
            "grid": grid(low, high, digits, y),
            "lines": [{"name": name, "short": name.split("/")[-1], "strokes": strokes(models[name]),
                       "path": "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in line),
                       "dots": [(x(step), y(value)) for step, value in line] if len(line) < 15 else [],
                       "at": " ".join(str(step) for step, _ in line), "points": len(line),
                       "values": " ".join(f"{value:.{digits + 1}f}" for _, value in line),
                       "end": named[name], "label": places.get(name)}
                      for name, line in points.items()]}


def grid(low: float, high: float, digits: int, y: Callable[[float], float]) -> list[tuple[float, str]]:
    """Return four heights with their values, in as many digits as tell them apart."""
    values = [low + (high - low) * share for share in (0.05, 0.35, 0.65, 0.95)]
    enough = next((more for more in range(digits, digits + 3)
                   if len({f"{at:.{more}f}" for at in values}) == len(values)), digits + 3)
    return [(y(at), f"{at:.{enough}f}") for at in values]


def apart(wanted: dict[str, float]) -> dict[str, float]:
    """Return heights near those wanted, APART of each other at least, all inside the picture.

    >>> apart({"a": 100, "b": 101, "c": 219})
    {'a': 100, 'b': 116, 'c': 212}
    """
    placed, below = {}, APART / 2 - APART
    for name in sorted(wanted, key=lambda name: wanted[name]):
        below = placed[name] = max(wanted[name], below + APART)
    above = HEIGHT - APART // 2 + APART
    for name in reversed(placed):
        above = placed[name] = min(placed[name], above - APART)
    return placed


def strokes(model: dict) -> list[tuple[str, str, str]]:
    """Return how a model's line is drawn: (class in the style sheet, dashes, where they begin) on each other.

    An expert's: a dash of each of its clusters' colours in turn. Another model's: grey dashes of its number.
    """
    if not model["clusters"]:
        return [("", DASHES[model["number"] % len(DASHES)], "0")]
    n, dash = len(model["clusters"]), 9
    return [(cluster_class(c), f"{dash} {dash * (n - 1)}" if n > 1 else "", str(-dash * i))
            for i, c in enumerate(model["clusters"])]


def cluster_class(number: int) -> str:
    """Return the style sheet's class for a cluster's number."""
    return f"cluster-{number}" if number < 3 else f"cluster-{3 + (number - 3) % 4}"
