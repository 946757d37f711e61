"""Subsets: the clusters that each expert learns, and the names of clusters, experts and models."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

Subsets = Sequence[tuple[int, ...]]


def expert_subsets(k: int, m: int) -> list[tuple[int, ...]]:
    """Return the C(k, m) subsets of clusters, one per expert.

    Parameters
    ----------
    k : int
        Number of clusters.
    m : int
        Number of clusters that each expert learns, 1 ≤ m < k.

    Returns
    -------
    list of tuple of int
        Cluster numbers of each expert; at k = 3, m = 2 in the poster's cyclic order.

    Examples
    --------
    >>> expert_subsets(3, 2)
    [(0, 1), (1, 2), (2, 0)]
    >>> expert_subsets(4, 1)
    [(0,), (1,), (2,), (3,)]
    """
    if (k, m) == (3, 2):
        return [(0, 1), (1, 2), (2, 0)]  # AB, BC, CA
    return list(combinations(range(k), m))


def membership(subsets: Subsets, k: int) -> np.ndarray:
    """Return the 0/1 matrix [experts, k] of which expert learned which cluster.

    Examples
    --------
    >>> membership([(0, 1), (1, 2), (2, 0)], 3).tolist()
    [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]
    """
    matrix = np.zeros((len(subsets), k))
    for expert, subset in enumerate(subsets):
        matrix[expert, list(subset)] = 1
    return matrix


def cluster_names(k: int) -> list[str]:
    """Return the clusters' names, A, B, C… (k ≤ 26)."""
    return [chr(ord("A") + cluster) for cluster in range(k)]


def expert_names(config: Any) -> list[str]:
    """Return the experts' names from `config.k` and `config.subset_size`: AB, BC, CA at k = 3, m = 2."""
    clusters = cluster_names(config.k)
    return ["".join(clusters[c] for c in subset) for subset in expert_subsets(config.k, config.subset_size)]


def model_key(kind: str, name: str) -> str:
    """Return a model's name, unique within its run, from its folder there and its name in that folder.

    Examples
    --------
    >>> model_key("experts", "AB"), model_key("equal-cost", "seed0")
    ('AB', 'equal-cost/seed0')
    """
    return name if kind in ("experts", "baseline") else f"{kind}/{name}"
