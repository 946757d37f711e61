"""Numbers → plotly figures. Knows nothing of runs, files or the web app.

Each function stands alone: `t` words it (t("fig_cluster") → text), and it returns a plotly Figure with a
transparent ground, drawn in LIGHT. `DARKER` names the colour that stands for each of LIGHT's on a dark
ground.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from monju.utils.format import percent

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Words = Callable[..., str]  # t("fig_alpha", …) → a text as markup: ui.i18n.translator.Translator

# assets/style.css's colours: Okabe and Ito's, each beside another mark;
# `cool` and `warm` end the heat maps' scale
LIGHT = {"blue": "#0072b2", "vermilion": "#d55e00", "orange": "#e69f00", "ink": "#17202e", "faint": "#566174",
         "line": "#d5dbe4", "paper": "#ffffff", "cool": "#f3f8fc", "warm": "#8cc3e6", "purple": "#61235f"}
DARK = {"blue": "#4aa8e8", "vermilion": "#ff8a3d", "orange": "#f0b93a", "ink": "#eef2f8", "faint": "#a8b3c5",
        "line": "#36404f", "paper": "#1a212c", "cool": "#1d2531", "warm": "#1f6294", "purple": "#f3cbe8"}
DARKER = {LIGHT[name]: DARK[name] for name in LIGHT}
FONT = 'system-ui, "Noto Sans", "Hiragino Sans", "Noto Sans CJK JP", "Yu Gothic", sans-serif'
MOST_WRITTEN = 10  # columns of a heat map whose cells carry their number: beyond, one points at them
ROW = 46  # pixels a row of a heat map takes


def cluster_accuracy(metrics: dict, t: Words) -> Figure:
    """Return experts and ensembles × clusters: accuracy, the cells out of fold in a dashed frame."""
    models = {name: model["clusters"] for name, model in metrics["experts"].items()}
    models |= {t(key): metrics[key]["clusters"] for key in ("baseline", "monju") if key in metrics}
    rows, clusters = list(models), list(metrics["monju"]["clusters"])
    cells = [[models[row][cluster] for cluster in clusters] for row in rows]
    cell_texts = [[percent(cell["accuracy"], 1) for cell in line] for line in cells]
    hover_texts = [[t("fig_cell_seen" if cell["seen"] else "fig_cell_unseen", model=row, cluster=cluster,
                 accuracy=share, n=f"{cell['n']:,}",
                 right="–" if cell["accuracy"] is None else f"{round(cell['accuracy'] * cell['n']):,}")
                    for cluster, cell, share in zip(clusters, line, of_row)]
                   for row, line, of_row in zip(rows, cells, cell_texts)]
    frames = [frame(x, y) for y, line in enumerate(cells) for x, cell in enumerate(line) if not cell["seen"]]
    sizes = metrics["monju"]["clusters"]
    columns = [f"{cluster}<br>n = {sizes[cluster]['n']:,}" if len(clusters) <= MOST_WRITTEN else cluster
               for cluster in clusters]
    shares = [[None if cell["accuracy"] is None else 100 * cell["accuracy"] for cell in line]
              for line in cells]
    return heat(shares, cell_texts, hover_texts, columns, rows, shapes=frames)


def frame(x: int, y: int) -> dict:
    """Return a dashed frame just inside the cell in column x, row y."""
    return {"type": "rect", "x0": x - 0.47, "x1": x + 0.47, "y0": y - 0.45, "y1": y + 0.45,
            "line": {"color": LIGHT["vermilion"], "width": 3, "dash": "dash"}}


def model_agreement(names: list[str], same: np.ndarray, t: Words) -> Figure:
    """Return models × models: the share of sentences with equal verdicts [models, models]."""
    cell_texts = [[percent(share, 1) for share in line] for line in same]
    hover_texts = [[t("fig_same", one=one, other=other, share=share) for other, share in zip(names, line)]
                   for one, line in zip(names, cell_texts)]
    shares = [[None if x == y else 100 * share for x, share in enumerate(line)]
              for y, line in enumerate(same)]
    cell_texts = [["" if x == y else share for x, share in enumerate(line)]
                  for y, line in enumerate(cell_texts)]
    return heat(shares, cell_texts, hover_texts, names, names)


def heat(shares: list, cell_texts: list, hover_texts: list, columns: list[str], rows: list[str],
         **layout: Any) -> Figure:
    """Return a heat map from its numbers, the texts in the cells and the texts on hover."""
    crowded = len(columns) > MOST_WRITTEN
    trace = {"type": "heatmap", "z": shares, "text": cell_texts, "customdata": hover_texts,
             "hovertemplate": "%{customdata}<extra></extra>",
             "texttemplate": "" if crowded else "%{text}",
             "textfont": {"size": 18 if len(columns) <= 6 else 14, "color": LIGHT["ink"]},
             "colorscale": [[0, LIGHT["cool"]], [1, LIGHT["warm"]]], "showscale": False, "xgap": 3, "ygap": 3,
             "x": list(range(len(columns))), "y": list(range(len(rows))), "hoverongaps": False}
    axis = {"showgrid": False, "zeroline": False, "showline": False, "fixedrange": True, "automargin": True,
            "ticks": ""}
    ticks = {"tickmode": "array",
             "tickfont": {"size": 16 if len(columns) <= 6 else 13, "color": LIGHT["ink"]}}
    return figure([trace], height=max(280, 90 + (ROW if not crowded else 26) * len(rows)), **layout,
                  xaxis={**axis, **ticks, "side": "top", "tickvals": trace["x"], "ticktext": columns,
                         "tickangle": 0 if len(columns) <= 4 else None},
                  yaxis={**axis, **ticks, "autorange": "reversed", "tickvals": trace["y"],
                         "ticktext": [f"{name} " for name in rows]})


def calibration_curve(curves: dict[str, list[dict]], labels: int, t: Words) -> Figure:
    """Return how often verdicts of similar certainty are right, and how many there are of each below.

    Parameters
    ----------
    curves : dict of str to list of dict
        The ensemble's key ("monju", "baseline") → the bins of `metrics.calibration`. A point's area grows
        with its sentences: a small one is mostly chance.
    labels : int
        Number of labels.
    t : callable
        Words the figure.

    Returns
    -------
    Figure
    """
    styles = {"monju": ("blue", "circle", "solid"), "baseline": ("vermilion", "square", "dash")}
    most = max(cell["n"] for cells in curves.values() for cell in cells)
    least = 1 / labels
    # the bin of 1 / labels begins below it
    first = min(cell["low"] for cells in curves.values() for cell in cells)
    traces = [{"type": "scatter", "x": [least, 1], "y": [least, 1], "mode": "lines",
               "name": t("fig_perfect"),
               "line": {"color": LIGHT["faint"], "width": 2, "dash": "dot"}, "hoverinfo": "skip"}]
    for number, (key, cells) in enumerate(curves.items()):
        colour, symbol, dash = styles[key]
        # a bin's bars stand side by side in it, however few bins there are
        width = 0.85 * (cells[0]["high"] - cells[0]["low"])
        bar_position = {"width": width / len(curves), "offset": width * (number / len(curves) - 0.5)}
        hover_texts = [t("fig_bin", model=t(key), low=percent(cell["low"], 0), high=percent(cell["high"], 0),
                    n=f"{cell['n']:,}", accuracy=percent(cell["accuracy"], 1),
                    sure=percent(cell["confidence"], 1)) for cell in cells]
        sizes = [7 + 15 * (cell["n"] / most) ** 0.5 for cell in cells]
        common = {"name": t(key), "customdata": hover_texts, "hovertemplate": "%{customdata}<extra></extra>"}
        traces.append({"type": "scatter", "mode": "lines+markers",
                       "x": [cell["confidence"] for cell in cells],
                       "y": [cell["accuracy"] for cell in cells],
                       "line": {"color": LIGHT[colour], "width": 2, "dash": dash},
                       "marker": {"color": LIGHT[colour], "symbol": symbol, "size": sizes,
                                  "line": {"color": LIGHT["paper"], "width": 1}}, **common})
        traces.append({"type": "bar", "x": [(cell["low"] + cell["high"]) / 2 for cell in cells],
                       "y": [cell["n"] for cell in cells],
                       "marker": {"color": LIGHT[colour],
                                  "pattern": {"shape": "" if dash == "solid" else "/", "solidity": 0.5}},
                       "yaxis": "y2", "showlegend": False, **bar_position, **common})
    ticks = {**axis(), "tickformat": ".0%"}
    return figure(traces, height=460, margin={"l": 10, "r": 10, "t": 44, "b": 10},
                  legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
                  xaxis={**ticks, "title": {"text": t("fig_sure")},
                         "range": [min(first, least) - 0.02, 1.02], "anchor": "y2"},
                  yaxis={**ticks, "title": {"text": t("fig_right")}, "domain": [0.34, 1]},
                  yaxis2={**axis(), "title": {"text": t("fig_sentences")}, "domain": [0, 0.24],
                          "nticks": 4, "rangemode": "tozero"})


def alpha_distribution(experts: list[str], alpha: np.ndarray, t: Words, bins: int = 40) -> Figure:
    """Return each expert's α [n, experts] as a histogram, equal weight as a dashed line."""
    alpha, equal = np.asarray(alpha, dtype=float), 1 / len(experts)
    low, high = min(alpha.min(), equal), max(alpha.max(), equal)
    margin = max(0.04 * (high - low), 0.01)
    edges = np.linspace(low - margin, high + margin, bins + 1)
    counts = np.array([np.histogram(alpha[:, e], edges)[0] for e in range(len(experts))])  # [experts, bins]
    middle, width = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
    traces = []
    for e, name in enumerate(experts):
        filled = np.flatnonzero(counts[e])
        hover_texts = [t("fig_alpha_bin", expert=name, low=f"{edges[b]:.3f}", high=f"{edges[b + 1]:.3f}",
                    n=f"{counts[e, b]:,}") for b in filled]
        heights = 0.82 * counts[e, filled] / counts.max()
        traces.append({"type": "bar", "x": middle[filled].tolist(), "y": heights.tolist(),
                       "base": [len(experts) - 1 - e] * len(filled),
                       "width": width, "marker": {"color": LIGHT["blue"], "line": {"width": 0}},
                       "name": name, "customdata": hover_texts,
                       "hovertemplate": "%{customdata}<extra></extra>", "showlegend": False})
    rows = [len(experts) - 1 - e for e in range(len(experts))]
    means = [f"{name}<br>{t('fig_mean', value=f'{alpha[:, e].mean():.3f}')} " if len(experts) <= 12
             else name
             for e, name in enumerate(experts)]
    line = {"type": "line", "x0": equal, "x1": equal, "y0": 0, "y1": 1, "yref": "paper",
            "line": {"color": LIGHT["orange"], "width": 3, "dash": "dash"}}
    note = {"x": equal, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False,
            "font": {"color": LIGHT["ink"], "size": 15},
            "text": t("fig_equal", value=f"{equal:.3f}")}
    return figure(traces, height=max(300, 110 + (112 if len(experts) <= 6 else 44) * len(experts)),
                  barmode="overlay",
                  shapes=[line], annotations=[note], margin={"l": 10, "r": 10, "t": 36, "b": 10},
                  xaxis={**axis(), "title": {"text": "α"}, "range": [edges[0], edges[-1]]},
                  yaxis={**axis(), "tickmode": "array", "tickvals": rows, "ticktext": means,
                         "range": [-0.06, len(experts)],
                         "tickfont": {"size": 15, "color": LIGHT["ink"]}})


def rounds_curve(rounds: list[dict], t: Words) -> Figure:
    """Return the accuracy after each round of branch, train, merge."""
    lines = [(name, [entry["experts"][name] for entry in rounds], "faint", "circle", "dot")
             for name in rounds[0]["experts"]]
    lines += [(t("monju"), [entry["monju"] for entry in rounds], "blue", "square", "solid"),
              (t("fig_merged"), [entry["merged"] for entry in rounds], "vermilion", "diamond", "dash")]
    x = [entry["round"] for entry in rounds]
    traces = []
    for name, scores, colour, symbol, dash in lines:
        shares = [100 * score["accuracy"] for score in scores]
        hover_texts = [t("fig_round_told", model=name, round=number, accuracy=f"{share:.2f}",
                         low=percent(score["interval"][0], 1), high=percent(score["interval"][1], 1))
                       for number, share, score in zip(x, shares, scores)]
        traces.append({"type": "scatter", "mode": "lines+markers", "name": name, "x": x, "y": shares,
                       "customdata": hover_texts,
                       "hovertemplate": "%{customdata}<extra></extra>",
                       "line": {"color": LIGHT[colour], "width": 1.5 if colour == "faint" else 3,
                                "dash": dash},
                       "marker": {"color": LIGHT[colour], "symbol": symbol,
                                  "size": 7 if colour == "faint" else 10}})
    return figure(traces, height=380, margin={"l": 10, "r": 10, "t": 44, "b": 10},
                  legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
                  xaxis={**axis(), "title": {"text": t("fig_round")}, "tickmode": "array", "tickvals": x},
                  yaxis={**axis(), "title": {"text": t("col_accuracy")}, "ticksuffix": " %"})


def sweep_plot(sweep: dict) -> Figure:
    """Return a sweep's combinations one below another: mean accuracy with sd over the seeds."""
    labels = {row["name"]: [] for row in sweep["rows"] if row["name"] in ("monju", "baseline")}
    for row in sweep["rows"]:
        if row["name"] in labels:
            labels[row["name"]].append((", ".join(f"{name}={value}"
                                                  for name, value in row["settings"].items()) or "as asked",
                                        row["accuracy"]))
    styles = {"monju": ("Monju", "blue", "square"), "baseline": ("Baseline", "vermilion", "circle")}
    traces = []
    for name, points in labels.items():
        title, colour, symbol = styles[name]
        traces.append({"type": "scatter", "mode": "markers", "name": title,
                       "y": [label for label, _ in points],
                       "x": [100 * accuracy["mean"] for _, accuracy in points],
                       "error_x": {"array": [100 * (accuracy["sd"] or 0) for _, accuracy in points],
                                   "color": LIGHT[colour]},
                       "marker": {"color": LIGHT[colour], "symbol": symbol, "size": 11}})
    return figure(traces, height=160 + ROW * max(map(len, labels.values())),
                  margin={"l": 10, "r": 10, "t": 44, "b": 10},
                  legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
                  xaxis={**axis(), "title": {"text": "accuracy, mean and standard deviation over the seeds"},
                         "ticksuffix": " %"},
                  yaxis={**axis(), "autorange": "reversed"})


def axis() -> dict:
    """Return what all axes share."""
    return {"gridcolor": LIGHT["line"], "zeroline": False, "linecolor": LIGHT["line"],
            "tickfont": {"size": 14, "color": LIGHT["faint"]},
            "automargin": True, "fixedrange": True, "ticks": ""}


def figure(traces: list[dict], **layout: Any) -> Figure:
    """Return a Figure on a transparent ground, in the app's fonts; plotly is imported only here."""
    from plotly.graph_objects import Figure

    ground = "rgba(0,0,0,0)"
    common = {"template": "none", "paper_bgcolor": ground, "plot_bgcolor": ground,
              "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
              "font": {"family": FONT, "size": 15, "color": LIGHT["ink"]}, "dragmode": False,
              "hoverlabel": {"bgcolor": LIGHT["paper"], "bordercolor": LIGHT["faint"],
                             "font": {"size": 15, "color": LIGHT["ink"]}}}
    return Figure(traces, {**common, **layout})
