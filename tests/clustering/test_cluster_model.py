"""Beyond a sample, sentences are placed by what was fitted on it."""

from types import SimpleNamespace

import numpy as np
import pytest

from monju.clustering import cluster_model
from monju.clustering.cluster_model import Clustering
from monju.clustering.clusterers import TABLE

SUBJECTS = ("screen battery camera", "actor plot soundtrack", "hotel room waiter")


def sentences(n, seed=0):
    """Sentences on three subjects, and the subject of each."""
    random = np.random.default_rng(seed)
    which = random.integers(3, size=n)
    return [" ".join(random.permutation([*SUBJECTS[c].split(), f"word{random.integers(20)}"])) for c in which], [f"subject {c}" for c in which]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(cluster_model, "SAMPLE", 300)
    monkeypatch.setattr(cluster_model, "BLOCK", 128)


def clustering(clusterer):
    return Clustering(SimpleNamespace(embedder="tfidf", clusterer=clusterer, k=3, seed=0))


@pytest.mark.parametrize("clusterer", ["balanced", "kmeans", "gmm", "several-centres", "domain"])
def test_the_rest_falls_where_its_like_has_fallen(small, clusterer):
    texts, domains = sentences(1000)
    found = clustering(clusterer).fit(texts, domains)
    assert found.labels_.shape == (1000,)
    for subject in set(domains):  # balanced clusters trade a few sentences for equal sizes
        labels = found.labels_[[i for i, domain in enumerate(domains) if domain == subject]]
        assert np.bincount(labels).max() / len(labels) > (0.9 if clusterer == "balanced" else 0.99)


def test_balanced_sizes_stay_nearly_equal_and_random_ones_too(small):
    texts, _ = sentences(3000)
    for clusterer in ("balanced", "random"):
        sizes = np.bincount(clustering(clusterer).fit(texts).labels_, minlength=3)
        assert sizes.sum() == 3000 and np.abs(sizes - 1000).max() < 100


def test_what_was_fitted_assigns_its_own_vectors_as_it_labelled_them():
    vectors = np.random.default_rng(0).normal(size=(500, 4))
    for name in ("balanced", "kmeans", "gmm", "several-centres"):
        fitted = TABLE[name](4, 0).fit(vectors)
        assert (fitted.assign(vectors) == fitted.labels_).mean() > 0.99, name


def test_few_sentences_are_fitted_whole(monkeypatch):
    texts, _ = sentences(200)
    whole = clustering("balanced").fit(texts).labels_
    monkeypatch.setattr(cluster_model, "SAMPLE", 200)
    assert (clustering("balanced").fit(texts).labels_ == whole).all() and np.ptp(np.bincount(whole)) <= 1
