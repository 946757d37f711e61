"""Measures of models on labelled sentences: accuracy, gains, paired tests, calibration, intervals.

Knows nothing of texts, files or training. Every interval and p-value speaks of these models on other
sentences, not of models trained anew with other seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

if TYPE_CHECKING:
    from monju.ensemble.outputs import Predictions


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

    def gained(fused: np.ndarray, names: list[str]) -> np.ndarray:  # (n,)
        members = predictions.of(names).argmax(axis=2) == labels[:, None]
        return (fused.argmax(axis=1) == labels) - members.mean(axis=1)

    scores = gained(predictions.monju, predictions.experts) - gained(predictions.baseline,
                                                                     predictions.members)
    return {"difference": float(scores.mean()), "interval": interval(scores)}
