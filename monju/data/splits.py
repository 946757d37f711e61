"""Splits: which rows are for training, which are held out, and which stand in both.

Knows nothing of where rows come from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from monju.data.notes import Note, refusal
from monju.data.rows import Rows, read_alike

SPLIT_SEED = 0  # not the run's seed: the held-out sentences are the same for every run


def without_overlap(train: Rows, validation: Rows, keep: bool, notes: list[Note]) -> tuple[Rows, int]:
    """Drop training sentences that also stand in validation, unless `keep`; return training, their number."""
    known = set(map(read_alike, validation.texts))
    fresh = [i for i, text in enumerate(train.texts) if read_alike(text) not in known]
    overlap = len(train.texts) - len(fresh)
    if overlap:
        notes.append(Note("overlap_kept" if keep else "overlap_dropped", {"n": overlap}))
    return (train if keep else train.take(fresh)), overlap


def stratified(labels: Sequence | np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw n rows in proportion to the classes, at least one of each.

    A row's key is its rank in its shuffled class, 0 to 1: the n smallest take the same share of each class.

    Parameters
    ----------
    labels : sequence of int or str
        Each row's class.
    n : int
        Number of rows to draw, at least the number of classes.
    seed : int
        Seed of the shuffles.

    Returns
    -------
    ndarray of int [n]
        Row numbers, ascending.

    Examples
    --------
    >>> labels = ["a"] * 6 + ["b"] * 3
    >>> [labels[row] for row in stratified(labels, 3, seed=0)]
    ['a', 'a', 'b']
    """
    labels = np.asarray(labels)
    order = np.random.RandomState(seed).permutation(len(labels))  # RandomState: its stream never changes
    key = np.empty(len(labels))
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        key[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
        key[rows[0]] = 0
    return np.sort(np.argsort(key, kind="stable")[:n])


def split(labels: Sequence | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers for training and (a tenth of each class) validation.

    The only sentence of a class stays in training. Raises MonjuError where no class has two.
    """
    labels = np.asarray(labels)
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    divisible = np.flatnonzero(counts[inverse] > 1)
    if not len(divisible):
        raise refusal("too_few")
    n = max(round(len(divisible) / 10), int(np.count_nonzero(counts > 1)))
    held_out = divisible[stratified(labels[divisible], n, SPLIT_SEED)]
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def fingerprint(train: Rows, validation: Rows) -> str:
    """Return the SHA-256 of both parts' sentences and labels."""
    digest = hashlib.sha256()
    for name, rows in (("train", train), ("validation", validation)):
        digest.update(f"{name}\n".encode())
        for row in zip(rows.texts, rows.labels):
            digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()
