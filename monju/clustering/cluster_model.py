"""Clustering: an embedder and a clusterer together — where a sentence stands among the clusters.

Fitted once on a run's training sentences, kept in the run's folder clustering/, asked for every
sentence after that. Knows nothing of labels or models.
"""

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from monju.clustering import clusterers, embedders
from monju.clustering import embedding_cache as vectors_of
from monju.errors import MonjuError


class Clustering:
    """Places sentences: texts → vectors → distances to the k centres."""

    def __init__(self, config):
        self.embedder = embedders.TABLE[config.embedder](config)
        self.clusterer = clusterers.TABLE[config.clusterer](config.k, config.seed)

    def fit(self, texts, domains=None):
        """Learn embedder and clusters from the training sentences (and the names of their domains, where the clusterer
        asks for them); `labels_` [n] is each one's cluster."""
        self.embedder, vectors = vectors_of.fitted(self.embedder, texts)
        named = (domains,) if getattr(self.clusterer, "by_domain", False) else ()
        self.labels_ = self.clusterer.fit(vectors, *named).labels_
        clusterers.refuse_empty(self.labels_, self.clusterer.k)
        return self

    def place(self, texts):
        """texts [n] → vectors float32 [n, dim], distances [n, k], posterior [n, k] or None."""
        return self.place_vectors(self.embedder.transform(texts))

    def place_vectors(self, vectors):
        """As `place`, for vectors that are there already."""
        return vectors, clusterers.distances(vectors, self.clusterer.centres_), self.clusterer.posterior(vectors)

    def save(self, folder):
        self.embedder.save(folder)
        arrays = {name: np.ascontiguousarray(array) for name, array in self.clusterer.state().items()}
        save_file({**arrays, "labels": self.labels_.astype(np.int32)}, folder / "clusterer.safetensors")

    @classmethod
    def load(cls, folder, config):
        """The clustering that `save` wrote for this configuration. Raises MonjuError for a damaged folder."""
        clustering = cls(config)
        try:
            state = load_file(folder / "clusterer.safetensors")
            clustering.labels_ = state.pop("labels")
            clustering.clusterer.restore(state)
            clustering.embedder.restore(folder)
        except (OSError, ValueError, KeyError, SafetensorError):
            raise MonjuError(f"the clusters in {folder} are damaged: restore the folder or train the run again") from None
        return clustering
