"""The figure: gain of a gate over gap × leverage, one panel a fusion, as SVG.

One point is a gate in one layout of one setting, the mean of its seeds, or a gate on a stored run. Both axes are
cube roots, with their sign, so that points a thousand times apart can be told apart.
"""

from html import escape
from math import copysign, cos, radians, sin
from statistics import mean
from typing import NamedTuple

from experiments.tables import FUSIONS, MAIN, Found, every_layout, gate_row

GATES = ("distance p=1", MAIN, "inverse-distance p=32", "membership T=0.1")  # the poster's, and three sharper ones
COLOURS = {"SST-2": "#cc79a7", "CLINC150": "#0072b2", "reviews, natural": "#009e73", "reviews, changed": "#e69f00",
           "controls": "#8a94a6"}
UNLABELLED = {"E4 pairs", "E5 pairs", "E6 linear head", "E6 rank 1", "E6 last two layers", "E6 full"}  # in a crowd
WIDTH, PANEL, LEFT, TOP, BOTTOM = 1200, 520, 70, 92, 70
HEIGHT = 640
X_TICKS, Y_TICKS = (0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4), (-20, -10, -3, -1, -0.1, 0, 0.1, 1, 3, 10, 20, 40)


class Point(NamedTuple):
    """x: gap × leverage, of accuracies and shares; y: gain in points."""

    x: float
    y: float
    group: str
    label: str  # "" for none
    title: str
    poster: bool  # the gate p = 1


def group_of(setting: str) -> str:
    """Return the colour's name of a setting."""
    if "control" in setting:
        return "controls"
    if setting.startswith("SST-2"):
        return "SST-2"
    if setting.startswith(("E3", "CLINC150")):
        return "CLINC150"
    return "reviews, natural" if setting.startswith(("E1", "E6")) else "reviews, changed"


def point(setting: str, layout: str, made: list[Found], gate: str, mix: str) -> Point:
    """Return the mean of the seeds of one gate in one layout."""
    rows = [gate_row(numbers, gate, mix) for numbers in made]
    x = mean(numbers["gap"]["difference"] * row["could_flip"] for numbers, row in zip(made, rows))
    y = 100 * mean(row["difference"] for row in rows)
    title = f"{setting}{', ' + layout if layout else ''}, {gate}: gap × leverage {x:.3f}, gain {y:+.2f} points"
    short = f"{setting} {short_layout(layout)}".strip() if gate == MAIN else ""
    labelled = short not in UNLABELLED and ("control" not in setting or abs(y) > 5)  # a control that shows something
    return Point(x, y, group_of(setting), short if labelled else "", title, gate == GATES[0])


def short_layout(layout: str) -> str:
    """Return "pairs" for k=3 m=2, "k=8" for k=8 m=1, nothing for k=3 m=1.

    Examples
    --------
    >>> short_layout("k=3 m=2"), short_layout("k=8 m=1"), short_layout("k=3 m=1")
    ('pairs', 'k=8', '')
    """
    if layout.endswith("m=2"):
        return "pairs"
    return "" if layout in ("", "k=3 m=1") else layout.split()[0]


def random_points(setting: str, layout: str, made: list[Found], mix: str) -> list[Point]:
    """Return the experts on random subsets as one point, where there are any."""
    of = [numbers for numbers in made if "random_gate" in numbers]
    if not of:
        return []
    x = mean(abs(n["random_gap"]["difference"]) * n["random_gate"][mix]["could_flip"] for n in of)
    y = 100 * mean(n["random_gate"][mix]["difference"] for n in of)
    return [Point(x, y, "controls", "", f"{setting}, {layout}, random subsets: gain {y:+.2f} points", False)]


def points_of(found: Found, mix: str) -> list[Point]:
    """Return every point under a fusion."""
    points = []
    for setting, layout, made in every_layout(found):
        points += [point(setting, layout, made, gate, mix) for gate in GATES] + random_points(setting, layout, made, mix)
    for name, run in found["runs"].items():
        points += [point(name, "", [run], gate, mix) for gate in GATES]
    return points


def root(value: float) -> float:
    """Return the cube root with the value's sign.

    Examples
    --------
    >>> round(root(-8.0), 9)
    -2.0
    """
    return copysign(abs(value) ** (1 / 3), value)


def rank_correlation(points: list[Point]) -> float:
    """Return Spearman's correlation of x and y."""
    from scipy.stats import spearmanr

    return float(spearmanr([p.x for p in points], [p.y for p in points]).statistic)


def picture(found: Found) -> str:
    """Return both panels as one SVG."""
    panels = {mix: points_of(found, mix) for mix in FUSIONS}
    everything = [p for points in panels.values() for p in points]
    if not everything:
        return '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"/>\n'
    bounds = (root(min(0.0, *(p.x for p in everything))) - 0.02, root(max(p.x for p in everything)) * 1.03,
              root(min(p.y for p in everything)) - 0.3, root(max(p.y for p in everything)) + 0.3)
    drawn = "".join(panel(points, mix, LEFT + i * (PANEL + 60), bounds) for i, (mix, points) in enumerate(panels.items()))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="14">'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{legend()}{drawn}</svg>\n')


def legend() -> str:
    """Return the colours' names in one line above the panels."""
    drawn, x = "", LEFT
    for name, colour in COLOURS.items():
        drawn += f'<circle cx="{x}" cy="24" r="6" fill="{colour}"/><text x="{x + 11}" y="29">{escape(name)}</text>'
        x += 40 + 8 * len(name)
    return drawn + (f'<circle cx="{x}" cy="24" r="5" fill="#fff" stroke="#333" stroke-width="1.5"/>'
                    f'<text x="{x + 11}" y="29">hollow: the poster’s gate, p = 1</text>')


def panel(points: list[Point], mix: str, left: float, bounds: tuple[float, float, float, float]) -> str:
    """Return one panel: axes, points, and labels that do not overlap."""
    low_x, high_x, low_y, high_y = bounds
    bottom = HEIGHT - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return (left + PANEL * (root(x) - low_x) / (high_x - low_x),
                bottom - (bottom - TOP) * (root(y) - low_y) / (high_y - low_y))

    drawn = (f'<text x="{left}" y="{TOP - 24}" font-size="17" font-weight="600">Fusion of {mix}</text>'
             f'<text x="{left + PANEL}" y="{TOP - 24}" text-anchor="end" fill="#566174">rank correlation {rank_correlation(points):+.2f}</text>')
    drawn += f'<rect x="{left}" y="{TOP}" width="{PANEL}" height="{bottom - TOP}" fill="none" stroke="#c5cbd6"/>'
    for tick in X_TICKS:
        x, _ = at(tick, 0)
        if low_x <= root(tick) <= high_x:
            drawn += (f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#eef0f4"/>'
                      f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle" fill="#566174">{tick:g}</text>')
    for tick in Y_TICKS:
        _, y = at(0, tick)
        if low_y <= root(tick) <= high_y:
            drawn += (f'<path d="M{left} {y:.1f}h{PANEL}" stroke="{"#8a94a6" if tick == 0 else "#eef0f4"}"/>'
                      f'<text x="{left - 8}" y="{y + 5:.1f}" text-anchor="end" fill="#566174">{tick:+g}</text>'.replace("+0<", "0<"))
    drawn += (f'<text x="{left + PANEL / 2}" y="{bottom + 46}" text-anchor="middle">gap × leverage (cube-root scale)</text>'
              f'<text transform="translate({left - 48} {(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">gain over equal weights, points (cube-root scale)</text>')
    placed = [at(p.x, p.y) for p in points]
    for p, (x, y) in sorted(zip(points, placed), key=lambda pair: bool(pair[0].label)):
        fill = "#fff" if p.poster else COLOURS[p.group]
        drawn += (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5.5 if p.label else 4}" fill="{fill}" stroke="{COLOURS[p.group]}" '
                  f'stroke-width="1.5" fill-opacity="{1 if p.label else 0.55}"><title>{escape(p.title)}</title></circle>')
    return drawn + labels(points, placed, (left, TOP, left + PANEL, bottom))


Box = tuple[float, float, float, float]


def labels(points: list[Point], placed: list[tuple[float, float]], frame: Box) -> str:
    """Return the labels, each at the nearest free place around its point, with a line to it."""
    taken: list[Box] = []
    dots = [(x - 6, y - 6, x + 6, y + 6) for x, y in placed]
    large = [dot for dot, p in zip(dots, points) if p.label]
    lines, drawn = [], ""
    for p, (x, y) in sorted(zip(points, placed), key=lambda pair: -pair[0].y):
        if not p.label:
            continue
        width, height = 6.7 * len(p.label), 15
        best, box, end = float("inf"), (0.0, 0.0, 0.0, 0.0), (x, y)
        for reach in range(10, 170, 8):
            for turn in range(0, 360, 15):
                a, b = x + reach * cos(radians(turn)), y + reach * sin(radians(turn))
                left = a if cos(radians(turn)) > 0.3 else a - width if cos(radians(turn)) < -0.3 else a - width / 2
                tried = (left, b - height / 2, left + width, b + height / 2)
                if tried[0] < frame[0] or tried[2] > frame[2] or tried[1] < frame[1] or tried[3] > frame[3]:
                    continue
                near = min(max(x, tried[0]), tried[2]), min(max(y, tried[1]), tried[3])
                cost = reach + 1000 * sum(overlap(tried, other) for other in taken) + 25 * sum(
                    overlap(tried, dot) for dot in dots) + 200 * sum(overlap(tried, dot) for dot in large) + 120 * sum(crosses(line, tried) for line in lines) + 120 * sum(
                    crosses((x, y, *near), other) for other in taken)
                if cost < best:
                    best, box, end = cost, tried, near
        taken.append(box)
        if abs(end[0] - x) + abs(end[1] - y) > 14:
            lines.append((x, y, *end))
            drawn += f'<path d="M{x:.1f} {y:.1f}L{end[0]:.1f} {end[1]:.1f}" stroke="#8a94a6" stroke-width="0.8"/>'
        drawn += f'<text x="{box[0]:.1f}" y="{box[1] + 12:.1f}" font-size="13">{escape(p.label)}</text>'
    return drawn


def crosses(line: Box, box: Box) -> bool:
    """Return whether a line (from x, from y, to x, to y) runs through a box; looked at in twenty places."""
    return any(overlap((x, y, x, y), box) for x, y in (
        (line[0] + (line[2] - line[0]) * i / 20, line[1] + (line[3] - line[1]) * i / 20) for i in range(20)))


def overlap(one: Box, other: Box) -> bool:
    """Return whether two boxes (left, top, right, bottom) overlap.

    Examples
    --------
    >>> overlap((0, 0, 2, 2), (1, 1, 3, 3)), overlap((0, 0, 1, 1), (2, 0, 3, 1))
    (True, False)
    """
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
