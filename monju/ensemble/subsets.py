"""Subsets: the clusters that each expert sees, and the names of clusters, experts and models."""

from itertools import combinations

import numpy as np


def expert_subsets(k, m):
    """The C(k, m) subsets of clusters, one per expert, in the poster's cyclic order at k = 3, m = 2.

    >>> expert_subsets(3, 2)
    [(0, 1), (1, 2), (2, 0)]
    >>> expert_subsets(4, 1)
    [(0,), (1,), (2,), (3,)]
    """
    if (k, m) == (3, 2):
        return [(0, 1), (1, 2), (2, 0)]  # AB, BC, CA
    return list(combinations(range(k), m))


def membership(experts, k):
    """Which cluster belongs to which expert: a matrix of 0 and 1, [experts, k]."""
    belongs = np.zeros((len(experts), k))
    for row, clusters in enumerate(experts):
        belongs[row, list(clusters)] = 1
    return belongs


def cluster_names(k):
    """The clusters' names: A, B, C… (k ≤ 26)."""
    return [chr(ord("A") + c) for c in range(k)]


def expert_names(config):
    """The experts' names, AB, BC, CA for k = 3, m = 2."""
    clusters = cluster_names(config.k)
    return ["".join(clusters[c] for c in subset) for subset in expert_subsets(config.k, config.subset_size)]


def model_key(kind, name):
    """A model's name among all of a run's: only the control's and an earlier round's need their folder to be told apart."""
    return name if kind in ("experts", "baseline") else f"{kind}/{name}"
