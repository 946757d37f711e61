"""Branch, train, merge: the steps are spread, a round starts from the average of the last, and an interruption costs a model."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from rich.console import Console

from monju.cli import main
from monju.config import Config
from monju.errors import MonjuError
from monju.inference.pipeline import Monju
from monju.models.classifier import Expert
from monju.reporting import figures
from monju.reporting.console import rounds_table
from monju.runs.run import Run
from monju.training import btm, fit_jobs
from monju.training.pipeline import train
from monju.training.plan import plan
from monju.ui.i18n.translator import Translator

SETTINGS = {"k": 2, "subset_size": 1, "baselines": False, "equal_cost": True, "sample": 40, "finetuning": "full", "epochs": 2,
            "batch_size": 4, "max_tokens": 12, "precision": "fp32", "device": "cpu", "workers": 1, "rounds": 2,
            "map_size": 8, "embedder": "backbone"}
CLUSTERS = np.array([0] * 40 + [1] * 20 + [2] * 4)
pytestmark = pytest.mark.usefixtures("one_thread")  # bits are compared


@pytest.fixture(scope="module")
def two_rounds(movies, tiny_bert, tmp_path_factory):
    """(finished run of two rounds, what stood in its folder just before it was sealed)."""
    out, before = tmp_path_factory.mktemp("rounds") / "run", tmp_path_factory.mktemp("before") / "run"
    with pytest.MonkeyPatch.context() as patch:
        clear = btm.clear

        def copied(run):
            shutil.copytree(run.path, before)
            clear(run)

        patch.setattr(btm, "clear", copied)
        for _ in train(Config(data=str(movies), backbone=str(tiny_bert), **SETTINGS), out):
            pass
    return out, before


def test_steps_are_spread_and_none_is_lost():
    assert btm.split_steps(16, 1) == [16] and btm.split_steps(16, 3) == [5, 5, 6] and btm.split_steps(2, 2) == [1, 1]
    with pytest.raises(MonjuError, match="--rounds 3 leaves an expert with 2 steps none"):
        btm.split_steps(2, 3)


def test_the_plan_has_the_rounds_of_every_expert_and_controls_of_their_sum():
    # as in test_training: AB takes 16 steps, BC 6, CA 12
    jobs = plan(Config(epochs=2, batch_size=8, rounds=2, equal_cost=True), CLUSTERS, np.full(64, 10))
    assert [job.key for job in jobs[:6]] == ["rounds/1/AB", "rounds/1/BC", "rounds/1/CA", "AB", "BC", "CA"]
    assert [job.steps for job in jobs[:6]] == [8, 3, 6, 8, 3, 6]
    assert [job.start for job in jobs[:6]] == [None] * 3 + ["rounds/1"] * 3
    assert [job.model for job in jobs[:6]] == ["AB", "BC", "CA"] * 2
    assert [job.seed for job in jobs[:6]] == [0] * 3 + [100] * 3
    assert [job.steps for job in jobs if job.kind == "equal-cost"] == [16, 6, 12]
    assert all(job.start is None for job in jobs[6:])


def test_a_start_is_the_weighted_average_of_the_experts(two_rounds):
    out, before = two_rounds
    folders = [before / "rounds" / "1" / name for name in "AB"]
    a, b = (Expert.load(folder, 2, 0, torch.device("cpu")).model.state_dict() for folder in folders)
    merged = Expert.load(folders[0], 2, 0, torch.device("cpu"))
    btm.init_from_average(merged, folders, [0.25, 0.75])
    for name, weight in merged.model.state_dict().items():
        torch.testing.assert_close(weight, 0.25 * a[name] + 0.75 * b[name])
    assert not torch.equal(a["classifier.weight"], b["classifier.weight"])


def test_what_is_intermediate_is_gone_and_all_costs_are_counted(two_rounds):
    out, before = two_rounds
    run = Run.open(out).check()
    assert (before / "rounds" / "1" / "A").is_dir() and not (out / "rounds").exists()
    found, history = run.read_json("metrics.json"), run.history()
    lines = {line["model"]: line for line in history}
    assert {"rounds/1/A", "rounds/1/B", "A", "B"} <= lines.keys()
    for name in "AB":
        for what, key in (("tokens", "tokens"), ("steps", "step")):
            assert found["cost"][name][what] == lines[f"rounds/1/{name}"][key] + lines[name][key]
    for i, name in enumerate("AB"):
        assert found["cost"][f"equal-cost/seed{i}"]["steps"] == found["cost"][name]["steps"]
    assert found["rounds"][-1]["tokens"] == found["cost"]["A"]["tokens"] + found["cost"]["B"]["tokens"]


def test_the_curve_ends_in_the_runs_own_table(two_rounds):
    found = Run.open(two_rounds[0]).read_json("metrics.json")
    first, last = found["rounds"]
    assert (first["round"], last["round"]) == (1, 2) and first["tokens"] < last["tokens"]
    assert last["monju"]["accuracy"] == found["monju"]["accuracy"]
    assert {name: one["accuracy"] for name, one in last["experts"].items()} == {
        name: one["accuracy"] for name, one in found["experts"].items()}
    assert all(0 <= one["merged"]["accuracy"] <= 1 for one in found["rounds"])


def test_the_curve_is_shown(two_rounds):
    metrics = Run.open(two_rounds[0]).read_json("metrics.json")
    console = Console(width=80, record=True, file=open("/dev/null", "w"))
    console.print(rounds_table(metrics))
    assert f"{100 * metrics['rounds'][0]['merged']['accuracy']:.2f}" in console.export_text()
    drawn = figures.rounds_curve(metrics["rounds"], Translator("en"))
    assert [trace.name for trace in drawn.data][:2] == ["A", "B"] and list(drawn.data[2].x) == [1, 2]
    assert drawn.data[2].y[1] == pytest.approx(100 * metrics["monju"]["accuracy"])


def resumed(place, tmp_path):
    """A run's folder, as it stood, continued; which models were trained again."""
    out = shutil.copytree(place, tmp_path / "run")
    Run.open(out).update(status="training")
    before = Counter(line["model"] for line in Run.open(out).history())
    for _ in train(None, out, resume=True):
        pass
    return out, before


def test_a_run_that_was_stopped_in_its_second_round_repeats_one_model(two_rounds, tmp_path, monkeypatch):
    out, before = two_rounds
    shutil.copytree(before, tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped" / "experts" / "B")
    (tmp_path / "stopped" / "metrics.json").unlink()
    trained, fit = [], fit_jobs.TrainTask.fit
    monkeypatch.setattr(fit_jobs.TrainTask, "fit", lambda task, jobs, device: trained.extend(job.key for job in jobs) or fit(task, jobs, device))
    again, _ = resumed(tmp_path / "stopped", tmp_path)
    assert trained == ["B"]
    same(again, out)


def test_a_run_that_was_stopped_while_it_was_sealed_trains_nothing_again(two_rounds, tmp_path, monkeypatch):
    out, before = two_rounds
    shutil.copytree(before, tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped" / "rounds" / "1" / "A")  # killed amid the removal
    monkeypatch.setattr(fit_jobs.TrainTask, "fit", lambda *_: pytest.fail("trained again"))
    again, _ = resumed(tmp_path / "stopped", tmp_path)
    same(again, out)


def same(one, other):
    for name in "AB":
        place = f"experts/{name}/model.safetensors"
        assert (one / place).read_bytes() == (other / place).read_bytes()
    ours, theirs = (Run.open(place).check().read_json("metrics.json")["rounds"] for place in (one, other))
    assert [{**row, "seconds": 0} for row in ours] == [{**row, "seconds": 0} for row in theirs]
    assert not (one / "rounds").exists()


def test_a_later_round_reads_what_its_experts_say(two_rounds):
    """The finished run is a run like any other."""
    monju = Monju.load(two_rounds[0], device="cpu")
    assert monju.predict(["a quiet triumph"]).monju.shape == (1, 2)


@pytest.mark.parametrize("extra, told", [
    (["--finetuning", "lora", "--rounds", "2"], "average of adapters"), (["--rounds", "0"], "at least 1"),
    (["--rounds", "9", "--sample", "40", "--epochs", "0.1"], "leaves an expert")])
def test_what_cannot_be_is_refused_before_anything_is_written(movies, tmp_path, capsys, extra, told):
    assert main(["train", "--data", str(movies), "--preset", "laptop", "--out", str(tmp_path / "run"), *extra]) == 2
    assert told in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "run").exists()


def test_the_bench_keeps_its_own_rounds(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "train", "--help"])
    assert "how often each is timed" in capsys.readouterr().out
    assert json.dumps(Config().to_json()["rounds"]) == "1"
