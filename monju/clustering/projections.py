"""Projections: vectors → a flat map, two coordinates a sentence.

A projection sees vectors [n, dim] and the clusters' centres [k, dim]; it knows nothing of texts or
labels. `fit` learns from a sample, `transform` places anything new in the same map, `state` and `restore`
keep what was learned as named arrays, without pickle; the sample's vectors are kept by whoever drew it.
A new projection is one class here, one line in TABLE and one text on what it preserves.
"""

import warnings

import numpy as np
from sklearn.decomposition import PCA as Components

from monju.errors import MonjuError


class CentrePlane:
    """The plane through three centres: the nearest centre, and so every border, is exact in it.

    A sentence's distance off the plane is common to all three centres: d_c² = |p − c|² + h². The origin is
    the centres' centroid, and A is straight above it.
    """

    def __init__(self, seed=0):
        """Nothing is drawn by chance."""

    def fit(self, vectors, centres):
        """Learn from the centres [3, dim] alone. Raises MonjuError unless there are three, not on one line."""
        centres = np.asarray(centres, np.float64)
        if len(centres) != 3:
            raise MonjuError(f"a plane goes through three centres, and there are {len(centres)}: choose another projection")
        self.origin = centres.mean(axis=0)
        up, side = centres[0] - self.origin, centres[2] - centres[1]
        size = max(np.linalg.norm(up), np.linalg.norm(side))
        if np.linalg.norm(up) <= 1e-6 * size:  # A between B and C: on one line whatever else
            raise on_one_line()
        up = up / np.linalg.norm(up)
        side = side - (side @ up) * up
        if np.linalg.norm(side) <= 1e-6 * size:
            raise on_one_line()
        self.axes = np.stack([side / np.linalg.norm(side), up])
        return self

    def transform(self, vectors):
        """vectors [n, dim] → coordinates in the plane [n, 2]."""
        return (np.asarray(vectors, np.float64) - self.origin) @ self.axes.T

    def off(self, vectors):
        """vectors [n, dim] → h [n], how far off the plane each stands."""
        from_origin = np.asarray(vectors, np.float64) - self.origin
        return np.linalg.norm(from_origin - (from_origin @ self.axes.T) @ self.axes, axis=1)

    def state(self):
        return {"origin": self.origin, "axes": self.axes}

    def restore(self, state, vectors):
        self.origin, self.axes = state["origin"], state["axes"]
        return self


class PCA:
    """The two directions in which the sample spreads most."""

    def __init__(self, seed=0):
        self.seed = seed

    def fit(self, vectors, centres):
        """Learn from vectors [n, dim]. Raises MonjuError for fewer than two sentences or dimensions."""
        if min(np.shape(vectors)) < 2:
            raise MonjuError("two directions need at least two sentences in two dimensions: bring more sentences")
        found = Components(2, random_state=self.seed).fit(np.asarray(vectors, np.float64))
        self.mean, self.components = found.mean_, np.ascontiguousarray(found.components_)
        return self

    def transform(self, vectors):
        """vectors [n, dim] → [n, 2]."""
        return (np.asarray(vectors, np.float64) - self.mean) @ self.components.T

    def state(self):
        return {"mean": self.mean, "components": self.components}

    def restore(self, state, vectors):
        self.mean, self.components = state["mean"], state["components"]
        return self


class Umap:
    """UMAP (McInnes, Healy & Melville 2018): neighbours stay neighbours, distances between groups mean little.

    A new vector lands where umap-learn's own `transform` starts from: the mean of its nearest neighbours'
    places in the sample, weighted by UMAP's membership strengths; a member of the sample on its own place.
    The rounds by which umap-learn then moves it are left out: they need a random stream and a library that
    takes seconds to wake, and move it by some hundredths of the map (a test holds the two together).
    """

    neighbours = 15
    landmarks = 1500  # sentences that it is fitted on, at most; the others are placed among them
    fewest = 10  # sentences, below which there is no neighbourhood to speak of

    def __init__(self, seed=0):
        self.seed = seed

    def fit(self, vectors, centres):
        """Learn from vectors [n, dim]. Raises MonjuError for a sample that is too small."""
        if len(vectors) < self.fewest:
            raise MonjuError(f"{len(vectors)} sentences are too few for UMAP: bring at least {self.fewest}")
        # evenly through the sample: the time of a fit grows with it, and a map of so many is as telling
        self.rows = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), self.landmarks)).astype(np.int32))
        self.vectors = np.asarray(vectors, np.float32)[self.rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a seed means one thread, and that tiny samples are tiny
            from umap import UMAP  # with it comes a compiler: seconds, which only this should cost

            self.embedding = UMAP(n_neighbors=self._near(), random_state=self.seed, n_epochs=200,
                                  init="spectral" if len(vectors) > 100 else "random").fit_transform(self.vectors)
        self.embedding = np.ascontiguousarray(self.embedding, np.float32)
        return self

    def transform(self, vectors):
        """vectors [n, dim] → [n, 2]."""
        vectors = np.asarray(vectors, np.float32)
        return np.concatenate([self._place(vectors[start : start + 256]) for start in range(0, len(vectors), 256)] or
                              [np.zeros((0, 2))])

    def _place(self, vectors):
        squared = (vectors**2).sum(1)[:, None] - 2 * vectors @ self.vectors.T + (self.vectors**2).sum(1)
        near = np.argsort(squared, axis=1, kind="stable")[:, : self._near()]
        # the nearest few again, outright: the short form leaves a sample's own member at 1e-4 instead of 0
        d = np.sqrt(((vectors[:, None] - self.vectors[near]).astype(np.float64) ** 2).sum(axis=2))
        order = np.argsort(d, axis=1, kind="stable")
        near, d = np.take_along_axis(near, order, axis=1), np.take_along_axis(d, order, axis=1)
        weights = memberships(d)
        weights[d[:, 0] == 0, 1:] = 0
        return np.einsum("nj,njd->nd", weights / weights.sum(axis=1, keepdims=True), self.embedding[near])

    def state(self):
        return {"embedding": self.embedding, "rows": self.rows}

    def restore(self, state, vectors):
        self.embedding, self.rows = state["embedding"], state["rows"]
        self.vectors = np.asarray(vectors, np.float32)[self.rows]
        return self

    def _near(self):
        return min(self.neighbours, len(self.vectors) - 1)


TABLE = {"plane": CentrePlane, "pca": PCA, "umap": Umap}


def memberships(d):
    """UMAP's strengths exp(−d / σ) of sorted distances [n, neighbours], σ such that all but the first sum to log₂ of
    their number (its paper's section 3.1; the first is left out there as the point itself)."""
    target, low, high = np.log2(max(d.shape[1], 2)), np.zeros(len(d)), np.full(len(d), np.inf)
    sigma = np.ones(len(d))
    for _ in range(64):
        over = np.exp(-d[:, 1:] / sigma[:, None]).sum(axis=1) > target
        low, high = np.where(over, low, sigma), np.where(over, sigma, high)
        sigma = np.where(np.isinf(high), sigma * 2, (low + high) / 2)
        sigma = np.clip(sigma, 1e-3 * np.maximum(d.mean(axis=1), 1e-12), 1e12)  # UMAP's own floor
    return np.exp(-d / sigma[:, None])


def distances_of(point, off, centres):
    """True distances of points [n, 2] that stand `off` the plane, to centres [3, 2] in it → [n, 3]."""
    point, centres = np.asarray(point, np.float64), np.asarray(centres, np.float64)
    return np.sqrt(((point[:, None] - centres) ** 2).sum(axis=2) + off**2)


def borders(centres):
    """Where two of three centres [3, 2] are equally near, and the third is farther: the point where all three borders
    meet (the circumcentre) and each border's direction from it, [2] and [3, 2]. Raises MonjuError for one line."""
    a, b, c = centres = np.asarray(centres, np.float64)
    sides = 2 * np.stack([b - a, c - a])
    if abs(np.linalg.det(sides)) <= 1e-9 * max(1e-300, (sides**2).sum()):
        raise on_one_line()
    meeting = np.linalg.solve(sides, [b @ b - a @ a, c @ c - a @ a])
    rays = []
    for i, j, other in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        x, y = centres[j] - centres[i]
        ray = np.array([-y, x]) / np.hypot(x, y)
        rays.append(ray if ray @ (centres[other] - centres[i]) < 0 else -ray)  # away from the third
    return meeting, np.stack(rays)


def on_one_line():
    return MonjuError("the three centres stand on one line, through which there is no single plane: choose another projection")
