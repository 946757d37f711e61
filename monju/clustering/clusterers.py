"""Clusterers: vectors → k clusters A, B, C… with centres.

Knows nothing of sentences, labels or experts. A new vector belongs to the cluster at the least distance.
A new clusterer is one class here and one line in TABLE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from monju.ensemble.subsets import cluster_names
from monju.errors import MonjuError


class Clusterer(Protocol):
    """A clusterer, made from k and a seed, as scikit-learn's: `fit` sets the attributes that end in _.

    Attributes
    ----------
    k : int
        Number of clusters.
    centres_ : ndarray [k, dim]
        The clusters' centres, the largest cluster first.
    all_centres_ : ndarray [centres, dim]
        All centres from which distances are measured: `centres_`, where each cluster has one.
    labels_ : ndarray of int [n]
        The cluster of each vector that it was fitted on.
    """

    k: int
    centres_: np.ndarray
    labels_: np.ndarray

    def fit(self, vectors: np.ndarray) -> Clusterer:
        """Learn from vectors [n, dim]. Raises MonjuError where they cannot fill k clusters."""
        ...

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """Return the clusters of further training vectors [n, dim], by what was fitted: ndarray of int [n].

        A clusterer by domain takes their domains [n] too.
        """
        ...

    def distances(self, vectors: np.ndarray) -> np.ndarray:
        """Return the distance to each cluster, vectors [n, dim] → float64 [n, k]."""
        ...

    def posterior(self, vectors: np.ndarray) -> np.ndarray | None:
        """Return P(cluster | vector) [n, k] of a mixture, else None."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return what is needed to place a new vector, as named arrays."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> Clusterer:
        """Take up what `state` returned."""
        ...


def distances(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return Euclidean distances, [n, dim] × [k, dim] → float64 [n, k].

    Differences are squared outright: the usual |x|² − 2xc + |c|² would leave a vector that equals a centre at
    1e-4 instead of 0.

    Examples
    --------
    >>> distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[5.0, 0.0]]
    """
    vectors, centres = np.asarray(vectors, np.float64), np.asarray(centres, np.float64)
    return np.stack([np.sqrt(((vectors - centre) ** 2).sum(axis=1)) for centre in centres], axis=1)


class KMeansClusterer:
    """Plain k-means; clusters may differ much in size."""

    centres_: np.ndarray
    labels_: np.ndarray

    def __init__(self, k: int, seed: int = 0):
        self.k, self.seed = k, seed

    def fit(self, vectors: np.ndarray) -> KMeansClusterer:
        """Learn from vectors [n, dim]. Raises MonjuError for fewer distinct sentences than clusters."""
        refuse_too_few(vectors, self.k)
        from sklearn.cluster import KMeans  # here and below: a page that places sentences needs none of it

        kmeans = KMeans(self.k, n_init=10, random_state=self.seed).fit(vectors)
        self.centres_, self.labels_ = in_order(kmeans.cluster_centers_, kmeans.labels_)
        return self

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """Return the nearest cluster of vectors [n, dim]."""
        return self.distances(vectors).argmin(axis=1)

    @property
    def all_centres_(self) -> np.ndarray:
        """All centres from which distances are measured."""
        return self.centres_

    def distances(self, vectors: np.ndarray) -> np.ndarray:
        """Return the Euclidean distance to each centre, vectors [n, dim] → [n, k]."""
        return distances(vectors, self.centres_)

    def posterior(self, vectors: np.ndarray) -> np.ndarray | None:
        """Return None: k-means has no posterior."""
        return None

    def state(self) -> dict[str, np.ndarray]:
        """Return the centres."""
        return {"centres": self.centres_}

    def restore(self, state: Mapping[str, np.ndarray]) -> KMeansClusterer:
        """Take up what `state` returned."""
        self.centres_ = state["centres"]
        return self


class BalancedClusterer(KMeansClusterer):
    """k-means with clusters of equal size while fitting, so that no expert lacks data (c-BTM's).

    Attributes
    ----------
    prices_ : ndarray [k]
        What the assignment under equal sizes adds to a cluster's squared distance.
    """

    max_rounds = 100
    prices_: np.ndarray

    def fit(self, vectors: np.ndarray) -> BalancedClusterer:
        """Learn from vectors [n, dim]: sizes of `labels_` differ by at most one.

        Lloyd's two steps, with the assignment step solved exactly under equal capacities
        (Bradley, Bennett & Demiriz 2000). Raises MonjuError as k-means does.
        """
        refuse_too_few(vectors, self.k)
        vectors = np.asarray(vectors, np.float64)
        from sklearn.cluster import KMeans

        kmeans = KMeans(self.k, n_init=10, random_state=self.seed).fit(vectors)
        centres, _ = in_order(kmeans.cluster_centers_, kmeans.labels_)  # the largest takes the one more
        labels, prices = np.full(len(vectors), -1), np.zeros(self.k)
        for _ in range(self.max_rounds):
            before = labels
            labels, prices = balanced_assignment(distances(vectors, centres) ** 2, prices)
            if (labels != before).mean() < 1e-4:  # converged
                break
            centres = np.stack([vectors[labels == c].mean(axis=0) for c in range(self.k)])
        order = ordering(centres, labels)
        self.centres_, self.labels_, self.prices_ = centres[order], np.argsort(order)[labels], prices[order]
        return self

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """Return the cluster of least squared distance and price: sizes as equal as the sample is alike."""
        return (self.distances(vectors) ** 2 + self.prices_).argmin(axis=1)


class SeveralCentresClusterer(KMeansClusterer):
    """Clusters with several centres each, so that none need be round; sizes as equal as whole parts allow.

    k-means finds F fine centres; these are grouped into k clusters by balanced k-means, each fine centre
    weighing as many vectors as it has (two-step clustering of MoDE, Ma et al., CVPR 2024, whose groups are
    not balanced). The distance to a cluster is that to its nearest fine centre: d_c = min_{f in c} ‖x − f‖.

    Attributes
    ----------
    centres_ : ndarray [k, dim]
        The means of the clusters' vectors.
    fine_ : ndarray [F, dim]
        The fine centres: 64, and fewer where these would have less than 8 different vectors each.
    groups_ : ndarray of int [F]
        The cluster of each fine centre.
    """

    most, fewest_vectors = 64, 8
    fine_: np.ndarray
    groups_: np.ndarray

    def fit(self, vectors: np.ndarray) -> SeveralCentresClusterer:
        """Learn from vectors [n, dim]. Raises MonjuError as k-means does."""
        distinct = refuse_too_few(vectors, self.k)
        vectors = np.asarray(vectors, np.float64)
        from sklearn.cluster import KMeans

        fine = KMeans(min(self.most, max(self.k, distinct // self.fewest_vectors)), n_init=1,
                      random_state=self.seed).fit(vectors)
        self.fine_ = fine.cluster_centers_
        nearest = distances(vectors, self.fine_).argmin(axis=1)
        # every vector moved to its fine centre; a fine centre on a border goes where most of its vectors go
        moved = BalancedClusterer(self.k, self.seed).fit(self.fine_[nearest]).labels_
        votes = np.zeros((len(self.fine_), self.k))
        np.add.at(votes, (nearest, moved), 1)
        groups = votes.argmax(axis=1)
        if len(set(groups)) < self.k:  # few fine centres, each on a border: one for each cluster first
            from scipy.optimize import linear_sum_assignment

            some, their = linear_sum_assignment(-votes)
            groups[some] = their
        labels = groups[nearest]
        means = np.stack([vectors[labels == c].mean(axis=0) for c in range(self.k)])
        order = ordering(means, labels)
        self.centres_, self.groups_ = means[order], np.argsort(order)[groups]
        self.labels_ = self.groups_[nearest]
        return self

    @property
    def all_centres_(self) -> np.ndarray:
        """The fine centres."""
        return self.fine_

    def distances(self, vectors: np.ndarray) -> np.ndarray:
        """Return the distance to each cluster's nearest fine centre, vectors [n, dim] → [n, k]."""
        d = distances(vectors, self.fine_)
        return np.stack([d[:, self.groups_ == c].min(axis=1) for c in range(self.k)], axis=1)

    def state(self) -> dict[str, np.ndarray]:
        """Return means, fine centres and their clusters."""
        return {"centres": self.centres_, "fine": self.fine_, "groups": self.groups_.astype(np.int32)}

    def restore(self, state: Mapping[str, np.ndarray]) -> SeveralCentresClusterer:
        """Take up what `state` returned. Raises ValueError where a cluster has no fine centre."""
        self.centres_, self.fine_, self.groups_ = state["centres"], state["fine"], state["groups"]
        if self.groups_.shape != self.fine_.shape[:1] or set(self.groups_.tolist()) != set(range(self.k)):
            raise ValueError("fine centres of other clusters")
        return self


class RandomClusterer(KMeansClusterer):
    """A control: random clusters of equal size, which show whether geometry matters at all."""

    def fit(self, vectors: np.ndarray) -> RandomClusterer:
        """Assign vectors [n, dim] at random; the centres are the clusters' means, nearly one point."""
        refuse_too_few(vectors, self.k)
        self.further = np.random.default_rng([self.seed, 1])  # of `assign`
        labels = np.random.default_rng(self.seed).permutation(np.arange(len(vectors)) % self.k)
        centres = np.stack([np.asarray(vectors, np.float64)[labels == c].mean(axis=0) for c in range(self.k)])
        self.centres_, self.labels_ = in_order(centres, labels)
        return self

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """Return random clusters, other ones at each call."""
        return self.further.integers(self.k, size=len(vectors))


class GMMClusterer(KMeansClusterer):
    """A Gaussian mixture with diagonal covariances, which also gives a posterior."""

    weights_: np.ndarray
    variances_: np.ndarray

    def fit(self, vectors: np.ndarray) -> GMMClusterer:
        """Learn from vectors [n, dim]: centres are the components' means, labels the likeliest component."""
        refuse_too_few(vectors, self.k)
        vectors = np.asarray(vectors, np.float64)
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(self.k, covariance_type="diag", reg_covar=1e-5, random_state=self.seed)
        labels = mixture.fit(vectors).predict(vectors)
        order = ordering(mixture.means_, labels)
        self.centres_, self.labels_ = mixture.means_[order], np.argsort(order)[labels]
        self.weights_, self.variances_ = mixture.weights_[order], mixture.covariances_[order]
        return self

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """Return the likeliest component of vectors [n, dim]."""
        return self.posterior(vectors).argmax(axis=1)

    def posterior(self, vectors: np.ndarray) -> np.ndarray:
        """Return P(component | vector), vectors [n, dim] → [n, k]."""
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(self.k, covariance_type="diag")
        mixture.weights_, mixture.means_, mixture.covariances_ = self.weights_, self.centres_, self.variances_
        mixture.precisions_cholesky_ = 1 / np.sqrt(self.variances_)
        return mixture.predict_proba(np.asarray(vectors, np.float64))

    def state(self) -> dict[str, np.ndarray]:
        """Return centres, weights and variances."""
        return {"centres": self.centres_, "weights": self.weights_, "variances": self.variances_}

    def restore(self, state: Mapping[str, np.ndarray]) -> GMMClusterer:
        """Take up what `state` returned."""
        self.centres_, self.weights_, self.variances_ = state["centres"], state["weights"], state["variances"]
        return self


class DomainClusterer(GMMClusterer):
    """One cluster per domain that the data name (BTM, Li et al. 2022).

    A Gaussian around each domain gives a posterior to sentences whose domain is not known.
    """

    by_domain = True  # `fit` also takes the domains
    domains_: list[str]

    def fit(self, vectors: np.ndarray, domains: Sequence[str] | None = None) -> DomainClusterer:
        """Learn from vectors [n, dim] and their domains [n]; `domains_` are the names in the clusters' order.

        Raises MonjuError where there are no names, or not k different ones.
        """
        if not domains:
            raise MonjuError("--clusterer domain must know each sentence's domain: name its column with "
                             "--domain-column, or join data sets with --data one+other")
        names, labels = np.unique(domains, return_inverse=True)
        if len(names) != self.k:
            first = ", ".join(names[:5]) + ("…" if len(names) > 5 else "")
            raise MonjuError(f"the data have {len(names)} domains ({first}) and --k is {self.k}: "
                             + (f"use --k {len(names)}" if len(names) > 1 else "bring a second domain"))
        vectors = np.asarray(vectors, np.float64)
        parts = [vectors[labels == c] for c in range(self.k)]
        centres = np.stack([part.mean(axis=0) for part in parts])
        order = ordering(centres, labels)
        self.centres_, self.labels_ = centres[order], np.argsort(order)[labels]
        self.domains_ = names[order].tolist()
        self.variances_ = np.stack([part.var(axis=0) for part in parts])[order] + 1e-5  # never zero
        self.weights_ = np.bincount(self.labels_) / len(labels)
        return self

    def assign(self, vectors: np.ndarray, domains: Sequence[str] | None = None) -> np.ndarray:
        """Return the clusters of the domains [n]."""
        return np.array([self.domains_.index(domain) for domain in domains or ()])


TABLE = {"balanced": BalancedClusterer, "kmeans": KMeansClusterer, "gmm": GMMClusterer,
         "several-centres": SeveralCentresClusterer, "random": RandomClusterer, "domain": DomainClusterer}


def balanced_assignment(cost: np.ndarray, prices: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the cheapest assignment with cluster sizes that differ by at most one.

    The dual problem has one price per cluster: each vector takes the cluster with the least cost + price, and
    prices move until every cluster is filled (semi-discrete optimal transport; Bertsekas 1988's auction).
    What ties leave over is moved along the cheapest chains of clusters, which keeps the assignment optimal.

    Parameters
    ----------
    cost : ndarray [n, k]
        Cost of assigning a vector to a cluster.
    prices : ndarray [k], optional
        A warm start: the prices of an earlier call.

    Returns
    -------
    labels : ndarray of int [n]
        Each vector's cluster; the first n mod k clusters hold one more.
    prices : ndarray [k]
        The prices that give this assignment.

    Examples
    --------
    >>> balanced_assignment(np.array([[0.0, 1.0], [0.0, 9.0]]))[0].tolist()
    [1, 0]
    """
    n, k = cost.shape
    capacity = np.full(k, n // k)
    capacity[: n % k] += 1
    # identical sentences would all cross a border together: a little noise separates them
    cost = cost + np.random.default_rng(0).random((n, k)) * (1e-9 * max(cost.max(), 1e-9))
    prices = np.zeros(k) if prices is None else prices.copy()
    for _ in range(50):
        for c in range(k):
            others = np.delete(cost + prices, c, axis=1).min(axis=1)
            gains = np.partition(others - cost[:, c], (n - capacity[c] - 1, n - capacity[c]))
            prices[c] = gains[n - capacity[c] - 1 : n - capacity[c] + 1].mean()
        labels = (cost + prices).argmin(axis=1)
        if (np.bincount(labels, minlength=k) == capacity).all():
            return labels, prices
    while (surplus := np.bincount(labels, minlength=k) - capacity).any():
        labels = _move_one(cost, labels, surplus)
    return labels, prices


def _move_one(cost: np.ndarray, labels: np.ndarray, surplus: np.ndarray) -> np.ndarray:
    """Move one unit from an overfull cluster to one with room, along the cheapest chain (Bellman–Ford)."""
    k = len(surplus)
    step, mover = np.full((k, k), np.inf), np.zeros((k, k), int)
    for a in range(k):
        inside = np.flatnonzero(labels == a)
        if len(inside):
            extra = cost[inside] - cost[inside, a][:, None]
            mover[a], step[a] = inside[extra.argmin(axis=0)], extra.min(axis=0)
    reach, previous = np.where(surplus > 0, 0.0, np.inf), np.full(k, -1)
    for _ in range(k):
        for a in range(k):
            for b in range(k):
                if a != b and reach[a] + step[a, b] < reach[b] - 1e-15:
                    reach[b], previous[b] = reach[a] + step[a, b], a
    target = np.where(surplus < 0, reach, np.inf).argmin()
    labels = labels.copy()
    while surplus[target] <= 0 and previous[target] >= 0:
        source = previous[target]
        labels[mover[source, target]] = target
        target = source
    return labels


def ordering(centres: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return cluster numbers in a reproducible order: largest first, then by centre."""
    sizes = np.bincount(labels, minlength=len(centres))
    return np.array(sorted(range(len(centres)), key=lambda c: (-sizes[c], *np.round(centres[c], 6))))


def in_order(centres: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centres and labels renumbered by `ordering`."""
    order = ordering(centres, labels)
    return centres[order], np.argsort(order)[labels]


def refuse_too_few(vectors: np.ndarray, k: int) -> int:
    """Return how many vectors differ. Raises MonjuError where they cannot fill k clusters."""
    if len(vectors) < k:
        raise MonjuError(f"{len(vectors)} sentences cannot make {k} clusters: "
                         "bring more sentences or choose a smaller --k")
    distinct = len({row.tobytes() for row in np.asarray(vectors, np.float32)})
    if distinct < k:
        raise MonjuError(f"only {distinct} of {len(vectors)} sentences differ for the embedder, too few for "
                         f"{k} clusters: choose a smaller --k, more data or another --embedder")
    return distinct


def refuse_empty(labels: np.ndarray, k: int) -> None:
    """Raise MonjuError where a cluster is empty."""
    for cluster, size in zip(cluster_names(k), np.bincount(labels, minlength=k)):
        if size == 0:
            raise MonjuError(f"cluster {cluster} came out empty: "
                             "choose a smaller --k or --clusterer balanced")
