"""A sweep: nothing is trained twice, its numbers are the runs' own, and what would take too long is refused first."""

import json

import pytest

from monju.cli import main
from monju.config import Config
from monju.errors import MonjuError
from monju.runs.run import Run
from monju.training import sweep
from monju.utils.files import digest

SETTINGS = {"finetuning": "lora", "sample": 60, "epochs": 1, "max_tokens": 12, "precision": "fp32", "device": "cpu", "workers": 1,
            "k": 2, "subset_size": 1, "embedder": "tfidf", "map_size": 8}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(movies, tiny_bert, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    config = Config(data=str(movies), backbone=str(tiny_bert), **SETTINGS)
    over = {"clusterer": ["balanced", "random"], "sharpness": [0, 4]}
    return out, config, over, list(sweep.sweep(config, over, out, seeds=2))


def test_a_run_for_each_clusterer_and_seed_and_none_for_a_gate(done):
    out, config, over, events = done
    assert len(list(out.glob("*/run.json"))) == 4
    found = json.loads((out / "sweep.json").read_text())
    monju = [row for row in found["rows"] if row["name"] == "monju"]
    assert [row["settings"] for row in monju] == [{"clusterer": c, "sharpness": p} for c in ("balanced", "random") for p in (0, 4)]
    assert all(len(row["accuracy"]["values"]) == 2 and row["accuracy"]["sd"] is not None and row["n"] == 40 for row in monju)
    run = Run.open(sweep.place(out, config))  # p = 1 was trained; p = 0 weighs alike
    uniform = next(row for row in found["rows"] if row["name"] == "uniform")
    assert monju[0]["accuracy"]["values"] == uniform["accuracy"]["values"]
    base = next(row for row in found["rows"] if row["name"] == "baseline")
    assert base["accuracy"]["values"][0] == run.read_json("metrics.json")["baseline"]["accuracy"]


def test_the_baseline_under_other_clusters_is_the_same_file(done):
    out, config, _, _ = done
    from dataclasses import replace

    one, two = (sweep.place(out, replace(config, clusterer=name)) for name in ("balanced", "random"))
    weights = "baseline/seed0/adapter_model.safetensors"
    assert digest(one / weights) == digest(two / weights)
    assert [line for line in Run.open(one).history() if line["model"] == "seed0"] == [
        line for line in Run.open(two).history() if line["model"] == "seed0"]  # to the second: it was not trained again
    assert digest(one / "experts/A/adapter_model.safetensors") != digest(two / "experts/A/adapter_model.safetensors")


def test_a_second_sweep_trains_nothing(done, capsys):
    out, config, _, _ = done
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in {**SETTINGS, "data": config.data, "backbone": config.backbone}.items()]
    assert main(["sweep", "--out", str(out), "--preset", "laptop", "--over", "clusterer=balanced,random", "--seeds", "2", *arguments]) == 0
    said = capsys.readouterr()
    assert "4 runs, 4 of them trained already" in said.err + said.out and "clusterer=random" in said.out
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}
    assert "plotly" in (out / "sweep.html").read_text(encoding="utf-8")


def test_what_would_take_too_long_or_cannot_be_is_refused_before_any_training(movies, tiny_bert, tmp_path):
    config = Config(data=str(movies), backbone=str(tiny_bert), **SETTINGS)
    with pytest.raises(MonjuError, match="would take about .* minutes, more than --budget 0.001"):
        list(sweep.sweep(config, {"sharpness": [0, 4]}, tmp_path, budget=0.001))
    with pytest.raises(MonjuError, match="--subset-size 1 must be smaller|--k cannot be 1"):
        list(sweep.sweep(config, {"k": [3, 1]}, tmp_path))
    assert not list(tmp_path.iterdir())
    assert main(["sweep", "--out", str(tmp_path), "--over", "nonsense=1"]) == 2


def test_every_run_of_a_sweep_is_trained_by_its_engine(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(sweep, "train", lambda config, out, engine, **more: iter(given.append(engine) or ()))
    monkeypatch.setattr(sweep, "measured", lambda *run: [])
    engine = object()
    list(sweep.sweep(Config(**SETTINGS), {"clusterer": ["balanced", "random"], "sharpness": [0, 4]}, tmp_path, engine=engine))
    assert given == [engine, engine]
