"""Tables over a run: how often each model is right, what each ensemble gains, and how sure one can be of it.

`table` turns arrays into a dictionary that JSON can hold; `render` turns that dictionary into the terminal's view.
Knows nothing of texts, files or training. Every interval and p-value speaks of these models on other sentences,
not of models trained anew with other seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from monju.errors import MonjuError

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from monju.ensemble import Predictions

POSTER = {  # the poster's own numbers: RoBERTa-base on SST-2's validation split, k = 3, pairs of clusters
    "n": 872,
    "experts": {"AB": {"accuracy": 0.9312}, "BC": {"accuracy": 0.9346}, "CA": {"accuracy": 0.9266}},
    "baseline": {
        "models": {"seed0": {"accuracy": 0.9323}, "seed1": {"accuracy": 0.9369}, "seed2": {"accuracy": 0.9335}},
        "accuracy": 0.9415,  # 821 of 872; the scan reads 94.18 %, which is no multiple of 1/872
    },
    "monju": {"accuracy": 0.9404},
}
TITLES = {"baseline": "Baseline", "equal_cost": "Equal cost", "monju": "Monju"}  # the ensembles, in reading order
COSTS = ("sentences", "tokens", "steps", "seconds")


# ---- measures ---------------------------------------------------------------------------------------------------


def interval(scores: np.ndarray) -> list[float]:
    """95 % bootstrap interval of the mean of one score per sentence (n,): 2,000 resamples, percentiles, fixed seed.

    An accuracy, a difference and a gain are all such means; the last two are paired, since each score already
    compares models on the same sentence.

    >>> interval(np.array([1, 1, 1]))
    [1.0, 1.0]
    """
    from scipy.stats import bootstrap

    scores = np.asarray(scores, dtype=float)
    if np.ptp(scores) == 0:  # every resample has the same mean
        return [float(scores[0])] * 2
    batch = max(1, 2_000_000 // len(scores))  # resamples held in memory at once
    found = bootstrap((scores,), np.mean, n_resamples=2000, batch=batch, vectorized=True, method="percentile", rng=0)
    return [float(bound) for bound in found.confidence_interval]


def measure(logits: np.ndarray, labels: np.ndarray) -> dict:
    """Accuracy with its interval, macro-F1, NLL, Brier score and ECE of logits (n, L) against labels (n,).

    Macro-F1: over the labels that were given or predicted. ECE: 15 equally wide bins of the winning probability.
    Brier: squared differences summed over the L classes, averaged over sentences (0 is perfect, 2 the worst).
    """
    import torch
    from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss
    from torchmetrics.functional.classification import multiclass_calibration_error

    verdicts, classes = logits.argmax(axis=1), range(logits.shape[1])
    probabilities = softmax(np.asarray(logits, dtype=float), axis=1)  # (n, L)
    calibration = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(labels).long(), num_classes=len(classes), n_bins=15, norm="l1"
    )
    return {
        "accuracy": float(accuracy_score(labels, verdicts)),
        "interval": interval(verdicts == labels),
        "macro_f1": float(f1_score(labels, verdicts, average="macro")),
        "nll": float(log_loss(labels, probabilities, labels=classes)),
        "brier": float(brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)),
        "ece": float(calibration),
    }


def gain(fused: np.ndarray, members: list[np.ndarray], labels: np.ndarray) -> dict:
    """What an ensemble's logits (n, L) add to the mean accuracy of its members, each (n, L)."""
    right = fused.argmax(axis=1) == labels  # (n,)
    members_right = np.array([logits.argmax(axis=1) == labels for logits in members])  # (members, n)
    return {
        "mean_member": float(members_right.mean()),
        "gain": float(right.mean() - members_right.mean()),
        "gain_interval": interval(right - members_right.mean(axis=0)),
    }


def compare_pair(ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray) -> dict:
    """Two models' verdicts (n,), sentence by sentence: who rescued what the other got wrong, and is it more than luck?

    With three labels or more a verdict can change from one wrong label to another: changed ≥ rescued + broken.

    >>> found = compare_pair(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0, 1, 0]))
    >>> found["rescued"], found["broken"], found["changed"], found["p_value"]
    (1, 0, 1, 1.0)
    """
    from statsmodels.stats.contingency_tables import mcnemar

    we, they = ours == labels, theirs == labels
    rescued, broken = int((we & ~they).sum()), int((they & ~we).sum())
    agreement = [[int((we & they).sum()), rescued], [broken, int((~we & ~they).sum())]]
    return {
        "difference": (rescued - broken) / len(labels),
        "interval": interval(we.astype(int) - they),
        "rescued": rescued,
        "broken": broken,
        "changed": int((ours != theirs).sum()),
        "p_value": float(mcnemar(agreement, exact=True).pvalue),
    }


# ---- the table --------------------------------------------------------------------------------------------------


def table(predictions: Predictions, labels: np.ndarray, cost: dict | None = None, gate: str = "") -> dict:
    """Everything that can be said of a run on one labelled set, as plain numbers.

    A sentence belongs to the cluster with the nearest centre. A cell whose cluster the model was not trained on
    is out of fold: `seen` is false. Baseline and equal-cost are left out where the run has none, and so is `cost`.
    """
    labels = np.asarray(labels)
    _check(predictions, labels)
    logits, clusters = predictions.by_model(), predictions.clusters
    nearest = predictions.distances.argmin(axis=1)

    def alone(scores, subset=range(len(clusters))):
        hits = scores.argmax(axis=1) == labels
        cells = {name: _cell(hits[nearest == c], seen=c in subset) for c, name in enumerate(clusters)}
        return measure(scores, labels) | {"clusters": cells}

    def together(fused, names):
        return alone(fused) | gain(fused, [logits[name] for name in names], labels)

    found = {"n": len(labels), "labels": predictions.monju.shape[1]}
    subsets = zip(predictions.experts, predictions.subsets, strict=True)
    found["experts"] = {name: alone(logits[name], subset) for name, subset in subsets}
    found["monju"] = together(predictions.monju, predictions.experts) | {"gate": gate}
    for key, names, fused in (
        ("baseline", predictions.members, predictions.baseline),
        ("equal_cost", predictions.equal_cost, predictions.equal_cost_ensemble),
    ):
        if fused is not None:
            found[key] = {"models": {name: alone(logits[name]) for name in names}} | together(fused, names)
            found[f"monju_vs_{key}"] = compare_pair(predictions.monju.argmax(axis=1), fused.argmax(axis=1), labels)
    found["alpha"] = _gate_at_work(predictions)
    return found if cost is None else found | {"cost": cost}


def _check(predictions: Predictions, labels: np.ndarray) -> None:
    n, count = predictions.monju.shape
    if n == 0:
        raise MonjuError("there is no sentence to evaluate on: choose a source with at least one labelled sentence")
    if labels.shape != (n,):
        raise MonjuError(f"{n} sentences were read but {labels.size} labels given: pass one label per sentence")
    if not np.isin(labels, range(count)).all():
        raise MonjuError(f"this run knows the labels 0 to {count - 1}: choose a source with the same labels")
    for name, logits in predictions.by_model().items():
        if not np.isfinite(logits).all():
            raise MonjuError(f"{name} gives logits that are not finite: train it again with a lower learning rate")


def _cell(hits: np.ndarray, seen: bool) -> dict:
    return {"n": len(hits), "accuracy": float(hits.mean()) if len(hits) else None, "seen": seen}


def _gate_at_work(predictions: Predictions) -> dict:
    """How far the gate is from equal weights: mean α per expert, mean sorted α, and the labels that it changed."""
    alpha = np.asarray(predictions.alpha, dtype=float)  # (n, experts)
    return {
        "mean": dict(zip(predictions.experts, alpha.mean(axis=0).tolist(), strict=True)),
        "sorted_mean": np.sort(alpha, axis=1).mean(axis=0).tolist(),
        "fused_differs_from_uniform": int((predictions.monju.argmax(axis=1) != predictions.uniform.argmax(axis=1)).sum()),
    }


# ---- the terminal's view ----------------------------------------------------------------------------------------


def render(metrics: dict) -> Group:
    """What `table` found, for rich's `Console.print`: the poster's table, then what stands behind it. Fits 80 columns."""
    from rich.console import Group
    from rich.text import Text

    costs = [_cost_table(metrics), ""] if "cost" in metrics else []
    parts = [_accuracy_table(metrics), "", *_verdicts(metrics), _quality_table(metrics), ""]
    parts += [*_cluster_tables(metrics), *costs, _gate_line(metrics)]
    return Group(*(Text(part) if isinstance(part, str) else part for part in parts))  # Text: brackets are no markup


def _accuracy_table(metrics: dict) -> Table:
    rows = []
    for title, ensemble, models in _ensembles(metrics):
        gained = f"{_percent(ensemble['gain'], '+.2f')} {_span(ensemble['gain_interval'], '+.2f')}"
        rows.append((title, f"{_percent(ensemble['mean_member'])} mean", _with_interval(ensemble), gained))
        rows += [(_trained_on(name, model), _with_interval(model), "", "") for name, model in models.items()]
    headers = ("Training data", "Acc. %\n[95 % CI]", "Ensemble %\n[95 % CI]", "Gain over mean\nmember, points")
    return _grid(f"Accuracy on {metrics['n']:,} sentences", headers, rows)


def _verdicts(metrics: dict) -> list[str]:
    n, pairs = metrics["n"], {key: metrics.get(f"monju_vs_{key}") for key in TITLES}
    return [
        f"Monju − {TITLES[key].lower()}: {_percent(pair['difference'], '+.2f')} points "
        f"{_span(pair['interval'], '+.2f')}; one sentence is {100 / n:.2f} points.\n"
        f"{pair['changed']:,} of {n:,} labels changed: {pair['rescued']:,} rescued, {pair['broken']:,} broken; "
        f"exact McNemar p = {pair['p_value']:.3g}.\n"
        for key, pair in pairs.items()
        if pair is not None
    ]


def _quality_table(metrics: dict) -> Table:
    names = ("macro_f1", "nll", "brier", "ece")
    rows = [(title, *(f"{found[name]:.4f}" for name in names)) for title, found, _ in _ensembles(metrics)]
    return _grid("Beyond accuracy", ("", "Macro-F1 ↑", "NLL ↓", "Brier ↓", "ECE ↓"), rows)


def _cluster_tables(metrics: dict) -> list:
    """Expert × cluster, at most six clusters side by side."""
    models = {_trained_on(name, model): model["clusters"] for name, model in metrics["experts"].items()}
    models |= {title: found["clusters"] for title, found, _ in _ensembles(metrics)}
    clusters, tables = list(metrics["monju"]["clusters"].items()), []
    for start in range(0, len(clusters), 6):
        across = dict(clusters[start : start + 6])
        rows = [(title, *(_starred(cells[name]) for name in across)) for title, cells in models.items()]
        rows.append(("sentences", *(f"{cell['n']:,}" for cell in across.values())))
        tables.append(_grid("Accuracy % by nearest cluster", ("", *across), rows))
    return [*tables, "* out of fold: the expert was not trained on this cluster\n"]


def _cost_table(metrics: dict) -> Table:
    """What training took, of every ensemble whose members were all counted: its total, then each member."""
    cost, rows, baseline = metrics["cost"], [], None
    for title, _, models in _ensembles(metrics):
        if cost.keys() >= models.keys():
            total = {what: sum(cost[name][what] for name in models) for what in COSTS}
            baseline = total["tokens"] if title == TITLES["baseline"] else baseline
            share = f"{_percent(total['tokens'] / baseline)} %" if baseline else ""
            rows.append((title, *_amounts(total), share))
            rows += [(_trained_on(name, model), *_amounts(cost[name]), "") for name, model in models.items()]
    return _grid("Cost of training", ("", *COSTS, "of baseline's\ntokens"), rows)


def _gate_line(metrics: dict) -> str:
    alpha, gate = metrics["alpha"], metrics["monju"].get("gate")
    weights = " / ".join(f"{weight:.2f}" for weight in alpha["sorted_mean"])
    return (
        f"Gate{f' {gate}' if gate else ''}: mean sorted α {weights} (equal weights: {1 / len(alpha['mean']):.2f}); "
        f"against the equal-weight average it changed {alpha['fused_differs_from_uniform']:,} of {metrics['n']:,} labels."
    )


def _ensembles(metrics: dict) -> list[tuple[str, dict, dict]]:
    """(title, the ensemble's numbers, its members' numbers) of every ensemble that the run has."""
    present = {title: metrics[key] for key, title in TITLES.items() if key in metrics}
    return [(title, found, found.get("models", metrics["experts"])) for title, found in present.items()]


def _grid(title: str, headers: tuple, rows: list[tuple]) -> Table:
    """Names to the left, where they may fold; numbers to the right, never folded; the ensembles' rows in bold."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    looks = {"title_justify": "left", "title_style": "bold", "box": box.SIMPLE_HEAD, "show_edge": False}
    grid = Table(title=title, padding=(0, 1, 0, 0), pad_edge=False, **looks)
    grid.add_column(headers[0], overflow="fold")
    for header in headers[1:]:
        grid.add_column(Text(header), justify="right", no_wrap=True)
    for row in rows:
        grid.add_row(*map(Text, row), style="bold" if row[0] in TITLES.values() else None)
    return grid


def _trained_on(name: str, model: dict) -> str:
    """`{C,A}` for the expert CA, `{A,B,C} seed0` for a model that has seen every cluster; indented under its ensemble."""
    cells = model["clusters"]
    seen = sorted((cluster for cluster in cells if cells[cluster]["seen"]), key=name.find)  # in the name's order
    return f" {{{','.join(seen)}}}" + (f" {name.split('/')[-1]}" if len(seen) == len(cells) else "")


def _amounts(cost: dict) -> list[str]:
    return [f"{cost[what]:,.{1 if what == 'seconds' else 0}f}" for what in COSTS]


def _starred(cell: dict) -> str:
    return ("" if cell["seen"] else "*") + ("–" if cell["accuracy"] is None else _percent(cell["accuracy"]))


def _percent(fraction: float, form: str = ".2f") -> str:
    return format(round(100 * fraction, 2) + 0.0, form)  # + 0.0: no "-0.00"


def _span(bounds: list[float], form: str) -> str:
    return f"[{', '.join(_percent(bound, form) for bound in bounds)}]"


def _with_interval(model: dict) -> str:
    return f"{_percent(model['accuracy'])} {_span(model['interval'], '.1f')}"
