"""The cluster model: an embedder and a clusterer, fitted on a run's training sentences.

It lies in the run's folder clustering/ and places every new sentence. Knows nothing of labels or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from monju.clustering import clusterers, embedders, embedding_cache
from monju.config import Config
from monju.data.splits import stratified
from monju.errors import MonjuError

SAMPLE = 100_000  # sentences at most that embedder and clusterer are fitted on
BLOCK = 20_000  # of the others, which are placed by what was fitted, so many vectors at a time


class Clustering:
    """Places sentences among the clusters: text → vector → distances to the k clusters.

    Parameters
    ----------
    config : Config
        Names the embedder and the clusterer; k, seed, and what the embedder asks for.

    Attributes
    ----------
    embedder : Embedder
        Texts → vectors.
    clusterer : Clusterer
        Vectors → clusters.
    labels_ : ndarray of int [n]
        The cluster of each sentence that it was fitted on.
    """

    labels_: np.ndarray

    def __init__(self, config: Config):
        self.embedder: Any = embedders.TABLE[config.embedder](config)
        self.clusterer: Any = clusterers.TABLE[config.clusterer](config.k, config.seed)

    def fit(self, texts: Sequence[str], domains: Sequence[str] | None = None) -> Clustering:
        """Fit embedder and clusterer, beyond SAMPLE sentences on a random sample, in which no domain is lost.

        Parameters
        ----------
        texts : sequence of str [n]
            The training sentences.
        domains : sequence of str [n], optional
            Their domains, for a clusterer that asks for them.

        Returns
        -------
        Clustering
            Itself.

        Raises
        ------
        MonjuError
            For sentences that cannot fill k clusters.
        """
        by_domain = getattr(self.clusterer, "by_domain", False)
        domain_of = np.array(domains) if by_domain and domains else np.zeros(len(texts), np.int8)
        rows = stratified(domain_of, SAMPLE, 0) if len(texts) > SAMPLE else np.arange(len(texts))
        self.embedder, vectors = embedding_cache.fitted(self.embedder, [texts[int(row)] for row in rows])

        def of(rows: np.ndarray) -> list[Any]:
            return [domains and [domains[int(row)] for row in rows]] if by_domain else []

        self.labels_ = np.empty(len(texts), np.int64)
        self.labels_[rows] = self.clusterer.fit(vectors, *of(rows)).labels_
        others = np.setdiff1d(np.arange(len(texts)), rows)
        for block in (others[start:start + BLOCK] for start in range(0, len(others), BLOCK)):
            placed = self.embedder.transform([texts[row] for row in block])
            self.labels_[block] = self.clusterer.assign(placed, *of(block))
        clusterers.refuse_empty(self.labels_, self.clusterer.k)
        return self

    def place(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Place sentences.

        Parameters
        ----------
        texts : sequence of str [n]
            Any sentences.

        Returns
        -------
        vectors : ndarray of float32 [n, dim]
            Their embeddings.
        distances : ndarray [n, k]
            Euclidean distance to each cluster's centre, or to the nearest of its centres.
        posterior : ndarray [n, k] or None
            P(cluster | sentence), where the clusterer is a mixture.
        """
        return self.place_vectors(self.embedder.transform(texts))

    def place_vectors(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return what `place` returns, from vectors [n, dim]."""
        return vectors, self.clusterer.distances(vectors), self.clusterer.posterior(vectors)

    def save(self, folder: Path) -> None:
        """Write the fitted model into a folder."""
        self.embedder.save(folder)
        arrays = {name: np.ascontiguousarray(array) for name, array in self.clusterer.state().items()}
        save_file({**arrays, "labels": self.labels_.astype(np.int32)}, folder / "clusterer.safetensors")

    @classmethod
    def load(cls, folder: Path, config: Config) -> Clustering:
        """Return the model that `save` wrote for a configuration. Raises MonjuError for a damaged folder."""
        clustering = cls(config)
        try:
            state = load_file(folder / "clusterer.safetensors")
            clustering.labels_ = state.pop("labels")
            clustering.clusterer.restore(state)
            clustering.embedder.restore(folder)
            if np.shape(clustering.clusterer.centres_)[:-1] != (config.k,) or clustering.labels_.ndim != 1:
                raise ValueError("other clusters than its settings'")
        except (OSError, ValueError, KeyError, SafetensorError):
            raise MonjuError(f"the clusters in {folder} are damaged: "
                             "restore the folder or train the run again") from None
        return clustering
