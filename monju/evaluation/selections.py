"""Selections: α for the experts that were best on the tuning split, everywhere or near a sentence.

Combiners, as `combiners.TABLE` has them. Knows nothing of gates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from monju.ensemble.outputs import ModelOutputs

if TYPE_CHECKING:
    from monju.evaluation.combiners import FitContext

NEIGHBOURS = 7  # of the dynamic selections (Ko, Sabourin & Britto 2008)


def best_single(outputs: ModelOutputs, context: FitContext) -> np.ndarray:
    """Return a weight of one for the expert with the best accuracy on the tuning split."""
    best = right(*context.tuning).mean(axis=0).argmax()
    return np.broadcast_to(np.eye(len(outputs.experts))[best], (len(outputs.logits), len(outputs.experts)))


def knora_u(outputs: ModelOutputs, context: FitContext) -> np.ndarray:
    """Return α ∝ how many of the 7 nearest tuning sentences an expert gets right.

    KNORA-U (Ko et al. 2008).
    """
    return shares(local(outputs, context))


def ola(outputs: ModelOutputs, context: FitContext) -> np.ndarray:
    """Return equal weights for the experts that are best on the 7 nearest tuning sentences.

    Overall local accuracy (Woods et al. 1997).
    """
    competence = local(outputs, context)
    return shares((competence == competence.max(axis=1, keepdims=True)).astype(float))


def local(outputs: ModelOutputs, context: FitContext) -> np.ndarray:
    """Return how many of the nearest tuning sentences each expert gets right: [n, experts]."""
    from sklearn.neighbors import NearestNeighbors

    tuning, labels = context.tuning
    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(labels))).fit(tuning.vectors)
    near = search.kneighbors(outputs.vectors)[1]
    return right(tuning, labels)[near].sum(axis=1).astype(float)


def shares(counts: np.ndarray) -> np.ndarray:
    """Return counts [n, experts] as weights that sum to one; equal weights where every count is zero."""
    counts = np.where(counts.sum(axis=1, keepdims=True) > 0, counts, 1.0)
    return counts / counts.sum(axis=1, keepdims=True)


def right(outputs: ModelOutputs, labels: np.ndarray) -> np.ndarray:
    """Return which expert is right on which sentence: bool [n, experts]."""
    return outputs.of(outputs.experts).argmax(axis=2) == np.asarray(labels)[:, None]
