"""Samplers: in what order a model reads its sentences, batch by batch, pass after pass.

Every pass has ⌈n / size⌉ batches and each sentence once. A sampler is an endless generator of batches of row
numbers; it sees lengths, clusters and losses, never a sentence. A new one is one function here and one line
in TABLE.
"""

from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SamplerContext:
    """What a sampler may use of n sentences.

    Parameters
    ----------
    lengths : ndarray of int [n]
        In tokens.
    clusters : ndarray of int [n], optional
        Cluster numbers.
    losses : callable, optional
        () → ndarray [n]: the loss of the model as it is now on each sentence.
    draws : Generator, optional
        Random numbers that all models in lockstep draw alike: their batches shall be of one length.
    """

    lengths: np.ndarray
    clusters: np.ndarray | None = None
    losses: Callable | None = None
    draws: np.random.Generator | None = None


def buckets(sentences, size, random):
    """Yield batches of sentences of similar length, in random order: little padding."""
    while True:
        yield from one_pass(sentences.lengths, size, random, sentences.draws)


def shuffled(sentences, size, random):
    """Yield batches in random order, whatever the padding costs."""
    while True:
        yield from cut(random.permutation(len(sentences.lengths)), size)


def short_to_long(sentences, size, random):
    """Yield the shortest sentences first, in every pass."""
    while True:
        yield from by_length(sentences.lengths, size, random)


def easy_to_hard(sentences, size, random):
    """Yield a first pass in buckets; in every pass after it, the sentences of least loss first.

    A curriculum (Bengio et al. 2009).
    """
    yield from one_pass(sentences.lengths, size, random, sentences.draws)
    easiest = np.argsort(sentences.losses(), kind="stable")
    while True:
        yield from cut(easiest, size)


def by_cluster(sentences, size, random):
    """Yield one cluster after the other, in buckets; their order changes with every pass.

    A batch at the border holds the end of one cluster and the start of the next, so that a pass has as many
    batches as in every other order.
    """
    while True:
        rest = np.empty(0, int)
        for cluster in random.permutation(np.unique(sentences.clusters)):
            rows = np.concatenate([rest, random.permutation(np.flatnonzero(sentences.clusters == cluster))])
            if len(rest) and len(rows) >= size:
                yield rows[:size]
                rows = rows[size:]
            whole = len(rows) // size * size
            for batch in one_pass(sentences.lengths[rows[:whole]], size, random):
                yield rows[batch]
            rest = rows[whole:]
        if len(rest):
            yield rest


TABLE = {"buckets": buckets, "shuffled": shuffled, "short-to-long": short_to_long,
         "easy-to-hard": easy_to_hard, "by-cluster": by_cluster}


def one_pass(lengths, size, random, draws=None):
    """Return batches that hold every row once, of similar length, in random order.

    With `draws`, shared random numbers, the next batch is the one that is left whose place from the shortest
    (0) to the longest (1) is nearest to the next number: models in lockstep read batches of like length,
    however many sentences each has.
    """
    batches = by_length(lengths, size, random)
    if draws is None:
        random.shuffle(batches)
        return batches
    left, order = list(range(len(batches))), []
    for number in draws.random(len(batches)) * len(batches):
        at = bisect(left, number)
        nearest = min(range(max(0, at - 1), min(len(left), at + 1)), key=lambda i: abs(left[i] - number))
        order.append(batches[left.pop(nearest)])
    return order


def by_length(lengths, size, random):
    """Return batches of similar length, the shortest first.

    Which of equally long sentences meet changes with every pass.
    """
    return cut(np.argsort(lengths + random.random(len(lengths)), kind="stable"), size)


def cut(rows, size):
    """Return the rows in batches of `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
