"""Clusterers: vectors → k clusters A, B, C… with centres.

A clusterer sees vectors [n, dim] only; it knows nothing of sentences, labels or experts.
`fit` learns `centres_` [k, dim] and `labels_` [n]; assignment of anything new is the nearest
centre. A new clusterer is one class here and one line in TABLE.
"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from monju.ensemble.subsets import cluster_names
from monju.errors import MonjuError


def distances(vectors, centres):
    """Euclidean distances, [n, dim] × [k, dim] → float64 [n, k].

    Differences are squared outright: the usual |x|² − 2xc + |c|² would leave a sentence that
    stands on a centre at 1e-4 instead of 0.
    """
    vectors, centres = np.asarray(vectors, np.float64), np.asarray(centres, np.float64)
    return np.stack([np.sqrt(((vectors - centre) ** 2).sum(axis=1)) for centre in centres], axis=1)


class KMeansClusterer:
    """Plain k-means; clusters may differ much in size."""

    def __init__(self, k, seed=0):
        self.k, self.seed = k, seed

    def fit(self, vectors):
        """Learn from vectors [n, dim]. Raises MonjuError for fewer distinct sentences than clusters."""
        refuse_too_few(vectors, self.k)
        found = KMeans(self.k, n_init=10, random_state=self.seed).fit(vectors)
        self.centres_, self.labels_ = in_order(found.cluster_centers_, found.labels_)
        return self

    def posterior(self, vectors):
        """k-means has none."""
        return None

    def state(self):
        """What is needed to place a new sentence, as named arrays."""
        return {"centres": self.centres_}

    def restore(self, state):
        """The inverse of `state`."""
        self.centres_ = state["centres"]
        return self


class BalancedClusterer(KMeansClusterer):
    """k-means whose clusters are held to equal size while fitting, so that no expert starves (c-BTM's)."""

    max_rounds = 100

    def fit(self, vectors):
        """Learn from vectors [n, dim]: sizes of `labels_` differ by at most one.

        Lloyd's two steps, with the assignment step solved exactly under equal capacities
        (Bradley, Bennett & Demiriz 2000). Raises MonjuError as k-means does.
        """
        refuse_too_few(vectors, self.k)
        vectors = np.asarray(vectors, np.float64)
        found = KMeans(self.k, n_init=10, random_state=self.seed).fit(vectors)
        centres, _ = in_order(found.cluster_centers_, found.labels_)  # the one sentence more goes to the largest
        labels = prices = None
        for _ in range(self.max_rounds):
            before = labels
            labels, prices = balanced_assignment(distances(vectors, centres) ** 2, prices)
            if before is not None and (labels != before).mean() < 1e-4:  # nobody moves any more
                break
            centres = np.stack([vectors[labels == c].mean(axis=0) for c in range(self.k)])
        self.centres_, self.labels_ = in_order(centres, labels)
        return self


class RandomClusterer(KMeansClusterer):
    """A control: clusters of equal size drawn by lot, to tell whether geometry matters at all."""

    def fit(self, vectors):
        """Deal out vectors [n, dim] at random; the centres are the clusters' means, nearly one point."""
        refuse_too_few(vectors, self.k)
        labels = np.random.default_rng(self.seed).permutation(np.arange(len(vectors)) % self.k)
        centres = np.stack([np.asarray(vectors, np.float64)[labels == c].mean(axis=0) for c in range(self.k)])
        self.centres_, self.labels_ = in_order(centres, labels)
        return self


class GMMClusterer(KMeansClusterer):
    """A Gaussian mixture with diagonal covariances, which also gives a posterior."""

    def fit(self, vectors):
        """Learn from vectors [n, dim]; the centres are the components' means, labels the likeliest component."""
        refuse_too_few(vectors, self.k)
        vectors = np.asarray(vectors, np.float64)
        found = GaussianMixture(self.k, covariance_type="diag", reg_covar=1e-5, random_state=self.seed).fit(vectors)
        labels = found.predict(vectors)
        order = ordering(found.means_, labels)
        self.centres_, self.labels_ = found.means_[order], np.argsort(order)[labels]
        self.weights_, self.variances_ = found.weights_[order], found.covariances_[order]
        return self

    def posterior(self, vectors):
        """P(c | x) of each component, vectors [n, dim] → [n, k]."""
        mixture = GaussianMixture(self.k, covariance_type="diag")
        mixture.weights_, mixture.means_, mixture.covariances_ = self.weights_, self.centres_, self.variances_
        mixture.precisions_cholesky_ = 1 / np.sqrt(self.variances_)
        return mixture.predict_proba(np.asarray(vectors, np.float64))

    def state(self):
        return {"centres": self.centres_, "weights": self.weights_, "variances": self.variances_}

    def restore(self, state):
        self.centres_, self.weights_, self.variances_ = state["centres"], state["weights"], state["variances"]
        return self


class DomainClusterer(GMMClusterer):
    """One cluster a domain, as the data name it (BTM, Li et al. 2022): a Gaussian around each gives a posterior to sentences
    whose domain nobody names."""

    by_domain = True  # `fit` is also given the domains

    def fit(self, vectors, domains):
        """Learn from vectors [n, dim] and their domains (n names); `domains_` are the names in the clusters' order.

        Raises MonjuError where there are no names, or not k different ones.
        """
        if not domains:
            raise MonjuError("--clusterer domain must know each sentence's domain: name its column with --domain-column, "
                             "or join data sets with --data one+other")
        found, labels = np.unique(domains, return_inverse=True)
        if len(found) != self.k:
            raise MonjuError(f"the data have {len(found)} domains ({', '.join(found[:5])}{'…' if len(found) > 5 else ''}) "
                             f"and --k is {self.k}: " + (f"use --k {len(found)}" if len(found) > 1 else "bring a second domain"))
        vectors = np.asarray(vectors, np.float64)
        parts = [vectors[labels == c] for c in range(self.k)]
        centres = np.stack([part.mean(axis=0) for part in parts])
        order = ordering(centres, labels)
        self.centres_, self.labels_, self.domains_ = centres[order], np.argsort(order)[labels], found[order].tolist()
        self.variances_ = np.stack([part.var(axis=0) for part in parts])[order] + 1e-5  # as scikit-learn's mixtures: never zero
        self.weights_ = np.bincount(self.labels_) / len(labels)
        return self


TABLE = {"balanced": BalancedClusterer, "kmeans": KMeansClusterer, "gmm": GMMClusterer, "random": RandomClusterer,
         "domain": DomainClusterer}


def balanced_assignment(cost, prices=None):
    """The cheapest assignment with cluster sizes that differ by at most one (the first n mod k hold the one more).

    cost [n, k] → labels [n] and the prices [k] that clear it, a warm start for the next call.

    The problem's dual has one price per cluster: everyone takes the cluster with the least
    cost + price, and prices move until every cluster is wanted by its share (semi-discrete
    optimal transport; Bertsekas 1988 for the auction). What ties leave over is moved along
    the cheapest chains of clusters, which keeps the assignment optimal.
    """
    n, k = cost.shape
    capacity = np.full(k, n // k)
    capacity[: n % k] += 1
    # identical sentences would all cross a border together: a grain of noise lets them part
    cost = cost + np.random.default_rng(0).random((n, k)) * (1e-9 * max(cost.max(), 1e-9))
    prices = np.zeros(k) if prices is None else prices.copy()
    for _ in range(50):
        for c in range(k):
            others = np.delete(cost + prices, c, axis=1).min(axis=1)
            eagerness = np.partition(others - cost[:, c], (n - capacity[c] - 1, n - capacity[c]))
            prices[c] = eagerness[n - capacity[c] - 1 : n - capacity[c] + 1].mean()
        labels = (cost + prices).argmin(axis=1)
        if (np.bincount(labels, minlength=k) == capacity).all():
            return labels, prices
    while (surplus := np.bincount(labels, minlength=k) - capacity).any():
        labels = _move_one(cost, labels, surplus)
    return labels, prices


def _move_one(cost, labels, surplus):
    """One sentence fewer in an overfull cluster and one more in a wanting one, as cheaply as can be.

    The chain may pass through other clusters; Bellman–Ford finds it among the k clusters.
    """
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


def ordering(centres, labels):
    """Old cluster numbers in their lasting order: largest first, then by centre, so that A, B, C recur."""
    sizes = np.bincount(labels, minlength=len(centres))
    return np.array(sorted(range(len(centres)), key=lambda c: (-sizes[c], *np.round(centres[c], 6))))


def in_order(centres, labels):
    """Centres and labels renamed into that order."""
    order = ordering(centres, labels)
    return centres[order], np.argsort(order)[labels]


def refuse_too_few(vectors, k):
    """Raise MonjuError where k clusters cannot all be filled with sentences that differ."""
    if len(vectors) < k:
        raise MonjuError(f"{len(vectors)} sentences cannot make {k} clusters: bring more sentences or choose a smaller --k")
    distinct = len({row.tobytes() for row in np.asarray(vectors, np.float32)})
    if distinct < k:
        raise MonjuError(f"only {distinct} of {len(vectors)} sentences differ for the embedder, too few for {k} clusters: "
                         "choose a smaller --k, more data or another --embedder")


def refuse_empty(labels, k):
    """Raise MonjuError where a cluster came out empty."""
    for cluster, size in zip(cluster_names(k), np.bincount(labels, minlength=k)):
        if size == 0:
            raise MonjuError(f"cluster {cluster} came out empty: choose a smaller --k or --clusterer balanced")
