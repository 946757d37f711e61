"""Jobs: real small trainings in processes of their own, stopped, killed, continued."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from monju.config import Config
from monju.errors import MonjuError
from monju.runs.run import Run
from monju.training.job_manager import JobManager

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds, for a busy machine: a trainer stands back behind all others
LONG = 400  # epochs


@pytest.fixture
def config(movies, tiny_bert):
    """A function: the settings of a small training, with changes. LONG of its epochs nobody waits for."""
    def config(**settings):
        return Config(**{"data": str(movies), "label_names": ["negative", "positive"], "k": 2, "subset_size": 1,
                         "backbone": str(tiny_bert), "embedder": "backbone", "finetuning": "lora", "baselines": False,
                         "epochs": 1, "batch_size": 2, "max_tokens": 12, "precision": "fp32", "device": "cpu",
                         "workers": 1, "map_size": 8, **settings})

    return config


def until(found, what):
    end = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return value


def processes(pid):
    """Every living process of a job's group."""
    found = []
    for process in psutil.process_iter(["pid", "status"]):
        try:
            if os.getpgid(process.pid) == pid and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


@pytest.fixture
def jobs(tmp_path):
    jobs = JobManager(tmp_path / "runs")
    yield jobs
    jobs.stop()


def stepping(jobs):
    return until(lambda: (found := jobs.snapshot())["history"] and found, "no step was told")


def test_nothing_has_trained_yet(jobs):
    assert jobs.snapshot() == {"name": None, "status": "none"}


@pytest.mark.slow
def test_a_job_is_stopped_and_continued_to_its_end(jobs, config):
    jobs.start(config(epochs=LONG), "try")
    with pytest.raises(MonjuError, match="try is being trained"):
        jobs.start(config(), "another")
    with pytest.raises(MonjuError, match="try is being trained"):
        JobManager(jobs.folder).resume("try")
    found = stepping(jobs)
    assert found["status"] == "training" and found["models"]["experts"] == ["A", "B"]
    pid = jobs.begun("try")["pid"]
    jobs.stop()
    assert not processes(pid) and not jobs.running()
    found = jobs.snapshot()
    assert found["status"] == "stopped" and found["resumable"] and found["history"]
    assert Run.open(jobs.folder / "try").manifest["status"] in ("interrupted", "training")

    manifest = json.loads((jobs.folder / "try" / "run.json").read_text())
    manifest["config"]["epochs"] = max(line["step"] for line in found["history"]) / 30 + 5  # so that the rest is short: 30 steps are an epoch
    (jobs.folder / "try" / "run.json").write_text(json.dumps(manifest))
    jobs.resume("try")
    found = until(lambda: (now := jobs.snapshot())["status"] not in ("training", "stopping") and now, "it did not end")
    assert found["status"] == "finished", found
    assert {line["model"] for line in found["history"]} == {"A", "B"} and not found["resumable"]
    Run.open(jobs.folder / "try").check()
    # whoever comes later, in another process, sees the same
    assert JobManager(jobs.folder).snapshot() == found
    with pytest.raises(MonjuError, match="already finished"):
        jobs.resume("try")
    with pytest.raises(MonjuError, match="already a run"):
        jobs.start(config(), "try")


@pytest.mark.slow
def test_a_killed_trainer_leaves_no_worker_no_lock_and_a_run_that_goes_on(jobs, config):
    jobs.start(config(epochs=LONG, workers=2), "try")
    stepping(jobs)
    pid = jobs.begun("try")["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not processes(pid), "a worker outlived its parent")
    found = jobs.snapshot()
    assert found["status"] == "died" and found["resumable"]
    jobs.resume("try")
    assert jobs.snapshot()["status"] == "training"
    jobs.stop()
    assert jobs.snapshot()["status"] == "stopped"


@pytest.mark.slow
def test_a_job_ends_with_the_process_that_started_it(tmp_path, config):
    code = ("import json, sys, time\nfrom monju.config import Config\nfrom monju.training.job_manager import JobManager\n"
            "JobManager(sys.argv[1]).start(Config.from_json(json.loads(sys.argv[2])), 'try')\ntime.sleep(600)")
    page = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), json.dumps(config(epochs=LONG).to_json())],
                            cwd=REPOSITORY)
    jobs = JobManager(tmp_path)
    stepping_here = until(lambda: jobs.last() and jobs.snapshot()["history"], "no step was told")
    assert stepping_here
    pid = jobs.begun("try")["pid"]
    page.kill()
    page.wait()
    end = time.monotonic() + 5  # on a busy machine too
    while processes(pid) or jobs.running():
        assert time.monotonic() < end, "the trainer outlived the page"
        time.sleep(0.1)
    assert jobs.snapshot()["status"] == "died" and jobs.snapshot()["resumable"]


@pytest.mark.slow
def test_what_cannot_be_trained_on_is_told_and_leaves_nothing(jobs, config, tmp_path):
    (tmp_path / "one.csv").write_text("text,label\n" + "good,1\n" * 20)
    jobs.start(config(data=str(tmp_path / "one.csv"), label_names=[]), "try")
    found = until(lambda: (now := jobs.snapshot())["status"] != "training" and now, "it did not end")
    assert found["status"] == "failed" and "one class" in found["reason"]
    assert not (jobs.folder / "try").exists()


@pytest.mark.slow
def test_a_job_that_fails_ends_while_models_wait_whose_rows_fill_a_pipe(jobs, config, many_sentences):
    jobs.start(config(data=str(many_sentences), label_names=[], subset_size=2, k=3, baselines=True, finetuning="full", learning_rate=1e9, max_tokens=8,
                      embedder="tfidf", clusterer="random", workers=2), "try")
    found = until(lambda: (now := jobs.snapshot())["reason"] and now, "it did not fail")
    assert "the loss became nan" in found["reason"] and found["status"] == "failed"
    until(lambda: not processes(jobs.begun("try")["pid"]), "a process is left")


@pytest.mark.parametrize("name", ["", "..", "../out", "a/b", ".hidden", "-x", "a\0b", "x" * 200, None])
def test_a_name_that_is_no_plain_folder_name_starts_nothing(jobs, config, name):
    with pytest.raises(MonjuError):
        jobs.start(config(), name)
    assert not jobs.folder.exists()


def test_how_far_a_job_is_follows_the_clock_between_its_reports(jobs, tmp_path):
    def told(age, **facts):
        jobs.file("try", "now").write_text(json.dumps({"at": time.time() - age, "phase": "training", "patience": 20.0, "done": 0.5,
                                                       "left": 60.0, "memory": 1, "of": "gpu", **facts}))
        found = jobs.now("try")
        assert found["done"] == 0.5 and found["memory"] == 1
        return found["left"], found.get("waits")

    jobs.place.mkdir(parents=True)
    assert jobs.now("try") == {}
    assert told(10) == (50, None)
    assert told(25) == (None, 25)  # no step for longer than it has patience: it waits
    assert told(25, phase="evaluation", patience=None) == (35, None)
    assert told(90, phase="map", patience=None) == (None, None) == told(1, phase="map", patience=None, left=None)


def test_lines_are_read_as_they_grow_and_anew_when_replaced(jobs, tmp_path):
    file = tmp_path / "lines"
    file.write_text('{"a": 1}\n{"a": 2')
    assert jobs.lines(file) == [{"a": 1}]
    with open(file, "a") as more:
        more.write('}\n{"a": 3}\n')
    assert jobs.lines(file) == [{"a": 1}, {"a": 2}, {"a": 3}]
    (tmp_path / "new").write_text('{"b": 1}\n')
    os.replace(tmp_path / "new", file)
    assert jobs.lines(file) == [{"b": 1}]
    file.unlink()
    assert jobs.lines(file) == []


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux has idle processes")
def test_a_trainer_gives_its_core_up_to_the_page():
    code = "import os; from monju.training import job_process; job_process._stand_back(); print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_IDLE)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True).stdout.split() == ["19", "True"]
