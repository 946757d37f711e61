"""The table of a run: every model's and ensemble's figures on one labelled set, and its lines.

`table` turns arrays into a dictionary that JSON can hold, metrics.json: `reporting.console`,
`reporting.report` and the page draw it. Knows nothing of texts, files or training.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from monju.errors import MonjuError
from monju.evaluation.gate_meter import gate_meter
from monju.evaluation.metrics import compare_pair, gain, majority, measure

if TYPE_CHECKING:
    from monju.ensemble.outputs import Predictions

POSTER = {  # the poster's own numbers: RoBERTa-base on SST-2's validation split, k = 3, pairs of clusters
    "n": 872,
    "experts": {"AB": {"accuracy": 0.9312}, "BC": {"accuracy": 0.9346}, "CA": {"accuracy": 0.9266}},
    "baseline": {
        "models": {"seed0": {"accuracy": 0.9323}, "seed1": {"accuracy": 0.9369},
                   "seed2": {"accuracy": 0.9335}},
        "accuracy": 0.9415,  # 821 of 872; the scan reads 94.18 %, which is no multiple of 1/872
    },
    "monju": {"accuracy": 0.9404},
}
# the ensembles, in reading order
TITLES = {"baseline": "Baseline", "equal_cost": "Equal cost", "monju": "Monju"}
COSTS = ("sentences", "tokens", "steps", "seconds")


def table(predictions: Predictions, labels: np.ndarray, cost: dict | None = None, gate: str = "") -> dict:
    """Return all figures on a run on one labelled set, as plain numbers.

    A sentence belongs to the cluster with the nearest centre. A cell whose cluster the model was not trained
    on is out of fold: `seen` is false.

    Parameters
    ----------
    predictions : Predictions
        The run's predictions on n sentences.
    labels : ndarray of int [n]
        The right labels.
    cost : dict, optional
        Training cost by model, passed on.
    gate : str
        The gate with its settings, passed on.

    Returns
    -------
    dict
        {"n", "labels", "majority", "experts", "monju", "baseline", "monju_vs_baseline", "equal_cost",
        "monju_vs_equal_cost", "alpha", "gate_meter", "cost"}. Baseline and equal-cost are left out
        where the run has none, and so is "cost".

    Raises
    ------
    MonjuError
        As `check`.
    """
    labels = np.asarray(labels)
    check(predictions, labels)
    logits, clusters = predictions.by_model(), predictions.clusters
    nearest, everywhere = predictions.distances.argmin(axis=1), range(len(clusters))

    def single_model(scores: np.ndarray, subset: Container[int] = everywhere) -> dict:
        hits = scores.argmax(axis=1) == labels
        cells = {name: _cell(hits[nearest == c], seen=c in subset) for c, name in enumerate(clusters)}
        return measure(scores, labels) | {"clusters": cells}

    def ensemble(fused: np.ndarray, names: list[str]) -> dict:
        return single_model(fused) | gain(fused, [logits[name] for name in names], labels)

    result = {"n": len(labels), "labels": predictions.monju.shape[1], "majority": majority(labels)}
    subsets = zip(predictions.experts, predictions.subsets, strict=True)
    result["experts"] = {name: single_model(logits[name], subset) for name, subset in subsets}
    result["monju"] = ensemble(predictions.monju, predictions.experts) | {"gate": gate}
    for key, names, fused in (
        ("baseline", predictions.members, predictions.baseline),
        ("equal_cost", predictions.equal_cost, predictions.equal_cost_ensemble),
    ):
        if fused is not None:
            models = {name: single_model(logits[name]) for name in names}
            result[key] = {"models": models} | ensemble(fused, names)
            result[f"monju_vs_{key}"] = compare_pair(predictions.monju.argmax(axis=1), fused.argmax(axis=1),
                                                     labels)
    result["alpha"] = _gate_at_work(predictions)
    result["gate_meter"] = gate_meter(predictions, labels)
    return result if cost is None else result | {"cost": cost}


def check(predictions: Predictions, labels: np.ndarray) -> None:
    """Raise MonjuError unless there are sentences, a label (n,) of the run's for each, and finite logits."""
    n, n_labels = predictions.monju.shape
    if n == 0:
        raise MonjuError("there is no sentence to evaluate on: "
                         "choose a source with at least one labelled sentence")
    if labels.shape != (n,):
        raise MonjuError(f"{n} sentences were read but {labels.size} labels given: "
                         "pass one label per sentence")
    if not np.isin(labels, range(n_labels)).all():
        raise MonjuError(f"this run knows the labels 0 to {n_labels - 1}: "
                         "choose a source with the same labels")
    for name, logits in predictions.by_model().items():
        if not np.isfinite(logits).all():
            raise MonjuError(f"{name} gives logits that are not finite: "
                             "train it again with a lower learning rate")


def _cell(hits: np.ndarray, seen: bool) -> dict:
    return {"n": len(hits), "accuracy": float(hits.mean()) if len(hits) else None, "seen": seen}


def _gate_at_work(predictions: Predictions) -> dict:
    """Return how far the gate is from equal weights: mean α, mean sorted α, labels that it changed."""
    alpha = np.asarray(predictions.alpha, dtype=float)  # (n, experts)
    turned_by_gate = predictions.monju.argmax(axis=1) != predictions.uniform.argmax(axis=1)
    return {
        "mean": dict(zip(predictions.experts, alpha.mean(axis=0).tolist(), strict=True)),
        "sorted_mean": np.sort(alpha, axis=1).mean(axis=0).tolist(),
        "fused_differs_from_uniform": int(turned_by_gate.sum()),
    }


def ensembles(metrics: dict) -> list[tuple[str, dict, dict]]:
    """Return (key, its numbers, its members' numbers) of a table's ensembles, in reading order."""
    return [(key, metrics[key], metrics[key].get("models", metrics["experts"]))
            for key in TITLES if key in metrics]


def trained_on(name: str, model: dict) -> str:
    """Return `{C,A}` for the expert CA, `{A,B,C} seed0` for a model that has seen every cluster."""
    cells = model["clusters"]
    # in the name's order
    seen = sorted((cluster for cluster in cells if cells[cluster]["seen"]), key=name.find)
    return f"{{{','.join(seen)}}}" + (f" {name.split('/')[-1]}" if len(seen) == len(cells) else "")


def cost_share(metrics: dict, models: dict) -> float | None:
    """Return the training tokens of these models as a share of the baseline's.

    None where either was not counted.
    """
    cost = metrics.get("cost", {})
    baseline = metrics.get("baseline", {}).get("models", {})
    if not baseline or not cost.keys() >= {*models, *baseline}:
        return None
    return sum(cost[name]["tokens"] for name in models) / sum(cost[name]["tokens"] for name in baseline)


class Row(NamedTuple):
    """One line of a run's table: an ensemble, or (with `model`) one of its members."""

    key: str  # the ensemble's
    model: str
    title: str
    members: list[str]  # the models that the line is about
    numbers: dict
    cost: dict | None  # what their training took: {one of COSTS: sum}
    share: float | None  # of the baseline's training tokens


def table_rows(metrics: dict) -> list[Row]:
    """Return a run's table line by line, each ensemble above its members."""
    rows, cost = [], metrics.get("cost", {})

    def add_row(key: str, model: str, title: str, models: dict, numbers: dict) -> None:
        counted = cost.keys() >= models.keys()
        total_cost = {what: sum(cost[name][what] for name in models) for what in COSTS} if counted else None
        rows.append(Row(key, model, title, list(models), numbers, total_cost, cost_share(metrics, models)))

    for key, ensemble, models in ensembles(metrics):
        add_row(key, "", TITLES[key], models, ensemble)
        for name, model in models.items():
            add_row(key, name, trained_on(name, model), {name: model}, model)
    return rows
