"""Domains: a column or joined data sets name them, each has its expert, and unlike labels are matched or refused."""

import csv

import numpy as np
import pytest

from monju.clustering.clusterers import DomainClusterer, RandomClusterer
from monju.config import Config
from monju.data import sources
from monju.errors import MonjuError
from monju.inference.pipeline import Monju
from monju.training.pipeline import train


def written(path, rows, header=("text", "label", "shop")):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def shops(tmp_path):
    rows = [(f"the {thing} number {i} is {word}", label, shop) for i in range(15) for shop, thing in (("books", "novel"), ("tools", "hammer"))
            for word, label in (("good", 1), ("bad", 0))]
    return written(tmp_path / "shops.csv", rows)


def test_a_column_names_the_domains(shops):
    data = sources.load(str(shops), domain_column="shop", sample=20)
    assert len(data.train.texts) == 20 and set(data.train.domains) == {"books", "tools"}
    assert all(("novel" in text) == (domain == "books") for text, domain in zip(data.train.texts, data.train.domains))
    with pytest.raises(MonjuError, match="shopp"):
        sources.load(str(shops), domain_column="shopp")


def test_joined_data_sets_are_domains_and_their_labels_are_matched(tmp_path, shops):
    words = written(tmp_path / "words.csv", [(f"a {word} day, number {i}", word, "") for i in range(20) for word in ("0", "1")])
    data = sources.load(f"{shops}+{words}")
    assert sorted(set(data.train.domains)) == sorted([str(shops), str(words)]) and data.labels == [0, 1]
    assert len(data.train.texts) + len(data.validation.texts) == 100 - data.overlap
    unlike = written(tmp_path / "unlike.csv", [(f"so-so, number {i}", label, "") for i in range(10) for label in ("2", "3")])
    with pytest.raises(MonjuError, match="unlike.csv has the label 2, which shops.csv does not know: its labels are 0, 1") as error:
        sources.load(f"{shops}+{unlike}")
    assert "\n" not in str(error.value)


def test_a_cluster_for_each_domain_with_a_posterior():
    vectors = np.array([[0.0, 0], [0, 1], [0, 2], [9, 0], [9, 1]])
    found = DomainClusterer(2).fit(vectors, ["x", "x", "x", "y", "y"])
    assert found.domains_ == ["x", "y"] and found.labels_.tolist() == [0, 0, 0, 1, 1]
    assert np.allclose(found.centres_, [[0, 1], [9, 0.5]]) and np.allclose(found.weights_, [0.6, 0.4])
    assert found.posterior(np.array([[0.0, 1]]))[0, 0] > 0.999
    with pytest.raises(MonjuError, match="2 domains .* --k is 3: use --k 2"):
        DomainClusterer(3).fit(vectors, ["x", "x", "x", "y", "y"])
    with pytest.raises(MonjuError, match="--domain-column"):
        DomainClusterer(2).fit(vectors, None)


def test_an_expert_for_each_domain(shops, tmp_path):
    config = Config(data=str(shops), domain_column="shop", clusterer="domain", gate="posterior", k=2, subset_size=1, finetuning="lora",
                    epochs=1, max_tokens=16, baselines=False, precision="fp32", device="cpu", workers=1, map_size=8)
    events = list(train(config, tmp_path / "run"))
    assert any("C(2, 1) = 2 experts" in getattr(event, "text", "") for event in events)
    monju = Monju.load(tmp_path / "run", "cpu")
    names = monju.run.manifest["domains"]
    assert sorted(names) == ["books", "tools"]
    [reading] = monju.read(["the hammer number 3 is good"])
    assert max(reading.alpha, key=reading.alpha.get) == "AB"[names.index("tools")]


def test_clusters_by_lot_are_of_equal_size_and_nowhere():
    vectors = np.random.default_rng(0).normal(size=(300, 4))
    found = RandomClusterer(3, seed=1).fit(vectors)
    assert np.bincount(found.labels_).tolist() == [100, 100, 100]
    assert np.linalg.norm(found.centres_, axis=1).max() < 0.5
    assert (RandomClusterer(3, seed=1).fit(vectors).labels_ == found.labels_).all()
