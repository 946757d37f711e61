"""Projections: vectors → a flat map, two coordinates a sentence.

Knows nothing of texts or labels. A new projection is one class here, one line in TABLE and one text in the
web app on what it preserves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from monju.errors import MonjuError


class Projection(Protocol):
    """A projection, made from a seed. What it learned is kept as named arrays; its sample by the caller."""

    def fit(self, vectors: np.ndarray, centres: np.ndarray) -> Projection:
        """Learn from a sample of vectors [n, dim] and the clusters' centres [k, dim].

        Raises MonjuError where they do not suffice.
        """
        ...

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """Return the coordinates [n, 2] of vectors [n, dim]."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return what was learned, as named arrays."""
        ...

    def restore(self, state: Mapping[str, np.ndarray], vectors: np.ndarray) -> Projection:
        """Take up what `state` returned; `vectors` is the sample that it was fitted on."""
        ...


class CentrePlane:
    """The plane through three centres: the nearest centre, and so every border, is exact in it.

    A vector's distance h off the plane is common to all three centres: d_c² = |p − c|² + h². The origin is
    the centres' centroid, and A is straight above it.
    """

    origin: np.ndarray
    axes: np.ndarray

    def __init__(self, seed: int = 0):
        pass

    def fit(self, vectors: np.ndarray, centres: np.ndarray) -> CentrePlane:
        """Learn from the centres [3, dim]. Raises MonjuError unless there are three, not on one line."""
        centres = np.asarray(centres, np.float64)
        if len(centres) != 3:
            raise MonjuError(f"a plane goes through three centres, and there are {len(centres)}: "
                             "choose another projection")
        self.origin = centres.mean(axis=0)
        up, side = centres[0] - self.origin, centres[2] - centres[1]
        size = max(np.linalg.norm(up), np.linalg.norm(side))
        if np.linalg.norm(up) <= 1e-6 * size:  # A between B and C
            raise on_one_line()
        up = up / np.linalg.norm(up)
        side = side - (side @ up) * up
        if np.linalg.norm(side) <= 1e-6 * size:
            raise on_one_line()
        self.axes = np.stack([side / np.linalg.norm(side), up])
        return self

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """Return coordinates [n, 2] in the plane."""
        return (np.asarray(vectors, np.float64) - self.origin) @ self.axes.T

    def off(self, vectors: np.ndarray) -> np.ndarray:
        """Return the distances h [n] of vectors [n, dim] off the plane."""
        from_origin = np.asarray(vectors, np.float64) - self.origin
        return np.linalg.norm(from_origin - (from_origin @ self.axes.T) @ self.axes, axis=1)

    def state(self) -> dict[str, np.ndarray]:
        """Return origin and axes."""
        return {"origin": self.origin, "axes": self.axes}

    def restore(self, state: Mapping[str, np.ndarray], vectors: np.ndarray) -> CentrePlane:
        """Take up what `state` returned."""
        self.origin, self.axes = state["origin"], state["axes"]
        return self


def plane_of(centres: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Return a function from vectors [n, dim] to a plane [n, 2], and the centres [k, 2] in it.

    The plane is the three centres' own; of another number of centres, or three on one line, the two
    directions in which they differ most.
    """
    try:
        transform = CentrePlane().fit(centres, centres).transform
    except MonjuError:  # not three, or on one line
        origin = centres.mean(axis=0)
        axes = np.linalg.svd(centres - origin)[2][:2]

        def transform(vectors: np.ndarray) -> np.ndarray:
            return (vectors - origin) @ axes.T

    return transform, transform(np.asarray(centres, np.float64))


class PCA:
    """The two directions of largest variance in the sample."""

    mean: np.ndarray
    components: np.ndarray

    def __init__(self, seed: int = 0):
        self.seed = seed

    def fit(self, vectors: np.ndarray, centres: np.ndarray) -> PCA:
        """Learn from vectors [n, dim]. Raises MonjuError for fewer than two sentences or dimensions."""
        if min(np.shape(vectors)) < 2:
            raise MonjuError("two directions need at least two sentences in two dimensions: "
                             "bring more sentences")
        from sklearn.decomposition import PCA as Components

        pca = Components(2, random_state=self.seed).fit(np.asarray(vectors, np.float64))
        self.mean, self.components = pca.mean_, np.ascontiguousarray(pca.components_)
        return self

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """Return coordinates [n, 2]."""
        return (np.asarray(vectors, np.float64) - self.mean) @ self.components.T

    def state(self) -> dict[str, np.ndarray]:
        """Return mean and components."""
        return {"mean": self.mean, "components": self.components}

    def restore(self, state: Mapping[str, np.ndarray], vectors: np.ndarray) -> PCA:
        """Take up what `state` returned."""
        self.mean, self.components = state["mean"], state["components"]
        return self


class Umap:
    """UMAP (McInnes, Healy & Melville 2018): keeps neighbourhoods; distances between groups mean little.

    A new vector gets the position from which umap-learn's `transform` starts: the mean of its nearest
    neighbours' positions in the sample, weighted by UMAP's membership strengths; a member of the sample its
    own position. The optimisation that umap-learn then does is left out: it needs a random stream and a
    library that takes seconds to import, and moves a point by hundredths of the map (a test compares both).
    """

    neighbours = 15
    landmarks = 1500  # sentences that it is fitted on, at most; the others are placed among them
    fewest = 10  # sentences that a fit needs
    rows: np.ndarray
    vectors: np.ndarray
    embedding: np.ndarray

    def __init__(self, seed: int = 0):
        self.seed = seed

    def fit(self, vectors: np.ndarray, centres: np.ndarray) -> Umap:
        """Learn from vectors [n, dim]. Raises MonjuError for a sample that is too small."""
        if len(vectors) < self.fewest:
            raise MonjuError(f"{len(vectors)} sentences are too few for UMAP: bring at least {self.fewest}")
        # evenly through the sample: the time of a fit grows with it
        n = min(len(vectors), self.landmarks)
        self.rows = np.unique(np.linspace(0, len(vectors) - 1, n).astype(np.int32))
        self.vectors = np.asarray(vectors, np.float32)[self.rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on threads with a seed, and on small samples
            from umap import UMAP  # imports a compiler, which takes seconds: only where it is used

            umap = UMAP(n_neighbors=self._near(), random_state=self.seed, n_epochs=200,
                        init="spectral" if len(vectors) > 100 else "random")
            self.embedding = np.ascontiguousarray(umap.fit_transform(self.vectors), np.float32)
        return self

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """Return coordinates [n, 2]."""
        vectors = np.asarray(vectors, np.float32)
        batches = [vectors[start : start + 256] for start in range(0, len(vectors), 256)]
        return np.concatenate([self._place(batch) for batch in batches] or [np.zeros((0, 2))])

    def _place(self, vectors: np.ndarray) -> np.ndarray:
        """Return the coordinates [n, 2] of a batch."""
        squared = (vectors**2).sum(1)[:, None] - 2 * vectors @ self.vectors.T + (self.vectors**2).sum(1)
        near = np.argsort(squared, axis=1, kind="stable")[:, : self._near()]
        # the nearest again, by differences: the form above leaves a member of the sample at 1e-4 instead of 0
        d = np.sqrt(((vectors[:, None] - self.vectors[near]).astype(np.float64) ** 2).sum(axis=2))
        order = np.argsort(d, axis=1, kind="stable")
        near, d = np.take_along_axis(near, order, axis=1), np.take_along_axis(d, order, axis=1)
        weights = memberships(d)
        weights[d[:, 0] == 0, 1:] = 0
        return np.einsum("nj,njd->nd", weights / weights.sum(axis=1, keepdims=True), self.embedding[near])

    def state(self) -> dict[str, np.ndarray]:
        """Return the landmarks' coordinates and row numbers."""
        return {"embedding": self.embedding, "rows": self.rows}

    def restore(self, state: Mapping[str, np.ndarray], vectors: np.ndarray) -> Umap:
        """Take up what `state` returned, and the landmarks among the sample's vectors."""
        self.embedding, self.rows = state["embedding"], state["rows"]
        self.vectors = np.asarray(vectors, np.float32)[self.rows]
        return self

    def _near(self) -> int:
        """Return the number of neighbours, fewer in a small sample."""
        return min(self.neighbours, len(self.vectors) - 1)


TABLE: dict[str, type] = {"plane": CentrePlane, "pca": PCA, "umap": Umap}


def memberships(d: np.ndarray) -> np.ndarray:
    """Return UMAP's membership strengths exp(−d / σ) of sorted distances [n, neighbours] (its section 3.1).

    σ is such that all but the first, which is the point itself, sum to log₂ of their number.
    """
    target, low, high = np.log2(max(d.shape[1], 2)), np.zeros(len(d)), np.full(len(d), np.inf)
    sigma = np.ones(len(d))
    for _ in range(64):
        over = np.exp(-d[:, 1:] / sigma[:, None]).sum(axis=1) > target
        low, high = np.where(over, low, sigma), np.where(over, sigma, high)
        sigma = np.where(np.isinf(high), sigma * 2, (low + high) / 2)
        sigma = np.clip(sigma, 1e-3 * np.maximum(d.mean(axis=1), 1e-12), 1e12)  # UMAP's own floor
    return np.exp(-d / sigma[:, None])


def distances_of(point: np.ndarray, off: np.ndarray | float, centres: np.ndarray) -> np.ndarray:
    """Return the distances [n, 3] of points [n, 2], `off` the plane, to centres [3, 2] in it."""
    point, centres = np.asarray(point, np.float64), np.asarray(centres, np.float64)
    return np.sqrt(((point[:, None] - centres) ** 2).sum(axis=2) + off**2)


def borders(centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where two of three centres [3, 2] are equally near, and the third is farther.

    Returns
    -------
    meeting : ndarray [2]
        The point where the three borders meet (the circumcentre).
    rays : ndarray [3, 2]
        Each border's direction from it.

    Raises
    ------
    MonjuError
        Where the centres lie on one line.
    """
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


def on_one_line() -> MonjuError:
    """Return the error for three centres on one line."""
    return MonjuError("the three centres stand on one line, through which there is no single plane: "
                      "choose another projection")
