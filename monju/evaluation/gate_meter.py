"""Gate meter: two numbers that say how much a gate can do on a run, whichever gate it is, beside what it did.

The *gap* is what an expert loses on a cluster that it has not seen: without one there is nothing to choose
between. The *leverage* is the share of sentences whose verdict the weights could turn at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from monju.ensemble.subsets import Subsets, membership

if TYPE_CHECKING:
    from monju.ensemble.outputs import Predictions

RARE = 0.1  # share of a label's examples below which an expert as good as never meets it


def could_flip(logits: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return for which sentences weights as far from equal ones as α could turn the verdict.

    A necessary condition, for the fusion of logits. Let y be the verdict of equal weights, m_e(j) =
    logit_e[y] − logit_e[j] expert e's margin over label j, and m̄(j) their mean over n experts. The margin
    under α is m̄(j) + (α − 1/n)·(m(j) − m̄(j)), so by Cauchy–Schwarz it can be at most 0 only where
    ‖α − 1/n‖ · ‖m(j) − m̄(j)‖ ≥ m̄(j).

    Parameters
    ----------
    logits : ndarray [n, experts, labels]
        The experts' logits.
    alpha : ndarray [n, experts]
        The gate's weights.

    Returns
    -------
    ndarray of bool [n]

    Examples
    --------
    >>> logits = np.array([[[2.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 1.0]]])
    >>> could_flip(logits, np.array([[0.9, 0.1], [0.1, 0.9]])).tolist()
    [False, True]
    """
    logits, alpha = np.asarray(logits, float), np.asarray(alpha, float)
    verdict = logits.mean(axis=1).argmax(axis=1)  # (n,)
    margins = np.take_along_axis(logits, verdict[:, None, None], axis=2) - logits  # (n, experts, labels)
    mean = margins.mean(axis=1)
    reach = (np.linalg.norm(alpha - 1 / alpha.shape[1], axis=1)[:, None]
             * np.linalg.norm(margins - mean[:, None], axis=1))
    # the last bits of a sum must not rule out what is exactly at the bound
    can = reach >= mean - 1e-9 * np.abs(margins).max(axis=1)
    np.put_along_axis(can, verdict[:, None], False, axis=1)
    return can.any(axis=1)


def gap(predictions: Predictions, labels: np.ndarray) -> dict[str, float | None]:
    """Return the experts' accuracy on sentences whose nearest cluster they have seen, and have not.

    Means over all (sentence, expert) pairs of either kind; None where there are none.

    Parameters
    ----------
    predictions : Predictions
        Of n sentences.
    labels : ndarray of int [n]
        The right labels.

    Returns
    -------
    dict
        {"seen", "unseen", "difference"}.
    """
    right = predictions.of(predictions.experts).argmax(axis=2) == labels[:, None]  # (n, experts)
    learned = membership(predictions.subsets, len(predictions.clusters)).astype(bool)  # (experts, k)
    saw = learned[:, predictions.distances.argmin(axis=1)].T  # (n, experts)
    seen, unseen = (float(right[which].mean()) if which.any() else None for which in (saw, ~saw))
    difference = None if seen is None or unseen is None else seen - unseen
    return {"seen": seen, "unseen": unseen, "difference": difference}


def error_correlation(predictions: Predictions, labels: np.ndarray) -> float | None:
    """Return the mean over pairs of experts of the correlation of their errors (Pearson's, of 0 and 1).

    None where an expert is always right or always wrong, or there is one only.
    """
    wrong = (predictions.of(predictions.experts).argmax(axis=2) != labels[:, None]).astype(float)
    if wrong.shape[1] < 2 or (np.ptp(wrong, axis=0) == 0).any():
        return None
    return float(np.corrcoef(wrong.T)[np.triu_indices(wrong.shape[1], 1)].mean())


def agreement(predictions: Predictions) -> tuple[list[str], np.ndarray]:
    """Return names of experts and baseline, and the share of sentences on which each two agree."""
    names = predictions.experts + predictions.members
    verdicts = predictions.of(names).argmax(axis=2)  # (n, models)
    return names, (verdicts[:, :, None] == verdicts[:, None, :]).mean(axis=0)


def mean_agreement(same: np.ndarray) -> float | None:
    """Return the mean over all pairs of an agreement matrix; None for a single model.

    Examples
    --------
    >>> mean_agreement(np.array([[1, .5], [.5, 1]]))
    0.5
    """
    pairs = same[np.triu_indices(len(same), 1)]
    return float(pairs.mean()) if len(pairs) else None


def before_training(alpha: np.ndarray, clusters: np.ndarray, labels: np.ndarray,
                    subsets: Subsets) -> dict[str, float]:
    """Return what is known of the gate before any expert is trained, from n training sentences.

    An expert that never meets a label cannot give it: where that is so, there will be a gap. How much weaker
    experts are on unseen clusters whose labels they know, and how sure they are there, is not known yet.

    Parameters
    ----------
    alpha : ndarray [n, experts]
        The gate's weights.
    clusters, labels : ndarray of int [n]
        The sentences' clusters and classes.
    subsets : sequence of tuple of int [experts]
        The clusters that each expert will learn.

    Returns
    -------
    dict
        {"unseen" (the share of sentences whose label is rare to an expert, mean over experts: it learns fewer
        than one in ten examples of it), "uneven" (the mean of ‖α − 1/experts‖), "most" (what that would be if
        one expert had all the weight)}.

    Examples
    --------
    >>> found = before_training(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 1]), np.array([7, 8]),
    ...                         [(0,), (1,)])
    >>> {name: round(value, 3) for name, value in found.items()}
    {'unseen': 0.5, 'uneven': 0.354, 'most': 0.707}
    """
    _, labels = np.unique(labels, return_inverse=True)
    counts = np.zeros((clusters.max() + 1, labels.max() + 1))
    np.add.at(counts, (clusters, labels), 1)
    learns = membership(subsets, len(counts)) @ counts / counts.sum(axis=0)  # (experts, labels)
    n = alpha.shape[1]
    return {"unseen": float((learns[:, labels] < RARE).mean()),
            "uneven": float(np.linalg.norm(alpha - 1 / n, axis=1).mean()), "most": float(np.sqrt(1 - 1 / n))}


def gate_meter(predictions: Predictions, labels: np.ndarray) -> dict:
    """Return what a gate can do on a run and what this one did, on n labelled sentences.

    Returns
    -------
    dict
        {"gap", "could_flip", "did_flip" (shares of sentences; the fusion of logits), "agreement" (share of
        sentences on which two experts agree, mean over pairs), "error_correlation"}.
    """
    logits = predictions.of(predictions.experts)
    fused = np.einsum("ne,nel->nl", predictions.alpha, logits)
    n = len(predictions.experts)
    return {"gap": gap(predictions, labels),
            "could_flip": float(could_flip(logits, predictions.alpha).mean()),
            "did_flip": float((fused.argmax(axis=1) != logits.mean(axis=1).argmax(axis=1)).mean()),
            "agreement": mean_agreement(agreement(predictions)[1][:n, :n]),
            "error_correlation": error_correlation(predictions, labels)}
