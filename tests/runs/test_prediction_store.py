"""The stored held-out predictions give the run's table again, without a single forward pass."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from monju.config import Config
from monju.data import sources
from monju.ensemble import gates
from monju.ensemble.outputs import ModelOutputs
from monju.errors import MonjuError
from monju.evaluation import run_table
from monju.runs import prediction_store
from monju.runs.prediction_store import as_stored, load_predictions, save_predictions
from monju.runs.run import Run


def test_the_table_can_be_drawn_again_from_the_stored_votes(tiny_run):
    run = Run.open(tiny_run)
    votes, labels = load_predictions(run)
    stored = json.loads((tiny_run / "metrics.json").read_text())
    again = run_table.table(votes.decide_as(run.config), labels, stored["cost"], repr(gates.make(run.config)))
    assert json.loads(json.dumps(again)) == stored


def test_what_is_stored_is_one_row_a_sentence_and_no_text(tiny_run):
    rows = pd.read_parquet(tiny_run / "predictions.parquet")
    data = sources.load(Run.open(tiny_run).config.data)
    assert rows["id"].tolist() == list(range(40)) and rows["label"].tolist() == data.validation.labels.tolist()
    models = ["AB", "BC", "CA", "seed0", "seed1", "seed2", *(f"equal-cost/seed{i}" for i in range(3))]
    assert list(rows) == ["id", "label", "distances", "vector", *(f"logits {model}" for model in models)]
    content = (tiny_run / "predictions.parquet").read_bytes()
    assert not any(text.encode() in content for text in data.validation.texts)


@pytest.fixture
def run(tmp_path):
    models = {"experts": ["A", "B"], "baseline": ["seed0"], "equal-cost": ["seed0"]}
    return Run.create(tmp_path / "run", Config(k=2, subset_size=1), data={"fingerprint": "0"}, models=models)


def test_votes_come_back_as_they_were(run):
    random = np.random.default_rng(0)
    votes = ModelOutputs(["A", "B"], [(0,), (1,)], ["A", "B"], ["seed0"], ["equal-cost/seed0"], None, random.random((5, 2)),
                  random.dirichlet([1, 1], 5), random.normal(size=(5, 4, 3)).astype(np.float32))
    save_predictions(run, votes, np.array([0, 1, 2, 1, 0]))
    found, labels = load_predictions(run)
    assert labels.tolist() == [0, 1, 2, 1, 0]
    assert (found.clusters, found.subsets, found.models) == (votes.clusters, votes.subsets, votes.models)
    for name in ("distances", "posterior", "logits"):
        np.testing.assert_array_equal(getattr(found, name), getattr(votes, name))
    assert found.logits.dtype == np.float32 and found.vectors is None


def test_a_damaged_file_is_refused_by_name(run, tiny_run):
    path = run.path / "predictions.parquet"
    for content in (None, b"", b"PAR1 and nothing else", (tiny_run / "predictions.parquet").read_bytes()[:-100]):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(MonjuError, match="predictions.parquet is damaged"):
            load_predictions(run)
    shutil.copy(tiny_run / "predictions.parquet", path)  # another run's: its models are not this one's
    with pytest.raises(MonjuError, match="predictions.parquet is damaged"):
        load_predictions(run)


def test_a_small_file_that_unpacks_to_much_is_refused_unread(run, tiny_run, monkeypatch):
    shutil.copy(tiny_run / "predictions.parquet", run.path)
    monkeypatch.setattr(prediction_store, "MOST_BYTES", 1000)
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read", lambda *_: pytest.fail("it is unpacked"))
    with pytest.raises(MonjuError, match="predictions.parquet is damaged .*unpacks to more than"):
        load_predictions(run)


def test_the_sentences_kept_aside_have_their_own_predictions(tiny_run):
    run = Run.open(tiny_run)
    votes, labels = load_predictions(run, "tuning")
    assert votes.logits.shape == (20, 6, 2) and votes.vectors.shape[0] == len(labels) == 20
    assert load_predictions(run)[0].vectors.shape == (40, votes.vectors.shape[1])
    np.testing.assert_allclose(np.linalg.norm(votes.vectors, axis=1), 1, atol=1e-3)  # in half precision
    run.manifest["data"]["tuning"] = 0
    with pytest.raises(MonjuError, match="--tuning-size"):
        load_predictions(run, "tuning")


def test_of_many_labels_what_is_measured_is_what_the_file_gives_again(tiny_run, tmp_path):
    run = Run.open(shutil.copytree(tiny_run, tmp_path / "run"))
    votes, labels = load_predictions(run)
    logits = np.random.default_rng(0).normal(scale=6, size=(*votes.logits.shape[:2], 150)).astype(np.float32)
    many = replace(votes, logits=logits)
    run.manifest["data"]["labels"] = list(range(150))
    measured = save_predictions(run, many, labels)
    found, _ = load_predictions(run)
    np.testing.assert_array_equal(found.logits, measured.logits)
    assert 0 < np.abs(measured.logits - logits).max() <= 1 / 128 + 1 / 128  # half a step, and half precision's own from 16 on
    np.testing.assert_array_equal(as_stored(measured).logits, measured.logits)
    assert (run.path / "predictions.parquet").stat().st_size < 0.6 * logits.nbytes
    assert as_stored(votes) is votes  # of few labels nothing is lost
