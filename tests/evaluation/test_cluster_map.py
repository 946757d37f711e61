"""The atlas: a run's map is drawn, kept without sentences, read again, and drawn anew by the command."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

import monju
from monju.cli import main
from monju.config import Config
from monju.data import sources
from monju.errors import MonjuError
from monju.evaluation import cluster_map
from monju.evaluation.cluster_map import ClusterMap
from monju.runs import run_data
from monju.runs.run import Run
from monju.training.pipeline import train


@pytest.fixture(scope="module")
def drawn(tiny_run):
    return ClusterMap.load(Run.open(tiny_run))


@pytest.fixture
def copy(tiny_run, tmp_path):
    return Run.open(shutil.copytree(tiny_run, tmp_path / "copy"))


def test_training_draws_the_map_of_its_sentences(drawn, tiny_run):
    run = Run.open(tiny_run)
    train = sources.load_for(run.config).train
    assert drawn.rows.tolist() == list(range(len(train.texts))) and (drawn.labels == train.labels).all()
    assert list(drawn.projections) == ["plane", "pca", "umap"]
    assert np.bincount(drawn.clusters).tolist() == list(run.manifest["clusters"].values())
    assert drawn.logits.shape == (len(train.texts), 6, 2)  # the equal-cost control is left out


def test_the_kept_logits_and_places_are_those_of_reading_the_sentences(drawn, tiny_run):
    ensemble = monju.load(tiny_run)
    texts = run_data.load_run_data(ensemble.run).train.texts[:5]
    read, kept = ensemble.predict(texts), drawn.predict(ensemble)
    assert np.abs(read.distances - kept.distances[:5]).max() < 1e-3 and np.abs(read.monju - kept.monju[:5]).max() < 1e-2
    for name, projection in drawn.projections.items():
        assert projection.transform(drawn.vectors) == pytest.approx(drawn.coordinates[name], abs=1e-5)
    near, d = drawn.nearest(read.vectors[2], 3)
    assert near[0] == 2 and d[0] < 1e-3 and (np.diff(d) >= 0).all()


def test_the_clusters_are_told_in_figures_and_words(drawn, tiny_run):
    facts, run = drawn.facts, Run.open(tiny_run)
    assert [cluster["size"] for cluster in facts["clusters"]] == list(run.manifest["clusters"].values())
    assert [sum(cluster["labels"]) for cluster in facts["clusters"]] == list(run.manifest["clusters"].values())
    assert sum(cluster["validation"] for cluster in facts["clusters"]) == pytest.approx(1)
    assert facts["silhouette"] == pytest.approx(silhouette_score(drawn.vectors, drawn.clusters), abs=1e-5)


def test_no_sentence_is_kept_and_every_file_is_small(tiny_run):
    words = " ".join(word for cluster in json.loads((tiny_run / "map/map.json").read_text())["clusters"] for word in cluster["words"])
    kept = b"".join(file.read_bytes() for file in (tiny_run / "map").iterdir())
    for text in run_data.load_run_data(Run.open(tiny_run)).train.texts:
        assert text not in words and (len(text) < 12 or text.encode() not in kept)
    assert sum(file.stat().st_size for file in (tiny_run / "map").iterdir()) < 1e6


def test_characteristic_words_are_those_of_one_cluster():
    texts = ["cold winter film"] * 4 + ["warm summer film"] * 4
    words = cluster_map.characteristic_words(texts, np.repeat([0, 1], 4), 2)
    assert sorted(words[0]) == ["cold", "winter"] and sorted(words[1]) == ["summer", "warm"]
    assert cluster_map.characteristic_words(["a", "the"], np.array([0, 1]), 2) == [[], []]


def test_a_large_run_is_sampled_in_proportion_and_alike_every_time(tiny_run, copy, monkeypatch):
    monkeypatch.setattr(cluster_map, "MOST", 30)
    ensemble = monju.load(copy.path)
    cluster_map.build(copy, ensemble, run_data.read_again(copy, copy.manifest["data"]["fingerprint"]).train)
    first = ClusterMap.load(copy)
    cluster_map.build(copy, ensemble, run_data.read_again(copy, copy.manifest["data"]["fingerprint"]).train)
    assert len(first.rows) == 30 and (first.rows == ClusterMap.load(copy).rows).all()
    shares = np.bincount(first.clusters) / 30 - np.array(list(copy.manifest["clusters"].values())) / 100
    assert np.abs(shares).max() < 0.1


def test_a_run_without_a_map_says_how_to_draw_one_and_the_command_does(copy, capsys):
    shutil.rmtree(copy.path / "map")
    copy.finish()
    with pytest.raises(MonjuError, match="python -m monju map"):
        ClusterMap.load(copy)
    monju.load(copy.path)  # older runs have none
    assert main(["map", str(copy.path), "--data", copy.config.data]) == 0
    run = Run.open(copy.path).check()
    again = ClusterMap.load(run)
    assert "map/map.safetensors" in run.manifest["files"]
    assert again.facts["silhouette"] == pytest.approx(silhouette_score(again.vectors, again.clusters), abs=1e-5)


def test_the_command_refuses_other_sentences(copy, tmp_path, capsys):
    before = (copy.path / "run.json").read_bytes()
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "".join(f"sentence {i},{i % 2}\n" for i in range(60)))
    assert main(["map", str(copy.path), "--data", str(other)]) == 2
    assert "no longer holds the sentences" in capsys.readouterr().err
    assert (copy.path / "run.json").read_bytes() == before


def test_sentences_that_cannot_be_had_are_told(copy, tmp_path):
    copy.manifest["config"] = dataclasses.replace(copy.config, data=str(tmp_path / "gone")).to_json()
    with pytest.raises(MonjuError, match="there is no source"):
        run_data.read_again(copy, copy.manifest["data"]["fingerprint"]).train


def test_a_damaged_map_is_told(copy):
    file = copy.path / "map" / "map.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(MonjuError, match="damaged"):
        ClusterMap.load(copy)


def test_four_clusters_have_no_plane_and_a_handful_no_umap(tiny_bert, tmp_path):
    data = tmp_path / "few.csv"
    words = ["good", "bad", "film", "music", "actor", "plot", "camera", "light", "voice"]
    data.write_text("text,label\n" + "".join(f"{word} {i},{i % 2}\n" for i, word in enumerate(words)))
    config = Config(data=str(data), k=4, subset_size=3, finetuning="lora", epochs=1, max_tokens=8, precision="fp32",
                    device="cpu", workers=1, baselines=False, backbone=str(tiny_bert), embedder="backbone", clusterer="kmeans")
    for _ in train(config, tmp_path / "run"):
        pass
    assert list(ClusterMap.load(Run.open(tmp_path / "run")).projections) == ["pca"]
