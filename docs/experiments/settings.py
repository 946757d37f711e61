"""Settings: the six experiments and their controls as a table, and the answers of all models of one of them.

A setting is one row of SETTINGS; `answers` trains it for one seed, in every layout. Knows nothing of gates.
"""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from experiments import corpora, heads, transforms
from monju.clustering import clusterers
from monju.data import sources
from monju.ensemble.subsets import expert_subsets

SEEDS = (0, 1, 2)
BALANCED = 3  # above, plain k-means: balancing 22,000 sentences among 8 takes minutes
TUNING = 10  # a tenth of the training sentences, which no model learns from


class Setting(NamedTuple):
    """One experiment or control.

    Parameters
    ----------
    corpus : str
        The data set's folder.
    layouts : tuple of (int, int)
        Each (k, m): clusters, and clusters that an expert learns.
    transform : str
        A key of `transforms.TABLE`.
    noise : str
        "" for none; "one cluster" or "everywhere": which training labels are turned round.
    dealt : bool
        The clusters are labels dealt to k groups at random, not k-means'.
    rivals : bool
        Also train experts on random subsets, equal cost, baseline and one head.
    """

    corpus: str
    layouts: tuple[tuple[int, int], ...]
    transform: str = "natural"
    noise: str = ""
    dealt: bool = False
    rivals: bool = True


SINGLES_AND_PAIRS = ((3, 1), (3, 2))
SETTINGS = {
    "E3": Setting("clinc150", SINGLES_AND_PAIRS),
    "E3 control": Setting("clinc150", SINGLES_AND_PAIRS, dealt=True, rivals=False),
    "E1": Setting("fdu-mtl", ((3, 1), (8, 1), (16, 1), (3, 2))),
    "E4": Setting("fdu-mtl", SINGLES_AND_PAIRS, "two priors"),
    "E4 control": Setting("fdu-mtl", SINGLES_AND_PAIRS, "thinned", rivals=False),
    "E2": Setting("fdu-mtl", SINGLES_AND_PAIRS, "two customs"),
    "E2 control": Setting("fdu-mtl", SINGLES_AND_PAIRS, "turned anywhere", rivals=False),
    "E5": Setting("fdu-mtl", SINGLES_AND_PAIRS, noise="one cluster"),
    "E5 control": Setting("fdu-mtl", SINGLES_AND_PAIRS, noise="everywhere", rivals=False),
    "SST-2": Setting("sst2", SINGLES_AND_PAIRS),
}


def strength(root: Path, out: Path, corpus: str) -> float:
    """Return C for a data set: the most right answers of one head on seed 0's tuning split."""
    path = out / f"strength-{corpus}.txt"
    if not path.exists():
        data = corpora.load(root, corpus, out)
        tuning, train = tuning_split(data.train.labels, 0)
        x, y, right = data.train_vectors, data.train.labels, {}
        for c in heads.STRENGTHS:
            answers = heads.Head(x[train], y[train], data.labels, c)(x[tuning])
            right[c] = int((answers.argmax(axis=1) == y[tuning]).sum())
        path.write_text(f"{max(right, key=right.get)} {right} of {len(tuning)}\n")
    return float(path.read_text().split()[0])


def tuning_split(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a seed's tuning split and of its training sentences."""
    tuning = np.sort(sources.stratified(labels, len(labels) // TUNING, seed))
    return tuning, np.setdiff1d(np.arange(len(labels)), tuning)


def answers(root: Path, out: Path, name: str, seed: int) -> dict[str, Any]:
    """Train one setting with one seed; return arrays by name, those of a layout under "k=3 m=1 …"."""
    setting, c = SETTINGS[name], strength(root, out, SETTINGS[name].corpus)
    data, rng = corpora.load(root, setting.corpus, out), np.random.default_rng(seed)
    tuning, train = tuning_split(data.train.labels, seed)
    change = transforms.TABLE[setting.transform]

    def part(split, vectors, rows):
        labels, domains = split.labels[rows], split.domains and [split.domains[row] for row in rows]
        kept, labels = change(labels, domains, rng)
        return SimpleNamespace(x=vectors[rows][kept], y=labels)

    learned, asked = part(data.train, data.train_vectors, train), {
        "tuning": part(data.train, data.train_vectors, tuning),
        "held out": part(data.held_out, data.held_out_vectors, np.arange(len(data.held_out.labels)))}
    fit = Fit(learned.x, data.labels, c, asked)
    found: dict[str, Any] = {"C": np.array(c), "trained on": np.array(len(learned.y))}
    for k, m in setting.layouts:
        layout, subsets = f"k={k} m={m}", expert_subsets(k, m)
        centres, clusters = placed(setting, learned, k, seed, out / "clusters")
        distances = {which: clusterers.distances(points.x, centres) for which, points in asked.items()}
        y, tuning_y = noisy(setting, learned.y, clusters, asked["tuning"].y, distances["tuning"], rng)
        found |= {f"{layout} distances {which}": d for which, d in distances.items()}
        found |= {f"{layout} labels tuning": tuning_y, f"{layout} labels held out": asked["held out"].y}
        parts = [np.flatnonzero(np.isin(clusters, subset)) for subset in subsets]
        experts = [fit.head(rows, y) for rows in parts]
        found |= fit.ask(f"{layout} experts", experts)
        if data.labels == 2:
            found[f"{layout} log priors"] = heads.log_priors(y, clusters, subsets)
            found[f"{layout} log prior"] = np.log(np.bincount(y) / len(y))
            oof = heads.out_of_fold(learned.x, y, clusters, subsets, experts, c, rng) if k == 3 else None
            if oof is not None:
                nearest = clusterers.distances(learned.x, centres).argmin(axis=1)
                found[f"{layout} out of fold"] = heads.fit_weights(oof, y, nearest, k)
        if setting.rivals:
            found |= rivals(fit, y, k, parts, subsets, seed, layout, rng)
    return found


def placed(setting: Setting, learned: Any, k: int, seed: int, kept: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the clusters' centres [k, dim] and the cluster of each training sentence [n].

    k-means' are kept in a folder: experiments that change labels alone have the same.
    """
    if setting.dealt:
        labels = np.unique(learned.y)
        group = dict(zip(np.random.default_rng(seed).permutation(labels), np.arange(len(labels)) % k))
        clusters = np.array([group[label] for label in learned.y])
        return np.stack([learned.x[clusters == c].mean(axis=0) for c in range(k)]), clusters
    path = kept / f"{hashlib.sha256(learned.x.tobytes()).hexdigest()[:16]}-{k}-{seed}.npz"
    if not path.exists():
        clusterer = clusterers.TABLE["balanced" if k <= BALANCED else "kmeans"](k, seed).fit(learned.x)
        kept.mkdir(parents=True, exist_ok=True)
        np.savez(path.with_suffix(".partial.npz"), centres=clusterer.centres_, clusters=clusterer.labels_)
        path.with_suffix(".partial.npz").replace(path)
    with np.load(path) as arrays:
        return arrays["centres"], arrays["clusters"]


def noisy(setting: Setting, y: np.ndarray, clusters: np.ndarray, tuning_y: np.ndarray,
          tuning_distances: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return training and tuning labels, with E5's noise where the setting has it."""
    both = []
    for labels, bad in ((y, clusters == 0), (tuning_y, tuning_distances.argmin(axis=1) == 0)):
        among = np.flatnonzero(bad) if setting.noise == "one cluster" else np.arange(len(labels))
        n = round(transforms.NOISE * bad.sum()) if setting.noise else 0
        both.append(transforms.turned(labels, among, n, rng))
    return both[0], both[1]


def rivals(fit: "Fit", y: np.ndarray, k: int, parts: list[np.ndarray], subsets: Any, seed: int, layout: str,
           rng: np.random.Generator) -> dict[str, Any]:
    """Train what Monju is compared with, as many heads of each kind as there are experts."""
    n = len(y)
    random = clusterers.TABLE["random"](k, seed).fit(fit.x)
    found = {f"{layout} random distances {which}": clusterers.distances(points.x, random.centres_)
             for which, points in fit.asked.items()}
    groups = {"random": [np.flatnonzero(np.isin(random.labels_, subset)) for subset in subsets],
              "equal cost": [rng.choice(n, len(rows), replace=False) for rows in parts],
              "baseline": [rng.choice(n, n) for _ in parts],
              "one head": [np.arange(n)]}
    for kind, rows_of_each in groups.items():
        found |= fit.ask(f"{layout} {kind}", [fit.head(rows, y) for rows in rows_of_each])
    return found


class Fit(NamedTuple):
    """Training vectors [n, dim], the number of labels, C, and the sentences that heads are asked about."""

    x: np.ndarray
    n_labels: int
    c: float
    asked: dict[str, Any]

    def head(self, rows: np.ndarray, y: np.ndarray) -> heads.Head:
        """Return a head trained on these rows."""
        return heads.Head(self.x[rows], y[rows], self.n_labels, self.c)

    def ask(self, name: str, models: list[heads.Head]) -> dict[str, np.ndarray]:
        """Return the models' log-probabilities [n, models, labels] of the tuning and the held-out sentences."""
        return {f"{name} {which}": np.stack([model(points.x) for model in models], axis=1)
                for which, points in self.asked.items()}
