"""Tables over a run: each model's accuracy, each ensemble's gain, and their uncertainty.

`table` turns arrays into a dictionary that JSON can hold: `reporting.console`, `reporting.report` and the
page draw it. Knows nothing of texts, files or training. Every interval and p-value speaks of these models on
other sentences, not of models trained anew with other seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import softmax

from monju.errors import MonjuError
from monju.evaluation.gate_meter import gate_meter

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


# ---- measures


def interval(scores: np.ndarray) -> list[float]:
    """Return the 95 % bootstrap interval of the mean of one score per sentence.

    2,000 resamples, percentiles, fixed seed. An accuracy, a difference and a gain are all such means; the
    last two are paired, since each score already compares models on the same sentence.

    Parameters
    ----------
    scores : ndarray [n]
        One score per sentence.

    Returns
    -------
    list of float
        Lower and upper bound. Where all scores are equal they are the same: the interval then says nothing,
        and is not drawn.

    Examples
    --------
    >>> interval(np.array([1, 1, 1]))
    [1.0, 1.0]
    """
    from scipy.stats import bootstrap

    scores = np.asarray(scores, dtype=float)
    if np.ptp(scores) == 0:  # every resample has the same mean
        return [float(scores[0])] * 2
    batch = max(1, 2_000_000 // len(scores))  # resamples held in memory at once
    result = bootstrap((scores,), np.mean, n_resamples=2000, batch=batch, vectorized=True,
                       method="percentile", rng=0)
    return [float(bound) for bound in result.confidence_interval]


def accuracy_interval(hits: np.ndarray) -> list[float]:
    """Return `interval` of hits and misses [n]; where all are alike, Wilson's.

    Every resample of equal scores has the same mean.
    """
    from scipy.stats import binomtest

    if 0 < hits.sum() < len(hits):
        return interval(hits)
    wilson = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return [float(wilson.low), float(wilson.high)]


def majority(labels: np.ndarray) -> dict:
    """Return the commonest of the labels [n], the lowest of several, and the accuracy of always giving it.

    Examples
    --------
    >>> majority(np.array([0, 1, 1, 1]))
    {'label': 1, 'accuracy': 0.75}
    """
    counts = np.bincount(labels)
    return {"label": int(counts.argmax()), "accuracy": float(counts.max() / len(labels))}


def measure(logits: np.ndarray, labels: np.ndarray) -> dict:
    """Return accuracy with its interval, macro-F1, NLL, Brier score and ECE.

    Parameters
    ----------
    logits : ndarray [n, labels]
        One model's or ensemble's, of n sentences.
    labels : ndarray of int [n]
        The right labels, numbered from 0.

    Returns
    -------
    dict
        "accuracy", "interval" (95 %), "macro_f1" over the labels that were given or predicted, "nll" in nats,
        "brier" (squared differences summed over the labels, averaged over sentences: 0 is perfect, 2 the
        worst) and "ece" (the mean gap in the bins of `calibration`).
    """
    from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss

    verdicts, classes = logits.argmax(axis=1), range(logits.shape[1])
    probabilities = softmax(np.asarray(logits, dtype=float), axis=1)  # (n, L)
    return {
        "accuracy": float(accuracy_score(labels, verdicts)),
        "interval": accuracy_interval(verdicts == labels),
        "macro_f1": float(f1_score(labels, verdicts, average="macro")),
        "nll": float(log_loss(labels, probabilities, labels=classes)),
        "brier": float(brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)),
        "ece": sum(b["n"] * abs(b["accuracy"] - b["confidence"])
                   for b in calibration(logits, labels)) / len(labels),
    }


def gain(fused: np.ndarray, members: list[np.ndarray], labels: np.ndarray) -> dict:
    """Return what an ensemble's logits [n, labels] add to the mean accuracy of its members' [n, labels].

    The difference is paired: each sentence's score is the ensemble's less the members' mean.
    """
    right = fused.argmax(axis=1) == labels  # (n,)
    members_right = np.array([logits.argmax(axis=1) == labels for logits in members])  # (members, n)
    return {
        "mean_member": float(members_right.mean()),
        "gain": float(right.mean() - members_right.mean()),
        "gain_interval": interval(right - members_right.mean(axis=0)),
    }


def compare_pair(ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray) -> dict:
    """Return the accuracy difference of two models' verdicts [n], with the exact McNemar test.

    Parameters
    ----------
    ours, theirs : ndarray of int [n]
        Predicted labels of the two models.
    labels : ndarray of int [n]
        The right labels.

    Returns
    -------
    dict
        "difference" of the accuracies, its "interval" (95 %), "rescued" (sentences that only ours has right),
        "broken" (only theirs), "changed" (verdicts that differ) and "p_value". With three labels or more a
        verdict can change from one wrong label to another: changed ≥ rescued + broken.

    Examples
    --------
    >>> pair = compare_pair(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0, 1, 0]))
    >>> pair["rescued"], pair["broken"], pair["changed"], pair["p_value"]
    (1, 0, 1, 1.0)
    """
    from scipy.stats import binomtest

    ours_right, theirs_right = ours == labels, theirs == labels
    rescued, broken = int((ours_right & ~theirs_right).sum()), int((theirs_right & ~ours_right).sum())
    return {
        "difference": (rescued - broken) / len(labels),
        "interval": interval(ours_right.astype(int) - theirs_right),
        "rescued": rescued,
        "broken": broken,
        "changed": int((ours != theirs).sum()),
        # exact McNemar: of the sentences that one of the two has right, each is as likely as the other
        "p_value": float(binomtest(rescued, rescued + broken).pvalue) if rescued + broken else 1.0,
    }


# ---- the table


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

    def single_model(scores, subset=everywhere):
        hits = scores.argmax(axis=1) == labels
        cells = {name: _cell(hits[nearest == c], seen=c in subset) for c, name in enumerate(clusters)}
        return measure(scores, labels) | {"clusters": cells}

    def ensemble(fused, names):
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

    def add_row(key, model, title, models, numbers):
        counted = cost.keys() >= models.keys()
        total_cost = {what: sum(cost[name][what] for name in models) for what in COSTS} if counted else None
        rows.append(Row(key, model, title, list(models), numbers, total_cost, cost_share(metrics, models)))

    for key, ensemble, models in ensembles(metrics):
        add_row(key, "", TITLES[key], models, ensemble)
        for name, model in models.items():
            add_row(key, name, trained_on(name, model), {name: model}, model)
    return rows


# ---- beyond the table: what needs every sentence


def calibration(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> list[dict]:
    """Return the bins of the winning probability that hold any sentence, with their accuracy.

    The ECE is Σ n · |accuracy − confidence| / Σ n over them.

    Parameters
    ----------
    logits : ndarray [n, labels]
        One model's or ensemble's.
    labels : ndarray of int [n]
        The right labels.
    bins : int
        Number of bins of equal width between 0 and 1.

    Returns
    -------
    list of dict
        {"low", "high", "n", "confidence", "accuracy"} of each bin.
    """
    confidence = softmax(np.asarray(logits, dtype=float), axis=1).max(axis=1)
    right = logits.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.minimum(np.searchsorted(edges, confidence, side="right") - 1, bins - 1)
    return [
        {
            "low": float(edges[b]),
            "high": float(edges[b + 1]),
            "n": int((bin_of == b).sum()),
            "confidence": float(confidence[bin_of == b].mean()),
            "accuracy": float(right[bin_of == b].mean()),
        }
        for b in np.unique(bin_of)
    ]


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values [m] corrected for their number.

    Holm 1979: the i-th smallest times m − i, i from 0, never less than the one before it.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values)
    corrected = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    return np.minimum(corrected, 1.0)[np.argsort(order)]


def turned(ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sentences (indices into n) that our verdicts rescued and broke, against theirs.

    Examples
    --------
    >>> turned(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0, 1, 0]))
    (array([1]), array([], dtype=int64))
    """
    ours_right, theirs_right = ours == labels, theirs == labels
    return np.flatnonzero(ours_right & ~theirs_right), np.flatnonzero(theirs_right & ~ours_right)


def compare_gains(predictions: Predictions, labels: np.ndarray) -> dict | None:
    """Return Monju's gain over its mean member less the baseline's, paired; None without a baseline."""
    if predictions.baseline is None:
        return None

    def gained(fused, names):  # (n,)
        members = predictions.of(names).argmax(axis=2) == labels[:, None]
        return (fused.argmax(axis=1) == labels) - members.mean(axis=1)

    scores = gained(predictions.monju, predictions.experts) - gained(predictions.baseline,
                                                                     predictions.members)
    return {"difference": float(scores.mean()), "interval": interval(scores)}
