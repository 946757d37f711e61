"""What befalls a machine: kills at any moment, a full disk, a vanished folder, fifty who start at once."""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from test_jobs import LONG, config, jobs, processes, stepping, until  # noqa: F401  # config and jobs are fixtures

from monju.config import Config
from monju.errors import MonjuError
from monju.runs.checkpoints import Checkpoints
from monju.runs.run import Run
from monju.training.job_manager import JobManager

SETTINGS = {"k": 2, "subset_size": 1, "baselines": False, "finetuning": "lora", "epochs": 4, "batch_size": 4, "learning_rate": 1e-3,
            "max_tokens": 8, "precision": "fp32", "device": "cpu", "workers": 1, "map_size": 8, "embedder": "backbone"}
EPOCH = 15  # steps: 60 sentences a cluster, in fours
pytestmark = pytest.mark.slow


# ---- SIGKILL at any moment --------------------------------------------------------------------------------------


def live(settings, out, resume):
    """One life of a training, in a process of its own."""
    import torch

    from monju.training.pipeline import train

    torch.set_num_threads(1)
    os.setpgrp()
    for _ in train(None if resume else Config(**settings), out, resume=resume):
        pass


FORKED = multiprocessing.get_context("forkserver")  # a life begins with the libraries imported already
FORKED.set_forkserver_preload(["monju.training.pipeline", "peft"])


def born(settings, out, resume=False):
    process = FORKED.Process(target=live, args=(settings, out, resume))
    process.start()
    return process


def digests(out):
    """SHA-256 of what was learned: every model, the clusters, the predictions, the map."""
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(out).rglob("*"))
            if path.suffix in (".safetensors", ".parquet")}


@pytest.mark.parametrize("kills", [2, pytest.param(200, marks=pytest.mark.long)])
def test_killed_at_any_moment_a_run_loses_an_epoch_at_most_and_ends_as_the_undisturbed(movies, tiny_bert, tmp_path, kills):
    settings = {"data": str(movies), "backbone": str(tiny_bert), **SETTINGS}
    began = time.monotonic()
    undisturbed = born(settings, tmp_path / "undisturbed")
    undisturbed.join()
    life, expected, chance = time.monotonic() - began, digests(tmp_path / "undisturbed"), random.Random(kills)
    assert {path.split("/")[0] for path in expected} >= {"experts", "clustering"}
    for number in range(kills):
        out = tmp_path / f"run{number}"
        process = born(settings, out)
        moment = chance.uniform(0, life)
        process.join(moment)
        os.kill(process.pid, signal.SIGKILL) if process.is_alive() else None
        process.join()
        if not (out / "run.json").exists():
            assert not out.exists() or not any(path for path in out.iterdir() if path.name != ".run.json.partial")
            shutil.rmtree(out, ignore_errors=True)
            continue  # killed before the run began
        run = Run.open(out)
        if not run.finished:
            reached = {line["model"]: line["step"] for line in run.history()}
            for model, step in reached.items():
                kept = Checkpoints(out / "checkpoints" / model)
                assert not kept.damaged, moment
                assert (out / "experts" / model).exists() or step - kept.facts["step"] <= EPOCH, moment
            again = born(settings, out, resume=True)
            again.join()
            assert again.exitcode == 0, moment
        Run.open(out).check()
        assert digests(out) == expected, moment
        shutil.rmtree(out)


# ---- many at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("starts", [8, pytest.param(50, marks=pytest.mark.long)])
def test_of_many_parallel_starts_one_trains_and_the_rest_are_refused_politely(config, tmp_path, starts):  # noqa: F811
    """Half of them in other processes, as several pages on one folder are."""
    code = ("import json, sys\nfrom monju.config import Config\nfrom monju.errors import MonjuError\nfrom monju.training.job_manager import JobManager\n"
            "sys.stdin.readline()\n"
            "try:\n    JobManager(sys.argv[1]).start(Config.from_json(json.loads(sys.argv[2])), sys.argv[3]); print('started', flush=True)\n"
            "    sys.stdin.read()\n"
            "except MonjuError as error:\n    print(error)")
    wanted = json.dumps(config(epochs=LONG).to_json())
    others = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), wanted, f"run{i}"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) for i in range(starts // 2)]
    mine, told = JobManager(tmp_path), []

    def start(i):
        try:
            mine.start(config(epochs=LONG), f"own{i}")
            told.append("started")
        except MonjuError as error:
            told.append(str(error))

    threads = [threading.Thread(target=start, args=(i,)) for i in range(starts - len(others))]
    for process in others:
        process.stdin.write("go\n")
        process.stdin.flush()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told += [process.stdout.readline().strip() for process in others]
    try:
        assert told.count("started") == 1, told
        assert len([words for words in told if "is being trained: wait for it, or stop it first" in words]) == starts - 1, told
        assert len(list((tmp_path / ".jobs").glob("*.log"))) == 1
    finally:
        mine.stop()
        for process in others:
            process.stdin.close()
            process.wait(60)
            process.stdout.close()


@pytest.mark.parametrize("stops, within, seconds", [(2, 2, 60), pytest.param(20, 20, 5, marks=pytest.mark.long)])
def test_stopped_again_and_again_it_ends_in_time_and_returns_its_memory(jobs, config, stops, within, seconds):  # noqa: F811
    """At random moments, from the first imports on. Five seconds are promised on a machine that has time for us: the short
    version, which runs beside anything, asks only that it ends."""
    chance = random.Random(stops)
    jobs.start(config(epochs=LONG * stops, workers=2), "try")
    stepping(jobs)
    for number in range(stops):
        time.sleep(chance.uniform(0, within))
        pid = jobs.begun("try")["pid"]
        assert processes(pid)
        began = time.monotonic()
        jobs.stop()
        assert time.monotonic() - began < seconds
        until(lambda: not processes(pid), "a process is left")  # Python's own helper of workers ends a moment after them
        assert jobs.snapshot()["status"] == "stopped"
        if number + 1 < stops:
            jobs.resume("try")


# ---- the disk ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 80 MB: (folder, a function that gives it another size)."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        return subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True).returncode

    if not shutil.which("mount") or mount("-o", "size=80m"):
        pytest.skip("a small file system cannot be mounted here")
    yield folder, lambda size: mount("-o", f"remount,size={size}")
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_told_and_with_room_the_run_goes_on(small_disk, config, tiny_run, workers):  # noqa: F811
    folder, resize = small_disk
    jobs = JobManager(folder / "runs")  # noqa: F811
    jobs.start(config(epochs=LONG, baselines=True, workers=workers), "try")
    try:
        stepping(jobs)
        with open(folder / "filler", "wb", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(65536)):
                pass
        found = until(lambda: (now := jobs.snapshot())["status"] not in ("training", "stopping") and now, "it did not end")
        assert found["status"] == "failed" and "is full: make room, then continue" in found["reason"], found
        assert found["resumable"] and not list(folder.rglob("*.partial"))
        jobs.stop()
        resize("200m")
        jobs.resume("try")
        assert stepping(jobs)["status"] == "training"
    finally:
        jobs.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_folder_that_vanishes_is_told_and_others_stay(jobs, config, tiny_run, workers):  # noqa: F811
    shutil.copytree(tiny_run, jobs.folder / "earlier")
    jobs.start(config(epochs=13, workers=workers), "try")  # 390 steps a model: each is told, and finds the folder gone
    stepping(jobs)
    shutil.move(jobs.folder / "try", jobs.folder / ".gone")
    found = until(lambda: (now := jobs.snapshot())["status"] not in ("training", "stopping") and now, "it did not end")
    assert found["status"] == "failed" and "is gone, deleted or moved while it was being trained" in found["reason"], found
    assert not (jobs.folder / "try" / "run.json").exists()
    Run.open(jobs.folder / "earlier").check()
