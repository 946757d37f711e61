"""The bench commands: their JSON, and that what is counted is counted right. No time is asserted."""

import importlib.util
import json

import pytest
from conftest import SHORT

from monju.benchmark import speed
from monju.cli import main
from monju.config import Config
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
def test_on_a_gpu_compiled_pipelines_are_a_peer(tiny_run, monkeypatch):
    """Here they are given to the CPU, and a compiler that leaves the graph as it is."""
    monkeypatch.setattr(speed, "COMPILE", {"cpu": {"backend": "eager"}})
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: None)  # no sessions
    found = speed.predict(tiny_run, rounds=2, together=5, device="cpu")
    peer = found["peers"]["pipelines_compiled"]
    assert list(found["ratio"]) == ["pipelines", "pipelines_compiled"] and peer["median_ms"] > 0
    assert peer["flipped_labels"] <= found["ours"]["models"]  # near ties, in bf16


@pytest.mark.slow
def test_what_cannot_be_compiled_in_time_is_left_out(tiny_run, monkeypatch):
    monkeypatch.setattr(speed, "COMPILE", {"cpu": {"backend": "no such compiler"}})
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: None)
    found = speed.predict(tiny_run, rounds=1, together=3, device="cpu")["peers"]["pipelines_compiled"]["left_out"]
    assert found.startswith("not measured: ") and "no such compiler" in found
    monkeypatch.setattr(speed, "PEER_LIMIT_S", 0.1)
    found = speed.predict(tiny_run, rounds=1, together=3, device="cpu")["peers"]
    assert found["pipelines_compiled"] == {"left_out": "not ended after 0.1 s"}


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


@pytest.mark.slow
def test_a_peer_that_takes_too_long_is_left_out_and_the_others_are_compared(movies, tiny_bert, monkeypatch):
    monkeypatch.setattr(speed, "PEER_LIMIT_S", 0.1)
    config = Config(data=str(movies), backbone=str(tiny_bert), batch_size=4, max_tokens=24, device="cpu", workers=1)
    found = speed.train(config, steps=2)
    assert found["peers"] == dict.fromkeys(("trainer", "trainer_tuned"), {"left_out": "not ended after 0.1 s"}) and found["ratio"] == {}
    assert found["ours"]["steady_sentences_per_s"] > 0
