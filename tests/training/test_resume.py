"""Training that was interrupted or killed: it goes on, loses an epoch of a model at most, and repeats itself to the bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import torch
from conftest import SHORT, alone
from safetensors.torch import load_file

from monju.cli import main
from monju.config import Config
from monju.errors import MonjuError
from monju.runs.run import Run
from monju.training import local_engine, pipeline
from monju.training.pipeline import train
from monju.training.progress import MAP_SECONDS, Progress
from monju.utils.files import digest

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # bits are compared


def flags(settings):
    """Settings as the command line takes them."""
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        yield from [flag if value else f"--no-{flag[2:]}"] if isinstance(value, bool) else [flag, str(value)]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def accuracies(found):
    """Every accuracy in a metrics dictionary, with its place."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name == "accuracy":
                yield (name,), value
            else:
                yield from (((name, *place), accuracy) for place, accuracy in accuracies(value))


def weights(folder):
    """Every weight of a run, by file and name."""
    return {(str(path.relative_to(folder)), name): tensor
            for path in sorted(folder.rglob("*model.safetensors")) for name, tensor in load_file(path).items()}


def same_run(one, other):
    """Whether two runs hold the same weights, to the bit, and give the same accuracies."""
    ours, theirs = weights(one), weights(other)
    assert ours and ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert list(accuracies(metrics(one))) == list(accuracies(metrics(other)))


@pytest.fixture(scope="module")
def settings(movies, tiny_bert):
    """Two models of 120 steps, ten an epoch: long enough to be disturbed."""
    return {**SHORT, "data": str(movies), "backbone": str(tiny_bert), "embedder": "backbone", "epochs": 12}


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    with alone():
        for _ in train(Config(**settings), out):
            pass
    return out


def start(arguments):
    """A `train` in a process of its own, as a user has it, on one thread like the others here."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "monju", "train", *arguments], cwd=REPOSITORY, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def resumed(out):
    """What a resume says and tells: in a process of its own, since threads that other tests started here change the last bits."""
    process = start(["--out", str(out), "--resume", "--json"])
    said, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return said, told


def when(process, out, model, step):
    """Wait until a model of the run has done so many steps."""
    began = time.monotonic()
    while time.monotonic() - began < 120:
        assert process.poll() is None, process.communicate()[1]
        lines = Run(out, {}).history()
        if any(line["model"] == model and line["step"] >= step for line in lines):
            return
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"{model} never came to step {step}: {process.communicate()[1]}")


@pytest.fixture(scope="module")
def interrupted(settings, tmp_path_factory):
    """(folder, exit code, standard error) of a training that got Ctrl-C in the middle of its first model."""
    out = tmp_path_factory.mktemp("interrupted") / "a run, stopped"
    process = start(["--out", str(out), *flags(settings)])
    when(process, out, "A", 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    return out, process.returncode, errors


def test_time_left_counts_neither_a_pause_nor_the_start_of_processes(interrupted, tmp_path, monkeypatch):
    """The first report of a resumed run, whatever passed before it."""
    out = shutil.copytree(interrupted[0], tmp_path / "run")
    real = local_engine.run_all

    def slow(*given):
        time.sleep(1)  # as processes that import their libraries
        yield from real(*given)

    monkeypatch.setattr(local_engine, "run_all", slow)
    events = train(None, out, resume=True)
    first = next(event for event in events if isinstance(event, Progress))
    events.close()
    assert first.left - MAP_SECONDS == pytest.approx((1 - first.done) / first.done * first.step.seconds, rel=0.7)


def test_ctrl_c_ends_calmly_and_says_how_to_go_on(interrupted):
    out, code, errors = interrupted
    assert code == 130 and "Traceback" not in errors
    assert errors.splitlines()[-1] == f"monju: stopped; continue with `python -m monju train --out '{out}' --resume`."
    assert Run.open(out).manifest["status"] == "interrupted"
    assert not list(out.rglob(".*.partial"))


def test_ctrl_c_is_an_exit_while_models_wait_whose_rows_fill_a_pipe(many_sentences, tiny_bert, tmp_path):
    out = tmp_path / "run"
    process = start(["--data", str(many_sentences), "--out", str(out), "--embedder", "tfidf", "--clusterer", "random", "--max-tokens", "8",
                     "--backbone", str(tiny_bert), "--batch-size", "8", "--device", "cpu", "--workers", "2"])
    when(process, out, "AB", 1)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    told = next(line for line in process.stderr if line.startswith("monju: stopped; continue with"))
    assert process.wait(timeout=60) == 130 and str(out) in told
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert Run.open(out).manifest["status"] == "interrupted"


def test_an_interrupted_run_is_not_read(interrupted, capsys):
    assert main(["predict", str(interrupted[0]), "a fine film"]) == 2
    assert "not finished (interrupted)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def killed(interrupted, tmp_path_factory):
    """The folder of the interrupted training, resumed and killed in a later epoch of its second model."""
    out = shutil.copytree(interrupted[0], tmp_path_factory.mktemp("killed") / "run")
    process = start(["--out", str(out), "--resume"])
    when(process, out, "B", 11)  # an epoch has ten: much is left, should this be slow to see it
    process.kill()
    process.communicate(timeout=60)
    return out


def test_killed_training_goes_on_where_it_was(killed, undisturbed, tmp_path):
    """Resumed again after Ctrl-C and a kill: the first model and the second one's first epoch are kept, and what comes out is
    what an undisturbed training gives, to the bit."""
    out = shutil.copytree(killed, tmp_path / "run")
    assert Run.open(out).manifest["status"] == "training"
    first = out / "experts" / "A" / "adapter_model.safetensors"
    before = (digest(first), first.stat().st_mtime_ns)
    epoch = [line for line in Run.open(out).history() if line["model"] == "B"][:10]
    assert not (out / "experts" / "B").exists()

    said, told = resumed(out)
    assert "A is complete." in told
    assert json.loads(said) == metrics(out)
    assert before == (digest(first), first.stat().st_mtime_ns)
    same_run(out, undisturbed)
    lines = [line for line in Run.open(out).check().history() if line["model"] == "B"]
    assert lines[:10] == epoch and [line["step"] for line in lines] == list(range(1, 121))
    assert lines[-1]["seconds"] > lines[10]["seconds"] > epoch[-1]["seconds"]
    assert not (out / "checkpoints").exists()
    steps = Counter(line["model"] for line in Run.open(out).history())
    assert steps == Counter(line["model"] for line in Run.open(undisturbed).history()) == {"A": 120, "B": 120}


def test_a_damaged_checkpoint_is_told_and_its_model_starts_again(killed, undisturbed, tmp_path):
    out = shutil.copytree(killed, tmp_path / "run")
    [tensors] = (out / "checkpoints" / "B").glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"!")
    assert "The checkpoint of B is damaged: B starts again." in resumed(out)[1]
    same_run(out, undisturbed)


def test_a_finished_run_is_not_trained_again(undisturbed, tmp_path, capsys):
    out = shutil.copytree(undisturbed, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(["train", "--out", str(out), "--resume", "--json"]) == 0
    captured = capsys.readouterr()
    assert "already finished" in captured.err
    assert json.loads(captured.out) == metrics(out)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_two_models_at_a_time_are_the_same_models(undisturbed, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(local_engine, "places", lambda device, jobs, most: [device] * most)
    list(train(Config(**{**settings, "workers": 2}), tmp_path / "run"))
    same_run(tmp_path / "run", undisturbed)


@pytest.fixture
def between(interrupted, tmp_path):
    """A copy of the interrupted run, to be disturbed further."""
    return shutil.copytree(interrupted[0], tmp_path / "run")


def refusal(arguments, capsys):
    assert main(["train", *map(str, arguments)]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_resume_keeps_to_the_runs_own_settings(between, capsys):
    for other in (["--epochs", "5"], ["--preset", "laptop"], ["--no-baselines"]):
        assert other[0].replace("no-", "") in refusal(["--out", between, "--resume", *other], capsys)


@pytest.mark.parametrize("way", ["cut", "flipped", "gone", "cut, and not listed yet"])
def test_resume_on_damaged_clusters_says_so(between, capsys, way):
    file = between / "clustering" / "clusterer.safetensors"
    whole = file.read_bytes()
    if way == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if way == "flipped" else whole[: len(whole) // 2])
    if "not listed" in way:  # as after a kill between the folder and the manifest
        manifest = json.loads((between / "run.json").read_text())
        manifest.pop("files")
        (between / "run.json").write_text(json.dumps(manifest))
    told = refusal(["--out", between, "--resume"], capsys)
    assert ("is missing" if way == "gone" else "are damaged" if "listed" in way else "is not the file that the run wrote") in told
    assert "restore" in told and "train the run again" in told


def test_resume_needs_a_run(tmp_path, capsys):
    assert "there is no run folder" in refusal(["--out", tmp_path / "nowhere", "--resume"], capsys)
    assert "not a run folder" in refusal(["--out", tmp_path, "--resume"], capsys)


def test_a_taken_folder_is_left_alone(between, movies, capsys):
    before = {path: path.stat().st_mtime_ns for path in between.rglob("*")}
    assert "already holds a run" in refusal(["--out", between, "--data", movies], capsys)
    assert before == {path: path.stat().st_mtime_ns for path in between.rglob("*")}


def test_resume_needs_the_same_sentences(between, movies, tmp_path, capsys):
    other = shutil.copytree(movies, tmp_path / "other")
    lines = (other / "train.csv").read_text().splitlines(keepends=True)
    (other / "train.csv").write_text("".join(lines[:1] + lines[2:]))
    manifest = Run.open(between).manifest
    manifest["config"]["data"] = str(other)
    Run(between, manifest).write_manifest()
    assert "no longer holds the sentences" in refusal(["--out", between, "--resume"], capsys)


def test_a_folder_whose_history_is_cut_short_is_trained_again(undisturbed, tmp_path, monkeypatch):
    """A kill may come between a worker's folder and the last lines of its history: costs must not be counted from them."""
    out = shutil.copytree(undisturbed, tmp_path / "run")
    run = Run.open(out)
    lines = [line for line in run.history() if (line["model"], line["step"]) != ("B", 120)]
    (out / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.update(status="training", files=run.listed("clustering"))
    kept = []

    def look(shop, jobs, complete, work, engine):
        kept.extend(complete)
        raise MonjuError("seen enough")

    monkeypatch.setattr(pipeline, "fit_all", look)
    with pytest.raises(MonjuError, match="seen enough"):
        list(train(None, out, resume=True))
    assert kept == ["A"] and {line["model"] for line in run.history()} == {"A"}
