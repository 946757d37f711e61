"""Transforms: what an experiment does to sentences' labels, or to which sentences it keeps.

Each takes labels [n] of 0 and 1, domains [n] and a random generator, and returns (rows kept, their labels).
Knows nothing of vectors, clusters or models.
"""

from collections.abc import Callable, Sequence

import numpy as np

MEDIA = {"MR", "books", "dvd", "imdb", "magazines", "music", "video"}  # shops whose custom differs
MAJORITY, NOISE = 8, 0.4  # 8 to 1 is 89 to 11 %; the share of labels that a bad teacher has wrong
Kept = tuple[np.ndarray, np.ndarray]


def in_media(domains: Sequence[str]) -> np.ndarray:
    """Return which sentences are of a media shop: bool [n]."""
    return np.array([domain in MEDIA for domain in domains])


def natural(labels: np.ndarray, domains: Sequence[str] | None, rng: np.random.Generator) -> Kept:
    """Keep all as they come."""
    return np.arange(len(labels)), labels


def two_customs(labels: np.ndarray, domains: Sequence[str], rng: np.random.Generator) -> Kept:
    """Turn the label round in media shops (E2)."""
    return np.arange(len(labels)), labels ^ in_media(domains)


def turned_anywhere(labels: np.ndarray, domains: Sequence[str], rng: np.random.Generator) -> Kept:
    """Turn as many labels round as `two_customs`, in all shops at random (E2's control)."""
    return np.arange(len(labels)), turned(labels, np.arange(len(labels)), int(in_media(domains).sum()), rng)


def two_priors(labels: np.ndarray, domains: Sequence[str], rng: np.random.Generator) -> Kept:
    """Keep an eighth of the negatives in media and of the positives elsewhere, all others (E4)."""
    wanted, rows = in_media(domains).astype(int), []
    for media in (0, 1):
        rows.append(np.flatnonzero((wanted == media) & (labels == media)))
        minority = np.flatnonzero((wanted == media) & (labels != media))
        rows.append(rng.choice(minority, round(len(rows[-1]) / MAJORITY), replace=False))
    kept = np.sort(np.concatenate(rows))
    return kept, labels[kept]


def thinned(labels: np.ndarray, domains: Sequence[str], rng: np.random.Generator) -> Kept:
    """Keep of either label in every shop the share that `two_priors` keeps of all (E4's control)."""
    names, rows = np.array(domains), []
    for name in np.unique(names):
        for label in (0, 1):
            own = np.flatnonzero((names == name) & (labels == label))
            rows.append(rng.choice(own, round(len(own) * (1 + 1 / MAJORITY) / 2), replace=False))
    kept = np.sort(np.concatenate(rows))
    return kept, labels[kept]


def turned(labels: np.ndarray, among: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return the labels with n of the rows `among` turned round.

    Examples
    --------
    >>> turned(np.array([0, 0, 1]), np.array([1, 2]), 2, np.random.default_rng(0)).tolist()
    [0, 1, 0]
    """
    changed = labels.copy()
    changed[rng.choice(among, n, replace=False)] ^= 1
    return changed


TABLE: dict[str, Callable[..., Kept]] = {
    "natural": natural, "two customs": two_customs, "turned anywhere": turned_anywhere, "two priors": two_priors,
    "thinned": thinned}
