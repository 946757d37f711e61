"""The map of a run's sentences, in its folder map/.

A fixed sample of the training sentences with their coordinates in every projection, every model's logits, and
figures on the clusters. Rows are stored by number: no sentence is stored, only single words that are frequent
in a cluster; `load_run_data` reads them again from the run's source.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from monju.clustering import clusterers, projections
from monju.data import sources
from monju.data.rows import Split
from monju.ensemble import subsets
from monju.ensemble.outputs import ModelOutputs, Predictions
from monju.errors import MonjuError
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run

if TYPE_CHECKING:
    from monju.inference.reader import SentenceReader

MOST = 10_000  # sentences on a map, whatever the data's size
MOST_FOR_SILHOUETTE = 4_000  # sentences: every pair of them is measured
WORDS = 10  # characteristic words of a cluster
FEWEST_WITH_WORD = 3  # sentences that must hold a word before it is stored


@dataclass(frozen=True, eq=False)
class ClusterMap:
    """A run's map.

    Parameters
    ----------
    rows : ndarray of int [n]
        Numbers of the sampled training sentences.
    labels, clusters : ndarray of int [n]
        Their class and cluster numbers.
    vectors : ndarray [n, dim]
        Their embeddings.
    logits : ndarray [n, models, labels]
        Every model's logits: experts, then the baseline's members.
    coordinates : dict of str to ndarray [n, 2]
        Their coordinates in each projection.
    projections : dict of str to Projection
        The fitted projections.
    facts : dict
        Figures on the clusters, as map.json holds them.
    """

    rows: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray
    vectors: np.ndarray
    logits: np.ndarray
    coordinates: dict[str, np.ndarray]
    projections: dict[str, projections.Projection]
    facts: dict[str, Any]

    @classmethod
    def load(cls, run: Run) -> ClusterMap:
        """Return the map of a run. Raises MonjuError where there is none, or a damaged one."""
        folder = run.path / "map"
        if not folder.is_dir():
            raise MonjuError(f"the run {run.path} has no map yet: draw one with `{command(run)}`")
        try:
            arrays = load_file(folder / "map.safetensors")
            facts = json.loads((folder / "map.json").read_text(encoding="utf-8"))
            vectors = arrays["vectors"].astype(np.float32)
            fitted = {}
            for name in facts["projections"]:
                state = {key.split(".", 1)[1]: array for key, array in arrays.items()
                         if key.startswith(f"{name}.")}
                fitted[name] = projections.TABLE[name](run.config.seed).restore(state, vectors)
            return cls(arrays["rows"], arrays["labels"], arrays["clusters"], vectors,
                       arrays["logits"].astype(np.float32),
                       {name: arrays[f"coordinates {name}"] for name in fitted}, fitted, facts)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise MonjuError(f"{folder} is damaged ({error}): "
                             f"draw the map again with `{command(run)}`") from None

    def predict(self, monju: SentenceReader) -> Predictions:
        """Return the ensembles' predictions on the sample, under the loaded run's gate and fusion."""
        return self.outputs(monju).decide_as(monju.config)

    def outputs(self, monju: SentenceReader) -> ModelOutputs:
        """Return the model outputs on the sample, with no forward pass."""
        _, distances, posterior = monju.clustering.place_vectors(self.vectors)
        return ModelOutputs(monju.clusters, monju.subsets, monju.experts, monju.members, [],
                            self.vectors, distances, posterior, self.logits)

    def nearest(self, vector: np.ndarray, n: int = 8) -> tuple[np.ndarray, np.ndarray]:
        """Return indices and distances of the n sentences nearest to a vector [dim] in embedding space."""
        d = clusterers.distances(self.vectors, vector[None])[:, 0]
        near = np.argsort(d, kind="stable")[:n]
        return near, d[near]


def build(run: Run, monju: SentenceReader, train: Split, size: int = MOST,
          held_out: np.ndarray | None = None) -> None:
    """Write a run's map: a sample of `size` sentences of its training split.

    `held_out` [n, k] are the held-out sentences' distances, by default those of the stored predictions.
    """
    clusters = monju.clustering.labels_
    strata = clusters * (train.labels.max() + 1) + train.labels
    rows = sources.stratified(strata, min(size, MOST), run.config.seed)
    outputs = monju.outputs([train.texts[row] for row in rows])
    vectors = np.asarray(outputs.vectors).astype(np.float16).astype(np.float32)  # as they are stored
    centres = monju.clustering.clusterer.all_centres_
    arrays = {"rows": rows.astype(np.int32), "labels": train.labels[rows].astype(np.int16),
              "clusters": clusters[rows].astype(np.int16), "vectors": vectors.astype(np.float16),
              "logits": outputs.of(outputs.experts + outputs.members).astype(np.float16)}
    fitted = {}
    for name, projection in projections.TABLE.items():
        try:
            fitted[name] = projection(run.config.seed).fit(vectors, centres)
        except MonjuError:
            continue  # no plane through more or fewer centres than three, no UMAP of a handful
        arrays[f"coordinates {name}"] = fitted[name].transform(vectors).astype(np.float32)
        arrays |= {f"{name}.{key}": array for key, array in fitted[name].state().items()}
    facts = {"projections": list(fitted), "sentences": len(clusters),
             "silhouette": silhouette(vectors, clusters[rows], run.config.seed),
             "clusters": cluster_summaries(run, clusters, train, held_out)}
    with run.folder("map") as folder:
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(arrays, folder / "map.safetensors")
        text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
        (folder / "map.json").write_text(text, encoding="utf-8")


def silhouette(vectors: np.ndarray, clusters: np.ndarray, seed: int) -> float | None:
    """Return the mean silhouette coefficient, −1 to 1; None where it is not defined."""
    n = min(len(vectors), MOST_FOR_SILHOUETTE)
    rows = sources.stratified(clusters, n, seed)
    if not 1 < len(np.unique(clusters[rows])) < n:
        return None
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(vectors[rows], clusters[rows]))


def cluster_summaries(run: Run, clusters: np.ndarray, train: Split,
                      distances: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Return each cluster's size, sentences of each label, share of the held-out sentences, and words."""
    config, labels = run.config, len(run.manifest["data"]["labels"])
    distances = load_predictions(run)[0].distances if distances is None else distances
    shares = np.bincount(distances.argmin(axis=1), minlength=config.k) / len(distances)
    words = characteristic_words(train.texts, clusters, config.k)
    return [{"name": name, "size": int((clusters == c).sum()),
             "labels": np.bincount(train.labels[clusters == c], minlength=labels)[:labels].tolist(),
             "validation": float(shares[c]), "words": words[c]}
            for c, name in enumerate(subsets.cluster_names(config.k))]


def characteristic_words(texts: Sequence[str], clusters: np.ndarray, k: int) -> list[list[str]]:
    """Return the words that distinguish each cluster from the rest, by z-score of their log-odds ratio.

    Each count is smoothed by the word's share of the whole (Monroe, Colaresi & Quinn 2008, eqs. 16 to 22).
    """
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(binary=True, stop_words="english", min_df=FEWEST_WITH_WORD,
                                 token_pattern=r"(?u)\b[^\W\d_]{2,}\b")
    try:
        contains = vectorizer.fit_transform(texts)
    except ValueError:  # no word is left
        return [[] for _ in range(k)]
    words = vectorizer.get_feature_names_out()
    whole = np.asarray(contains.sum(axis=0)).ravel().astype(float)
    prior = whole / whole.sum() * len(words)  # as strong as one sentence a word
    of_cluster = []
    for c in range(k):
        inside = np.asarray(contains[clusters == c].sum(axis=0)).ravel() + prior
        outside = whole + 2 * prior - inside
        odds = np.log(inside / (inside.sum() - inside)) - np.log(outside / (outside.sum() - outside))
        score = odds / np.sqrt(1 / inside + 1 / outside)
        of_cluster.append([str(words[i]) for i in np.argsort(-score, kind="stable")[:WORDS] if score[i] > 0])
    return of_cluster


def command(run: Run) -> str:
    """Return the shell command that draws this run's map."""
    return f"python -m monju map {run.path} --data {run.config.data}"
