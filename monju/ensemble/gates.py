"""Gates: a sentence's distances to the clusters → α, one non-negative weight per expert, summing to 1.

Knows nothing of texts, models or logits. A new gate is one class here and one line in TABLE. The gate in
ON_TEXT reads the likelihood of the text so far in place of distances.
"""

from dataclasses import dataclass, fields
from math import comb
from typing import Any, Protocol

import numpy as np
from numpy import ndarray
from scipy.special import softmax

from monju.ensemble.subsets import Subsets, membership
from monju.errors import MonjuError


class Gate(Protocol):
    """A callable dataclass; its fields are the settings of the same names in a run's configuration."""

    def __call__(self, distances: ndarray, subsets: Subsets, posterior: ndarray | None = None) -> ndarray:
        """Weigh the experts for each of n sentences.

        Parameters
        ----------
        distances : ndarray [n, k]
            Euclidean distance to each cluster's centre, ≥ 0, in the unit of the embedding.
        subsets : sequence [experts] of tuple of int
            The clusters that each expert learned (`expert_subsets`).
        posterior : ndarray [n, k], optional
            P(cluster | sentence), where the clusterer is a mixture.

        Returns
        -------
        ndarray [n, experts]
            α, each row summing to 1; equal where every distance is zero.

        Raises
        ------
        MonjuError
            Where the gate needs a posterior and there is none.
        """
        ...


@dataclass(frozen=True)
class Distance:
    """The poster's gate: the farther the clusters that an expert has *not* learned, the more it weighs.

    α_S = Σ_{c∉S} d_c^p / (C(k−1, m) · Σ_c d_c^p). At k = 3, m = 2, p = 1: α_AB = d_C / (d_A + d_B + d_C).

    Parameters
    ----------
    sharpness : float
        The power p ≥ 0; 0 weighs all experts alike.

    Examples
    --------
    >>> Distance(sharpness=1)(np.array([[1.0, 2.0, 5.0]]), [(0, 1), (1, 2), (2, 0)]).tolist()
    [[0.625, 0.125, 0.25]]
    """

    sharpness: float

    def __call__(self, distances: ndarray, subsets: Subsets, posterior: ndarray | None = None) -> ndarray:
        """Weigh the experts: see `Gate`."""
        k, m = distances.shape[1], len(subsets[0])
        farthest = distances.max(axis=1, keepdims=True)
        # only ratios matter, and dividing first keeps a large p from overflowing
        ratios = np.divide(distances, farthest, out=np.ones_like(distances), where=farthest > 0)
        d = ratios**self.sharpness
        outside = 1 - membership(subsets, k)
        return d @ outside.T / (comb(k - 1, m) * d.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class InverseDistance:
    """Shepard's weights (1968): the nearer the clusters that an expert learned, the more it weighs.

    α_S = Σ_{c∈S} q_c / C(k−1, m−1) with q_c = d_c^−p / Σ d_c^−p.

    Parameters
    ----------
    sharpness : float
        The power p ≥ 0; 0 weighs all experts alike, and a large p is the gate `nearest`.

    Examples
    --------
    >>> InverseDistance(sharpness=1)(np.array([[1.0, 2.0, 2.0]]), [(0, 1), (1, 2), (2, 0)]).tolist()
    [[0.375, 0.25, 0.375]]
    """

    sharpness: float

    def __call__(self, distances: ndarray, subsets: Subsets, posterior: ndarray | None = None) -> ndarray:
        """Weigh the experts: see `Gate`."""
        nearest = distances.min(axis=1, keepdims=True)
        # as in `Distance`; on a centre it is that cluster's alone
        ratios = np.divide(nearest, distances, out=np.ones_like(distances), where=distances > 0)
        q = ratios**self.sharpness
        return share(q / q.sum(axis=1, keepdims=True), subsets)


@dataclass(frozen=True)
class Nearest:
    """Equal weights for the experts that learned the nearest cluster, none for the others.

    Examples
    --------
    >>> Nearest()(np.array([[1.0, 2.0, 5.0]]), [(0, 1), (1, 2), (2, 0)]).tolist()
    [[0.5, 0.0, 0.5]]
    """

    def __call__(self, distances: ndarray, subsets: Subsets, posterior: ndarray | None = None) -> ndarray:
        """Weigh the experts: see `Gate`."""
        q = (distances == distances.min(axis=1, keepdims=True)).astype(float)
        return share(q / q.sum(axis=1, keepdims=True), subsets)


@dataclass(frozen=True)
class Membership:
    """c-BTM's gate: the nearer the clusters that an expert learned, the more it weighs.

    α_S = Σ_{c∈S} q_c / C(k−1, m−1) with q = softmax(−d^power / T) (Gururangan et al. 2023, eq. 3 at m = 1).

    Parameters
    ----------
    temperature : float
        T > 0, in units of d^power: the smaller, the more the nearest cluster decides.
    power : float
        2 is the paper's, 4 its released code's.
    top_k : int or None
        Number of clusters that keep their weight, renormalised; None: all.

    Examples
    --------
    >>> gate = Membership(temperature=0.1, power=2, top_k=None)
    >>> gate(np.array([[0.0, 0.0, 9.0]]), [(0,), (1,), (2,)]).tolist()
    [[0.5, 0.5, 0.0]]
    """

    temperature: float
    power: float
    top_k: int | None

    def __call__(self, distances: ndarray, subsets: Subsets, posterior: ndarray | None = None) -> ndarray:
        """Weigh the experts: see `Gate`."""
        energy = distances**self.power
        nearest = energy.min(axis=1, keepdims=True)
        with np.errstate(over="ignore"):  # a tiny T makes the others −∞, never the nearest
            q = softmax((nearest - energy) / self.temperature, axis=1)
        return share(keep_top(q, self.top_k), subsets)


@dataclass(frozen=True)
class Posterior:
    """A Gaussian mixture's posterior as membership: α_S = Σ_{c∈S} P(c | x) / C(k−1, m−1).

    Parameters
    ----------
    top_k : int or None
        Number of clusters that keep their weight, renormalised; None: all.

    Examples
    --------
    >>> gate = Posterior(top_k=None)
    >>> gate(np.ones((1, 3)), [(0, 1), (1, 2), (2, 0)], np.array([[0.5, 0.25, 0.25]])).tolist()
    [[0.375, 0.25, 0.375]]
    """

    top_k: int | None

    def __call__(self, distances: ndarray, subsets: Subsets, posterior: ndarray | None = None) -> ndarray:
        """Weigh the experts: see `Gate`."""
        if posterior is None:
            raise MonjuError("the gate 'posterior' needs a Gaussian mixture: train the run with "
                             "--clusterer gmm, or choose the gate 'membership'")
        return share(keep_top(posterior, self.top_k), subsets)


@dataclass(frozen=True)
class Likelihood:
    """BTM's gate for running text: an expert weighs as much as the text so far is likely under it.

    α_S = P(S | x_<t) ∝ P(S) Π_{i<t} p_S(x_i | x_<i) with equal P(S) (Li et al. 2022, arXiv 2208.03306,
    section 3.2; the paper's prior is a mean of posteriors over earlier texts). It knows no distances.

    Parameters
    ----------
    top_k : int or None
        Number of experts that keep their weight, renormalised; None: all.

    Examples
    --------
    >>> Likelihood(top_k=None)(np.log([[0.2, 0.1, 0.1]])).round(6).tolist()
    [[0.5, 0.25, 0.25]]
    """

    top_k: int | None

    def __call__(self, log_likelihood: ndarray) -> ndarray:
        """Weigh the experts by the log-likelihood [n, experts] of each text so far: α [n, experts]."""
        return keep_top(softmax(log_likelihood, axis=1), self.top_k)


def keep_top(q: ndarray, top: int | None) -> ndarray:
    """Return the `top` largest of each row of q [n, k], renormalised, the others zero; q itself for None.

    Examples
    --------
    >>> keep_top(np.array([[0.5, 0.25, 0.25]]), 1).tolist()
    [[1.0, 0.0, 0.0]]
    """
    if top is None or top >= q.shape[1]:
        return q
    kept = np.zeros_like(q)
    largest = np.argsort(-q, axis=1, kind="stable")[:, :top]
    np.put_along_axis(kept, largest, np.take_along_axis(q, largest, axis=1), axis=1)
    return kept / kept.sum(axis=1, keepdims=True)


def share(q: ndarray, subsets: Subsets) -> ndarray:
    """Share each cluster's weight q [n, k] equally among the experts that learned it: α [n, experts].

    α_S = Σ_{c∈S} q_c / C(k−1, m−1).

    Examples
    --------
    >>> share(np.array([[1.0, 0.0, 0.0]]), [(0, 1), (1, 2), (2, 0)]).tolist()
    [[0.5, 0.0, 0.5]]
    """
    k, m = q.shape[1], len(subsets[0])
    return q @ membership(subsets, k).T / comb(k - 1, m - 1)


TABLE: dict[str, type] = {"distance": Distance, "inverse-distance": InverseDistance, "nearest": Nearest,
                          "membership": Membership, "posterior": Posterior}
# for running text alone: the text so far says more than where it lies
ON_TEXT: dict[str, type] = {"likelihood": Likelihood}


def make(config: Any) -> Any:
    """Return the gate that `config.gate` names, its fields read from the attributes of the same names.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> make(SimpleNamespace(gate="distance", sharpness=2.0))
    Distance(sharpness=2.0)
    """
    gate = {**TABLE, **ON_TEXT}[config.gate]
    return gate(**{field.name: getattr(config, field.name) for field in fields(gate)})
