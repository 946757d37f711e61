"""The map of a run's sentences, in its folder map/.

A fixed sample of the training sentences with their places in every projection, what every model says of them,
and figures on the clusters. Rows are kept by number: no sentence is stored, only single words that
are frequent in a cluster; `load_run_data` reads them again from the run's own source.
"""

import json
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import silhouette_score

from monju.clustering import clusterers, projections
from monju.data import sources
from monju.ensemble import subsets
from monju.ensemble.outputs import ModelOutputs
from monju.errors import MonjuError
from monju.runs.prediction_store import load_predictions

MOST = 10_000  # sentences on a map, whatever the data's size
MOST_FOR_SILHOUETTE = 4_000  # every pair of them is measured
WORDS = 10  # characteristic words of a cluster
FEWEST_WITH_WORD = 3  # sentences that must hold a word before it is told


@dataclass(frozen=True, eq=False)
class ClusterMap:
    """rows [n]: numbers of training sentences; labels and clusters [n]; vectors [n, dim]; logits [n, models, labels];
    coordinates [n, 2] and the fitted projection under each projection's name; facts: figures on the clusters."""

    rows: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray
    vectors: np.ndarray
    logits: np.ndarray
    coordinates: dict[str, np.ndarray]
    projections: dict[str, object]
    facts: dict

    @classmethod
    def load(cls, run):
        """The map of a run. Raises MonjuError where there is none, or a damaged one."""
        folder = run.path / "map"
        if not folder.is_dir():
            raise MonjuError(f"the run {run.path} has no map yet: draw one with `{command(run)}`")
        try:
            arrays = load_file(folder / "map.safetensors")
            facts = json.loads((folder / "map.json").read_text(encoding="utf-8"))
            vectors = arrays["vectors"].astype(np.float32)
            fitted = {}
            for name in facts["projections"]:
                state = {key.split(".", 1)[1]: array for key, array in arrays.items() if key.startswith(f"{name}.")}
                fitted[name] = projections.TABLE[name](run.config.seed).restore(state, vectors)
            return cls(arrays["rows"], arrays["labels"], arrays["clusters"], vectors, arrays["logits"].astype(np.float32),
                       {name: arrays[f"coordinates {name}"] for name in fitted}, fitted, facts)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise MonjuError(f"{folder} is damaged ({error}): draw the map again with `{command(run)}`") from None

    def predict(self, monju):
        """What the run's ensembles make of the sample: Predictions, for any gate and fusion."""
        return self.votes(monju).decide_as(monju.config)

    def votes(self, monju):
        """The sample's Votes, with no forward pass."""
        clusterer = monju.clustering.clusterer
        return ModelOutputs(monju.clusters, monju.subsets, monju.experts, monju.members, [], self.vectors,
                     clusterers.distances(self.vectors, clusterer.centres_), clusterer.posterior(self.vectors), self.logits)

    def nearest(self, vector, n=8):
        """The n sentences of the sample nearest to a vector [dim] in the embedding's own space: places, distances."""
        d = clusterers.distances(self.vectors, vector[None])[:, 0]
        near = np.argsort(d, kind="stable")[:n]
        return near, d[near]


def build(run, monju, train, size=MOST):
    """Draw the map of a run whose predictions are stored, into map/: `size` sentences of `train`, the run's training Split."""
    placed = monju.clustering.labels_
    rows = sources.stratified(placed * (train.labels.max() + 1) + train.labels, min(size, MOST), run.config.seed)
    votes = monju.outputs([train.texts[row] for row in rows])
    vectors = votes.vectors.astype(np.float16).astype(np.float32)  # as they are kept
    centres = monju.clustering.clusterer.centres_
    arrays = {"rows": rows.astype(np.int32), "labels": train.labels[rows].astype(np.int16),
              "clusters": placed[rows].astype(np.int16), "vectors": vectors.astype(np.float16),
              "logits": votes.of(votes.experts + votes.members).astype(np.float16)}
    fitted = {}
    for name, projection in projections.TABLE.items():
        try:
            fitted[name] = projection(run.config.seed).fit(vectors, centres)
        except MonjuError:
            continue  # no plane for k ≠ 3, no neighbourhoods among a handful: the others remain
        arrays[f"coordinates {name}"] = fitted[name].transform(vectors).astype(np.float32)
        arrays |= {f"{name}.{key}": array for key, array in fitted[name].state().items()}
    facts = {"projections": list(fitted), "sentences": len(placed), "silhouette": silhouette(vectors, placed[rows], run.config.seed),
             "clusters": cluster_summaries(run, placed, train)}
    with run.folder("map") as folder:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "map.safetensors")
        (folder / "map.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def silhouette(vectors, clusters, seed):
    """How much nearer sentences stand to their own cluster than to the next, −1 to 1; None where it is not defined."""
    n = min(len(vectors), MOST_FOR_SILHOUETTE)
    kept = sources.stratified(clusters, n, seed)
    if not 1 < len(np.unique(clusters[kept])) < n:
        return None
    return float(silhouette_score(vectors[kept], clusters[kept]))


def cluster_summaries(run, placed, train):
    """Each cluster: size, sentences of each label, share of the held-out sentences that stand nearest to it, its words."""
    config, labels = run.config, len(run.manifest["data"]["labels"])
    votes, _ = load_predictions(run)
    shares = np.bincount(votes.distances.argmin(axis=1), minlength=config.k) / len(votes.distances)
    words = characteristic_words(train.texts, placed, config.k)
    return [{"name": name, "size": int((placed == c).sum()),
             "labels": np.bincount(train.labels[placed == c], minlength=labels).tolist(),
             "validation": float(shares[c]), "words": words[c]} for c, name in enumerate(subsets.cluster_names(config.k))]


def characteristic_words(texts, clusters, k):
    """The words that tell each cluster from the rest: the surest log-odds ratios, each count smoothed by the word's share
    of the whole (Monroe, Colaresi & Quinn 2008, eqs. 16 to 22)."""
    vectorizer = CountVectorizer(binary=True, stop_words="english", min_df=FEWEST_WITH_WORD, token_pattern=r"(?u)\b[^\W\d_]{2,}\b")
    try:
        holds = vectorizer.fit_transform(texts)
    except ValueError:  # hardly a word is left
        return [[] for _ in range(k)]
    words = vectorizer.get_feature_names_out()
    whole = np.asarray(holds.sum(axis=0)).ravel().astype(float)
    prior = whole / whole.sum() * len(words)  # as strong as one sentence a word
    found = []
    for c in range(k):
        inside = np.asarray(holds[clusters == c].sum(axis=0)).ravel() + prior
        outside = whole + 2 * prior - inside
        odds = np.log(inside / (inside.sum() - inside)) - np.log(outside / (outside.sum() - outside))
        score = odds / np.sqrt(1 / inside + 1 / outside)
        found.append([str(words[i]) for i in np.argsort(-score, kind="stable")[:WORDS] if score[i] > 0])
    return found


def command(run):
    """The command that draws this run's map."""
    return f"python -m monju map {run.path} --data {run.config.data}"
