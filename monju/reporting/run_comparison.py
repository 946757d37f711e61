"""Several runs beside each other: a table of their results, and their training curves in one figure.

Knows nothing of the web app, which shows both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from monju.ensemble.subsets import model_key
from monju.evaluation.run_table import cost_share
from monju.reporting import figures
from monju.reporting.figures import LIGHT, Words
from monju.reporting.report import TEMPLATES, Results
from monju.utils.spread import spread
from monju.utils.templates import render

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_RUNS = 4  # as many colours can be told apart
COLOURS = ("blue", "vermilion", "ink", "purple")
DASHES = {"experts": "solid", "baseline": "dash"}
HEIGHT, TOP, BOTTOM, RIGHT = 420, 14, 56, 190  # of a figure, in px
LABEL = 34  # px that a line's label of two lines takes
POINTS = 120  # of a curve, at most


def table(runs: Sequence[Results], t: Words) -> Markup:
    """Return a table, a row for each run: data, settings, accuracies and the test against the baseline."""
    return render(TEMPLATES, "runs.html", t=t, runs=[
        {"name": run.name, "data": Path(run.config.data).name, "backbone": Path(run.config.backbone).name,
         "k": run.config.k, "m": run.config.subset_size, "gate": t(f"gate_{run.config.gate}"),
         "n": run.metrics["n"], "monju": run.metrics["monju"], "baseline": run.metrics.get("baseline"),
         "pair": run.metrics.get("monju_vs_baseline"),
         "share": cost_share(run.metrics, run.metrics["experts"]),
         "gap": (run.metrics.get("gate_meter") or {}).get("gap", {}).get("difference")} for run in runs])


def curves(runs: Sequence[Results], t: Words) -> list[tuple[str, str, str, Figure]]:
    """Return the figures of the runs' trainings as (file's name, title, description, figure)."""
    drawn = []
    for key, times, unit in (("held_out_accuracy", 100, " %"), ("loss", 1, "")):
        lines = [(run.name, kind, COLOURS[number % len(COLOURS)], *mean_curve(run, kind, key))
                 for number, run in enumerate(runs) for kind in DASHES]
        lines = [(name, kind, colour, steps, times * values) for name, kind, colour, steps, values in lines
                 if len(steps)]
        if lines:
            drawn.append((f"training-{key}", t(f"fig_run_{key}"), t("note_run_curves"),
                          figure(lines, unit, t)))
    return drawn


def mean_curve(run: Results, kind: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (steps, mean over a kind's models of a value of the history); empty where it was not measured.

    Models are read at the steps of the first, between whose own they are interpolated.
    """
    names = run.metrics["experts"] if kind == "experts" else run.metrics.get("baseline", {}).get("models", {})
    wanted = {model_key(kind, name): [] for name in names}
    for line in run.run.history():
        if line["model"] in wanted and line.get(key) is not None:
            wanted[line["model"]].append((line["step"], line[key]))
    measured = [np.array(points, float).T for points in wanted.values() if points]
    if not measured:
        return np.array([]), np.array([])
    steps = measured[0][0]
    if len(steps) > POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, POINTS).round().astype(int)]
    return steps, np.mean([np.interp(steps, *points) for points in measured], axis=0)


def figure(lines: list[tuple[str, str, str, np.ndarray, np.ndarray]], unit: str, t: Words) -> Figure:
    """Return curves over steps with a crosshair, each named in the right margin, apart from the others."""
    values = np.concatenate([values for *_, values in lines])
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0
    low, high = low - margin, high + margin
    room = HEIGHT - TOP - BOTTOM

    def down(value: float) -> float:
        return room * (high - value) / (high - low)

    places = spread([down(float(values[-1])) for *_, values in lines], LABEL, 8, room - 8)
    traces: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    leaders: list[dict[str, Any]] = []
    most = max(float(steps[-1]) for _, _, _, steps, _ in lines)
    digits = 1 if unit else 3
    for (name, kind, colour, steps, values), place in zip(lines, places):
        shade, last = LIGHT[colour], float(values[-1])
        traces.append({"type": "scatter", "mode": "lines", "x": steps.tolist(), "y": values.tolist(),
                       "name": f"{name}, {t(f'curve_{kind}')}",
                       "line": {"color": shade, "width": 2.5, "dash": DASHES[kind]},
                       "hovertemplate": f"%{{y:.{digits}f}}{unit}"})
        beside = high - (high - low) * place / room
        leaders.append({"type": "line", "x0": float(steps[-1]), "y0": last, "x1": most, "y1": beside,
                        "line": {"color": shade, "width": 1, "dash": "dot"}})
        labels.append({"xref": "paper", "x": 1, "xanchor": "left", "xshift": 6, "y": beside, "align": "left",
                       "showarrow": False, "font": {"size": 13, "color": shade},
                       "text": f"{name}<br>{t(f'curve_{kind}')} {last:.{digits}f}{unit}"})
    spikes = {"showspikes": True, "spikemode": "across", "spikethickness": 1, "spikedash": "dot",
              "spikecolor": LIGHT["faint"], "spikesnap": "data"}
    return figures.figure(traces, height=HEIGHT, margin={"l": 10, "r": RIGHT, "t": TOP, "b": BOTTOM},
                          hovermode="x unified", showlegend=False, annotations=labels, shapes=leaders,
                          xaxis={**figures.axis(), **spikes, "title": {"text": t("fig_step")},
                                 "range": [0, most]},
                          yaxis={**figures.axis(), "range": [low, high], "ticksuffix": unit})
