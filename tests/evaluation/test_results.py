"""Refresh: a finished run is measured again in place; what its models say stays, another gate weighs it."""

import json
import shutil

import numpy as np
import pytest

from monju import cli
from monju.clustering.embedders import BackboneEmbedder
from monju.errors import MonjuError
from monju.evaluation.cluster_map import ClusterMap
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run


@pytest.fixture
def run(tiny_run, tmp_path):
    return Run.open(shutil.copytree(tiny_run, tmp_path / "run"))


def test_refreshed_as_it_is_a_run_is_the_same(run, capsys):
    before, (votes, labels) = run.metrics(), load_predictions(run)
    assert cli.main(["refresh", str(run.path), "--json"]) == 0
    after = Run.open(run.path).check().metrics()
    assert json.loads(capsys.readouterr().out) == after and after["cost"] == before["cost"]
    assert after["monju"]["accuracy"] == before["monju"]["accuracy"]
    again, same = load_predictions(Run.open(run.path))
    np.testing.assert_allclose(again.logits, votes.logits, atol=1e-5)
    assert (same == labels).all() and Run.open(run.path).config == run.config


def test_an_earlier_run_loses_its_tokenizers_and_double_precision(run, monkeypatch):
    for adapter in run.path.glob("*/*/adapter_config.json"):
        (adapter.parent / "tokenizer.json").write_text("{}")
    run.manifest["config"]["compile"] = False  # a setting of then
    saved = []
    monkeypatch.setattr(BackboneEmbedder, "save", lambda self, folder: saved.append(folder))
    run.finish()
    assert cli.main(["refresh", str(run.path)]) == 0
    found = Run.open(run.path).check()
    assert not [name for name in found.manifest["files"] if "tokenizer" in name] and "compile" not in found.manifest["config"]
    assert len(saved) == 1 and "clustering/clusterer.safetensors" in found.manifest["files"]


def test_another_gate_weighs_the_same_experts(run):
    (votes, labels) = load_predictions(run)
    assert cli.main(["refresh", str(run.path), "--gate", "nearest", "--map-size", "30"]) == 0
    found = Run.open(run.path).check()
    assert found.config.gate == "nearest" and found.metrics()["monju"]["gate"] == "Nearest()"
    fused = load_predictions(found)[0].decide_as(found.config)
    nearest = votes.distances.argmin(axis=1)
    learned = np.array([[c in subset for c in nearest] for subset in votes.subsets]).T
    np.testing.assert_allclose(fused.alpha, learned / learned.sum(axis=1, keepdims=True))
    assert found.metrics()["monju"]["accuracy"] == (fused.monju.argmax(axis=1) == labels).mean()
    assert len(ClusterMap.load(found).rows) == 30


def test_without_its_sentences_nothing_is_written(run, tmp_path, capsys):
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    assert cli.main(["refresh", str(run.path), "--data", str(tmp_path / "none.csv")]) == 2
    assert "monju:" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    with pytest.raises(MonjuError, match="gate"):
        cli.parser().parse_args(["refresh", str(run.path), "--gate", "none"])
