"""The bench commands: their JSON, and that what is counted is counted right. No time is asserted."""

import importlib.util
import json

import numpy as np
import pytest
from conftest import SHORT

from monju.benchmark import speed
from monju.benchmark.speed import Bench, made_up, turn
from monju.cli import main
from monju.config import Config
from monju.models import backbones
from monju.training.pipeline import train


@pytest.fixture
def command(capsys):
    """A function: what a bench command reports."""
    def command(*arguments):
        assert main(["bench", *map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)  # nothing but JSON

    return command


@pytest.mark.slow
def test_predict_reports_every_contender(command, movies, tiny_bert, tmp_path):
    for _ in train(Config(**{**SHORT, "data": str(movies), "backbone": str(tiny_bert), "max_tokens": 128}), tmp_path / "run"):
        pass
    found = command("predict", tmp_path / "run", "--data", movies, "--rounds", 2, "--sentences", 8)
    assert {"median_ms", "p95_ms", "sentences_per_s", "load_s"} <= found["ours"].keys()
    assert list(found["peers"]) == ["pipelines", "onnx", "onnx_int8"] and found["sentences"] == 8
    for name, peer in found["peers"].items():
        if "left_out" in peer:
            assert importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnxscript") is None
            continue
        assert found["ratio"][name] == pytest.approx(peer["median_ms"] / found["ours"]["median_ms"])
        assert found["ratio_batch"][name] == pytest.approx(found["ours"]["sentences_per_s"] / peer["sentences_per_s"])
        assert peer["flipped_labels"] == 0 or name == "onnx_int8"  # the same models say the same
    assert "flipped_labels" in found["peers"]["pipelines"]


@pytest.mark.slow
def test_train_reports_every_contender(command, movies, tiny_bert):
    found = command("train", "--data", movies, "--backbone", tiny_bert, "--steps", 2, "--batch-size", 4, "--max-tokens", 24, "--device", "cpu")
    assert found["steps"] == 2 and list(found["peers"]) == ["trainer", "trainer_tuned"]
    for name, each in {"ours": found["ours"], **found["peers"]}.items():
        assert each["sentences_per_s"] > 0 and each["flops"] > 0 and 0 <= each["padding_share"] < 1
        assert each["peak_memory_bytes"] > 50e6
        if name != "ours":
            assert found["ratio"][name] == pytest.approx(found["ours"]["sentences_per_s"] / each["sentences_per_s"])


def test_bad_numbers_are_told_in_one_line(tiny_run, capfd):
    for arguments in (("predict", tiny_run, "--rounds", 0), ("train", "--steps", -1), ("train", "--seconds", "inf"), ("predict", tiny_run / "no")):
        assert main(["bench", *map(str, arguments)]) == 2
        told = capfd.readouterr().err
        assert told.startswith("monju: ") and told.count("\n") == 1


def test_made_up_sentences_have_the_lengths_of_sst2():
    texts = made_up(872)
    words = [len(text.split()) for text in texts]
    assert texts == made_up(872) and abs(np.mean(words) - 19.5) < 1 and min(words) >= 2


def test_everyone_goes_first_once():
    rounds = [[name for name, _ in turn({"a": 1, "b": 2, "c": 3}, number)] for number in range(3)]
    assert rounds == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]


def test_flops_are_those_of_the_matrix_products():
    """MiniLM by hand, forward and backward: a token meets 4·384² + 2·384·1536 weights in each of 6 layers, and in the last of ours
    but the keys' and values', except for the first of its sentence's 8; and there is attention."""
    tokens = [[101, 2023, 2003, 1037, 3185, 102, 102, 102]] * 4
    run = Bench(Config(device="cpu", batch_size=4), tokens, np.zeros(4, int), ["a", "b"], backbones.tokenizer("all-MiniLM-L6-v2"), 1, "cpu")
    layer, keys = 4 * 384**2 + 2 * 384 * 1536, 2 * 384**2
    for whole, weights in ((True, 32 * 6 * layer), (False, 32 * (5 * layer + keys) + 4 * (layer - keys))):
        assert 3 * 2 * weights < run.flops(32, whole) < 1.1 * 3 * 2 * weights


@pytest.mark.slow
def test_a_peer_that_takes_too_long_is_left_out_and_the_others_are_compared(movies, tiny_bert, monkeypatch):
    monkeypatch.setattr(speed, "PEER_LIMIT_S", 0.1)
    config = Config(data=str(movies), backbone=str(tiny_bert), batch_size=4, max_tokens=24, device="cpu", workers=1)
    found = speed.train(config, steps=2)
    assert found["peers"] == dict.fromkeys(("trainer", "trainer_tuned"), {"left_out": "not ended after 0.1 s"}) and found["ratio"] == {}
    assert found["ours"]["steady_sentences_per_s"] > 0
