"""Gates: a sentence's distances to the clusters → α, one weight per expert, summing to 1.

A gate sees distances [n, k] (and, where it asks for them, cluster posteriors); it knows nothing
of texts, models or logits. A new gate is one class here and one line in TABLE.
"""

from dataclasses import dataclass
from math import comb

import numpy as np
from scipy.special import softmax

from monju.ensemble.subsets import membership
from monju.errors import MonjuError


@dataclass(frozen=True)
class Distance:
    """Monju's gate: an expert weighs as much as the clusters it has *not* seen are far away.

    α_S = Σ_{c∉S} d_c^p / (C(k−1, m) · Σ_c d_c^p); at k = 3, m = 2, p = 1 the poster's
    α_AB = d_C / (d_A + d_B + d_C).
    """

    sharpness: float = 1.0

    def __call__(self, distances, experts, posterior=None):
        """distances [n, k] ≥ 0 → α [n, experts]; all distances zero → equal weights."""
        k, m = distances.shape[1], len(experts[0])
        farthest = distances.max(axis=1, keepdims=True)
        # only ratios matter, and dividing first keeps a large p from overflowing
        d = np.divide(distances, farthest, out=np.ones_like(distances), where=farthest > 0) ** self.sharpness
        outside = 1 - membership(experts, k)
        return d @ outside.T / (comb(k - 1, m) * d.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Membership:
    """c-BTM's weights: q = softmax(−d^power / T), optionally the top-k alone, shared among a cluster's experts.

    α_S = Σ_{c∈S} q_c / C(k−1, m−1) (Gururangan et al. 2023, eq. 3 at m = 1; T = 0.1, power 2).
    """

    temperature: float = 0.1
    power: float = 2.0
    top_k: int | None = None

    def __call__(self, distances, experts, posterior=None):
        """distances [n, k] ≥ 0 → α [n, experts]."""
        energy = distances**self.power
        with np.errstate(over="ignore"):  # above the nearest's: a tiny T makes it 0 and the others infinite, never all
            q = softmax((energy.min(axis=1, keepdims=True) - energy) / self.temperature, axis=1)
        return share(keep_top(q, self.top_k), experts)


@dataclass(frozen=True)
class Posterior:
    """The Gaussian mixture's own posterior as membership: α_S = Σ_{c∈S} P(c | x) / C(k−1, m−1).

    Needs a run whose clusterer is `gmm`.
    """

    top_k: int | None = None

    def __call__(self, distances, experts, posterior=None):
        """posterior [n, k] → α [n, experts]. Raises MonjuError where the run has no posterior."""
        if posterior is None:
            raise MonjuError("the gate 'posterior' needs a Gaussian mixture: train the run with --clusterer gmm, "
                             "or choose the gate 'membership'")
        return share(keep_top(posterior, self.top_k), experts)


def keep_top(q, top):
    """The `top` largest of each row of q [n, k], renormalised; all of them where top is None."""
    if top is None or top >= q.shape[1]:
        return q
    kept = np.zeros_like(q)
    best = np.argsort(-q, axis=1, kind="stable")[:, :top]
    np.put_along_axis(kept, best, np.take_along_axis(q, best, axis=1), axis=1)
    return kept / kept.sum(axis=1, keepdims=True)


def share(q, experts):
    """α_S = Σ_{c∈S} q_c / C(k−1, m−1): a cluster's weight, shared equally by the experts that know it."""
    k, m = q.shape[1], len(experts[0])
    return q @ membership(experts, k).T / comb(k - 1, m - 1)


TABLE = {"distance": Distance, "membership": Membership, "posterior": Posterior}


def make(config):
    """The gate that a configuration (or anything with its gate settings as attributes) asks for."""
    gate = TABLE[config.gate]
    return gate(**{name: getattr(config, name) for name in gate.__dataclass_fields__})
