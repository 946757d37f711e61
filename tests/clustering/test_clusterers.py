"""Clusters whose members, centres and names can be checked by hand or against another library."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.mixture import GaussianMixture

from monju.clustering import clusterers
from monju.clustering.cluster_model import Clustering
from monju.clustering.clusterers import (
    BalancedClusterer,
    GMMClusterer,
    KMeansClusterer,
    SeveralCentresClusterer,
    balanced_assignment,
    distances,
    ordering,
    refuse_empty,
)
from monju.ensemble.subsets import cluster_names
from monju.errors import MonjuError

pytestmark = pytest.mark.filterwarnings("error", "ignore::pytest.PytestUnraisableExceptionWarning")
GEOMETRIC = {name: clusterers.TABLE[name] for name in ("balanced", "kmeans", "gmm", "several-centres")}  # the others do not look where sentences lie
EVERY = pytest.mark.parametrize("clusterer", GEOMETRIC.values(), ids=GEOMETRIC)


def blobs(*sizes, dimensions=5, seed=0):
    """Clouds of the given sizes, far apart: blob i around 10 on axis i, with its number for every row."""
    random = np.random.default_rng(seed)
    centres = 10 * np.eye(len(sizes), dimensions)
    which = np.repeat(np.arange(len(sizes)), sizes)
    return centres[which] + random.normal(scale=0.5, size=(len(which), dimensions)), which


def shares(n, k):
    """The sizes of k equal clusters of n rows: the first n mod k have one more."""
    return [n // k + (c < n % k) for c in range(k)]


def test_names():
    assert cluster_names(3) == ["A", "B", "C"]
    assert cluster_names(26)[-1] == "Z"


def test_distances_are_euclidean_and_exactly_zero_on_a_centre():
    vectors = np.array([[0, 0], [3, 4], [0.1, 0.7]], np.float32)
    found = distances(vectors, vectors)
    assert found[0, 1] == 5  # 3, 4, 5
    assert found.diagonal().tolist() == [0, 0, 0]
    assert found.dtype == np.float64
    far = np.full((2, 3), 1e6) + [[0], [1]]  # |x|² − 2xc + |c|² would lose √3 among numbers of 10¹²
    assert distances(far, far[:1])[:, 0] == pytest.approx([0, np.sqrt(3)])


def test_the_cheapest_to_move_is_moved():
    # 0, 1, 2 are nearer to 0 than to 10, one too many; sending x away costs (x−10)² − x² = 100 − 20x: least for 2
    line = np.array([[0.0], [1], [2], [10]])
    labels, _ = balanced_assignment(distances(line, np.array([[0.0], [10]])) ** 2)
    assert labels.tolist() == [0, 0, 1, 1]


def test_a_surplus_may_pass_through_a_third_cluster():
    # four want A, two want B, nobody wants C. From A straight to C costs 9 each; from A to B 1 and from B to C 1:
    # two of A's go to B and both of B's to C: 4 in all
    cost = np.array([[0, 1, 9.0]] * 4 + [[9, 0, 1]] * 2)
    labels, _ = balanced_assignment(cost)
    assert cost[np.arange(6), labels].sum() == 4
    assert labels[4:].tolist() == [2, 2]


COSTS = {
    "any": lambda random, n, k: random.random((n, k)),
    "whole numbers": lambda random, n, k: random.integers(0, 3, (n, k)).astype(float),
    "duplicates": lambda random, n, k: random.random((3, k))[random.integers(0, 3, n)],
    "all alike": lambda random, n, k: np.zeros((n, k)),
    "one cluster wanted": lambda random, n, k: random.random((n, k)) + 10 * (np.arange(k) > 0),
    "huge": lambda random, n, k: 1e9 * random.random((n, k)),
}


@pytest.mark.parametrize("kind", COSTS)
@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_assignment_costs_what_the_hungarian_algorithm_finds(kind, k):
    random = np.random.default_rng(k)
    for _ in range(30):
        n = int(random.integers(k, 40))
        cost = COSTS[kind](random, n, k)
        prices = random.random(k) * cost.max() if random.random() < 0.5 else None  # a warm start must not mislead
        labels, _ = balanced_assignment(cost, prices)
        assert np.bincount(labels, minlength=k).tolist() == shares(n, k)
        seats = cost[:, np.repeat(np.arange(k), shares(n, k))]
        least = seats[linear_sum_assignment(seats)].sum()
        assert cost[np.arange(n), labels].sum() == pytest.approx(least, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_prices_alone_clear_an_ordinary_market(k, monkeypatch):
    monkeypatch.setattr(clusterers, "_move_one", None)  # moving sentences one by one is for ties, and slow
    cost = np.random.default_rng(k).random((2000, k)) * np.arange(1, k + 1)
    labels, prices = balanced_assignment(cost)
    assert np.bincount(labels).tolist() == shares(2000, k)
    assert np.diff(prices).max() < 0  # the cheaper a cluster, the more want it, the higher its price


@pytest.mark.parametrize("k", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("n", [7, 60, 61, 401])
def test_balanced_sizes_differ_by_at_most_one(n, k):
    labels = BalancedClusterer(k).fit(np.random.default_rng(n).normal(size=(n, 4)) ** 3).labels_
    sizes = np.bincount(labels, minlength=k)
    assert sizes.max() - sizes.min() <= 1


def test_balanced_holds_uneven_blobs_to_equal_sizes():
    vectors, which = blobs(40, 10, 10)
    labels = BalancedClusterer(3).fit(vectors).labels_
    assert np.bincount(labels).tolist() == [20, 20, 20]
    assert len(set(labels[which == 1])) == len(set(labels[which == 2])) == 1  # the small blobs stay whole


@pytest.mark.parametrize("vectors", [
    np.vstack([np.zeros((50, 3)), np.eye(3)]),  # sentences of unknown words alone are the zero vector
    np.repeat(np.eye(3), [80, 1, 1], axis=0),
    np.repeat(np.eye(4), [30, 3, 3, 30], axis=0).astype(np.float32),
], ids=["mostly zero", "one sentence eighty times", "few different"])
def test_balanced_shares_out_identical_sentences(vectors):
    found = BalancedClusterer(3).fit(vectors)
    assert sorted(np.bincount(found.labels_, minlength=3), reverse=True) == shares(len(vectors), 3)
    assert np.isfinite(found.centres_).all()


def test_balanced_centres_are_the_means_of_their_members():
    vectors, _ = blobs(20, 25, 30)
    found = BalancedClusterer(3).fit(vectors)
    for c in range(3):
        assert found.centres_[c] == pytest.approx(vectors[found.labels_ == c].mean(axis=0))


def test_kmeans_finds_planted_blobs_and_names_them_by_size():
    vectors, which = blobs(10, 40, 20)
    found = KMeansClusterer(3).fit(vectors)
    assert (found.labels_ == np.array([2, 0, 1])[which]).all()  # 40 sentences are A, 20 are B, 10 are C
    for cluster, blob in enumerate([1, 2, 0]):
        assert found.centres_[cluster] == pytest.approx(vectors[which == blob].mean(axis=0))


def test_equal_sizes_are_named_by_centre():
    centres = np.array([[0.5, 9], [0.5, 1], [-3, 4]])
    # sizes 2, 2, 3: the last leads; the other two share 0.5, so 1 comes before 9
    assert ordering(centres, np.array([0, 0, 1, 1, 2, 2, 2])).tolist() == [2, 1, 0]


@EVERY
def test_the_same_sentences_make_the_same_clusters(clusterer):
    vectors = np.random.default_rng(3).normal(size=(200, 6))
    first, second = clusterer(4, seed=5).fit(vectors), clusterer(4, seed=5).fit(vectors)
    assert np.array_equal(first.labels_, second.labels_)
    assert np.array_equal(first.centres_, second.centres_)


@pytest.mark.parametrize("clusterer", [BalancedClusterer, KMeansClusterer, GMMClusterer])  # fine centres are many, and found from one start
@pytest.mark.parametrize("sizes", [(30, 20, 10), (21, 20, 20), (20, 21, 21)], ids=str)
def test_names_do_not_hang_on_the_order_of_the_sentences(clusterer, sizes):
    vectors, _ = blobs(*sizes)
    first = clusterer(3).fit(vectors)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(vectors))
        again = clusterer(3).fit(vectors[order])
        assert np.array_equal(again.labels_, first.labels_[order])
        assert again.centres_ == pytest.approx(first.centres_)


def test_gmm_posterior_is_sklearns_own_after_restoring():
    vectors = np.random.default_rng(0).normal(size=(150, 4)) * [1, 2, 3, 4]
    state = GMMClusterer(3, seed=1).fit(vectors).state()
    restored = GMMClusterer(3).restore({name: array.copy() for name, array in state.items()})
    theirs = GaussianMixture(3, covariance_type="diag", reg_covar=1e-5, random_state=1).fit(vectors)
    order = ordering(theirs.means_, theirs.predict(vectors))
    new = np.random.default_rng(1).normal(size=(20, 4)) * 3
    assert restored.posterior(new) == pytest.approx(theirs.predict_proba(new)[:, order], abs=1e-12)
    assert restored.posterior(new).sum(axis=1) == pytest.approx(np.ones(20))


def test_gmm_labels_are_the_likeliest_component():
    vectors, which = blobs(10, 40, 20)
    found = GMMClusterer(3).fit(vectors)
    assert (found.labels_ == np.array([2, 0, 1])[which]).all()
    assert (found.posterior(vectors).argmax(axis=1) == found.labels_).all()


def piles(**sizes):
    """Vectors on a line in piles of a hundredth: x10=8 are eight around 10."""
    return np.concatenate([int(x[1:]) + np.linspace(-0.01, 0.01, n) for x, n in sizes.items()])[:, None]


def test_a_cluster_is_as_near_as_its_nearest_centre():
    # piles of 48, 16 and 32: half of all is at 0, the other half around 10 and 12, with the mean (16 · 10 + 32 · 12) / 48 = 11.33
    found = SeveralCentresClusterer(2).fit(piles(x0=48, x10=16, x12=32))
    assert np.bincount(found.labels_).tolist() == [48, 48] and found.centres_[:, 0] == pytest.approx([0, 34 / 3], abs=1e-6)
    # 5.4 is 5.4 from 0 and 4.6 from 10, though 5.93 from the mean
    assert found.distances(np.array([[5.4]]))[0] == pytest.approx([5.4, 4.6], abs=0.02)
    assert distances(np.array([[5.4]]), found.centres_)[0] == pytest.approx([5.4, 5.93], abs=0.01)


def test_a_cluster_of_two_lobes_around_another():
    around = SeveralCentresClusterer(2).restore({"centres": np.array([[5.0, 0], [4, 0]]), "groups": np.array([0, 0, 1], np.int32),
                                                 "fine": np.array([[0.0, 0], [10, 0], [4, 0]])})
    # (9, 0) is 1 from A's right lobe and 5 from B, whose centre is nearer to A's mean than either lobe
    assert around.distances(np.array([[9.0, 0], [0, 3], [4, 1]])).tolist() == [[1, 5], [3, 5], [17**0.5, 1]]


@pytest.mark.parametrize("n, k, fine", [(4, 3, 3), (160, 3, 20), (2000, 3, 64), (120, 20, 20)])
def test_fine_centres_are_fewer_where_sentences_are_few(n, k, fine):
    vectors = np.random.default_rng(n).normal(size=(n, 4))
    found = SeveralCentresClusterer(k).fit(vectors)
    assert len(found.fine_) == len(found.groups_) == fine
    assert (found.distances(vectors).argmin(axis=1) == found.labels_).all()  # nobody is dealt to a farther cluster
    for c in range(k):
        assert found.centres_[c] == pytest.approx(vectors[found.labels_ == c].mean(axis=0))


def test_clusters_of_several_centres_are_about_equal():
    sizes = np.bincount(SeveralCentresClusterer(3).fit(np.random.default_rng(0).normal(size=(3000, 5))).labels_)
    assert sizes.max() - sizes.min() < 2 * 3000 / 64  # within the vectors of one or two fine centres on the border


@pytest.mark.parametrize("groups", [[0, 0, 0], [0, 1], [0, 1, 2]])
def test_fine_centres_of_other_clusters_are_damage(groups):
    with pytest.raises(ValueError, match="other clusters"):
        SeveralCentresClusterer(2).restore({"centres": np.zeros((2, 1)), "fine": np.zeros((3, 1)), "groups": np.array(groups)})


@pytest.mark.parametrize("clusterer", [KMeansClusterer, BalancedClusterer, SeveralCentresClusterer])
def test_kmeans_has_no_posterior(clusterer):
    assert clusterer(2).fit(np.eye(4)).posterior(np.eye(4)) is None


@EVERY
def test_fewer_sentences_than_clusters_are_refused(clusterer):
    with pytest.raises(MonjuError, match="2 sentences cannot make 3 clusters.*--k"):
        clusterer(3).fit(np.eye(2))


@EVERY
def test_fewer_different_sentences_than_clusters_are_refused(clusterer):
    with pytest.raises(MonjuError, match="only 2 of 20 sentences differ.*--k"):
        clusterer(3).fit(np.repeat(np.eye(2), 10, axis=0))


@EVERY
def test_as_many_sentences_as_clusters_are_enough(clusterer):
    assert sorted(clusterer(3).fit(np.eye(3)).labels_) == [0, 1, 2]


def test_an_empty_cluster_is_refused_by_name():
    with pytest.raises(MonjuError, match="cluster B came out empty"):
        refuse_empty(np.array([0, 2, 2]), 3)
    refuse_empty(np.array([0, 1, 2]), 3)


WORDS = "night day river stone bird tree house road song film actor plot scene joke music camera light tear".split()


def sentences(n, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, 6)) for _ in range(n)]


@pytest.mark.parametrize("name", GEOMETRIC)
def test_a_saved_clustering_places_new_sentences_where_the_original_did(name, tmp_path):
    config = SimpleNamespace(embedder="tfidf", clusterer=name, k=3, seed=0)
    original = Clustering(config).fit(sentences(60))
    original.save(tmp_path)
    restored = Clustering.load(tmp_path, config)
    assert np.array_equal(restored.labels_, original.labels_)
    new = [*sentences(20, seed=1), "nothing known", "1,000 birds 2 rivers"]
    for before, after in zip(original.place(new), restored.place(new)):
        assert np.array_equal(before, after)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}  # no pickle


def test_a_placed_sentence_has_its_distance_to_every_centre():
    clustering = Clustering(SimpleNamespace(embedder="tfidf", clusterer="kmeans", k=2, seed=0))
    clustering.fit(["night night", "night", "day", "day day", "day"])  # two words, so two unit vectors, each a centre
    _, found, posterior = clustering.place(["day", "night", "nothing known"])
    # A is day's (three sentences); the two stand at right angles: √2 apart; the unknown stands at 0, 1 from both
    assert found == pytest.approx(np.array([[0, np.sqrt(2)], [np.sqrt(2), 0], [1, 1]]), abs=1e-7)
    assert posterior is None
