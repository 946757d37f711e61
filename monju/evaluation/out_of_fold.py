"""Out of fold: what the training sentences say of the experts that never learned their cluster.

Cluster C is unseen by AB: on all its training sentences AB answers as on held-out ones, so no split need be
kept aside. An expert's own clusters say nothing here, since it is too sure of what it was trained on.
Knows nothing of texts, gates or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from monju.ensemble.outputs import ModelOutputs
from monju.ensemble.subsets import Subsets, membership

MOST = 5.0  # largest |log T|, and largest growth of log T outside: of few or easy sentences it would run away


@dataclass(frozen=True, eq=False)
class Folds:
    """Training sentences.

    Parameters
    ----------
    outputs : ModelOutputs
        Every expert's outputs on n of them.
    labels, clusters : ndarray of int [n]
        Their labels, and the clusters in which they were learned.
    """

    outputs: ModelOutputs
    labels: np.ndarray
    clusters: np.ndarray

    @property
    def unseen(self) -> np.ndarray:
        """Whether an expert did not learn a sentence's cluster: bool [n, experts]."""
        return membership(self.outputs.subsets, len(self.outputs.clusters))[:, self.clusters].T == 0


def outside(distances: np.ndarray, subsets: Subsets) -> np.ndarray:
    """Return how far a sentence lies outside the clusters that an expert learned, 0 (inside) to 1.

    s = max(0, (d_in − d_out) / (d_in + d_out)) with the distances to the nearest cluster that the expert
    learned and to the nearest that it did not: distances [n, k] → [n, experts].

    Examples
    --------
    >>> outside(np.array([[3.0, 5.0, 1.0]]), [(0, 1), (1, 2), (2, 0)]).tolist()
    [[0.5, 0.0, 0.0]]
    """
    learned = membership(subsets, distances.shape[1])[None] > 0  # (1, experts, k)
    inner, outer = (np.where(of, distances[:, None], np.inf).min(axis=2) for of in (learned, ~learned))
    total = inner + outer
    return np.maximum(0, np.divide(inner - outer, total, out=np.zeros_like(total), where=total > 0))


@dataclass(frozen=True, eq=False)
class Temperatures:
    """One temperature per expert, and how it grows with the distance outside of its clusters.

    T_e(x) = exp(a_e + b_e · min(1, s_e(x) / r_e)): an expert's logits are divided by it (temperature scaling,
    Guo et al. 2017). Out of fold an expert is unsure for two reasons: the sentence is new to it, and lies
    outside its clusters. a is the first alone, extrapolated to the border s = 0, and holds inside too; b ≥ 0
    is the second.

    The extrapolation is an assumption. It was checked on untrained sentences inside the experts' clusters,
    where the best T is 1.02 to 1.05 (CLINC150; from the border: 1.03 to 1.21, without b: 2.7 to 3.4) and 1.75
    to 2.02 (SST-2; 1.41 to 1.76). Each expert is calibrated, their mixture need not be.

    Parameters
    ----------
    a, b, reach : ndarray [experts]
        `reach` r is the farthest that an expert was seen outside.
    """

    a: np.ndarray
    b: np.ndarray
    reach: np.ndarray

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        """Return T [n, experts] for n sentences."""
        s = outside(outputs.distances, outputs.subsets)
        return np.exp(self.a + self.b * np.minimum(1, s / self.reach))


def fit_temperatures(folds: Folds) -> Temperatures:
    """Return the temperatures with the least mean −log p of the labels on each expert's unseen clusters."""
    s, unseen = outside(folds.outputs.distances, folds.outputs.subsets), folds.unseen
    logits = folds.outputs.of(folds.outputs.experts).astype(float)
    fitted = []
    for expert in range(logits.shape[1]):
        rows = unseen[:, expert]
        fitted.append(fit_one(logits[rows, expert], folds.labels[rows], s[rows, expert]))
    return Temperatures(*np.array(fitted).T)


def fit_one(logits: np.ndarray, labels: np.ndarray, s: np.ndarray) -> tuple[float, float, float]:
    """Return a, b and the reach of one expert from sentences out of its fold: logits [n, labels], s [n]."""
    from scipy.optimize import minimize

    if not len(labels):
        return 0.0, 0.0, 1.0
    reach = float(s.max()) or 1.0

    def loss(free: np.ndarray) -> float:
        scaled = logits / np.exp(free[0] + free[1] * s / reach)[:, None]
        return -log_softmax(scaled, axis=1)[np.arange(len(labels)), labels].mean()

    a, b = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-MOST, MOST), (0, MOST)]).x
    return float(a), float(b), reach
