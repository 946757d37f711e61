"""Who may stop, rename and delete what a trainer holds: real trainers, met while they start."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from test_jobs import config, jobs, processes, until  # noqa: F401  # config and jobs are fixtures

from monju.errors import MonjuError
from monju.runs.run import Run
from monju.training import job_manager
from monju.training.job_manager import JobManager
from monju.utils import locks


@pytest.fixture
def begun(jobs, config, tiny_run):  # noqa: F811
    """(a manager, the number of the trainer that it has just sent to continue the run "try")."""
    shutil.copytree(tiny_run, jobs.folder / "try")
    shutil.copytree(tiny_run, jobs.folder / "other")
    Run.open(jobs.folder / "try").update(status="training")
    jobs.resume("try")
    return jobs, jobs.begun("try")["pid"]


@contextmanager
def no_room():
    """No file of this process can grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_trainer_is_stopped_on_a_full_disk(begun):
    jobs, pid = begun  # noqa: F811
    with no_room():
        jobs.stop()
    assert not processes(pid) and not jobs.running()


def test_a_trainer_is_stopped_after_a_step_of_the_clock(begun, monkeypatch):
    jobs, pid = begun  # noqa: F811
    started = psutil.boot_time()  # what the clock's step moves, and psutil's times of birth with it
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: started + 3)
    monkeypatch.setattr(psutil._pslinux, "BOOT_TIME", started + 3, raising=False)
    jobs.stop()
    assert not processes(pid) and not jobs.running()


def test_a_trainer_whose_records_are_gone_is_stopped(begun):
    jobs, pid = begun  # noqa: F811
    for file in [jobs.place / "last", *jobs.files("try")]:
        file.unlink(missing_ok=True)
    JobManager(jobs.folder).stop()
    assert not processes(pid) and not jobs.running()


def test_stop_never_says_stopped_of_what_lives(jobs, monkeypatch):  # noqa: F811
    monkeypatch.setattr(job_manager, "DYING", 0.1, raising=False)
    jobs.place.mkdir(parents=True)
    (jobs.place / "lock").touch()
    (jobs.place / "last").write_text("try")
    jobs.tell("try", begun=True, pid=2**30, born=None)
    with locks.holding(jobs.place / "lock", MonjuError("taken")):
        with pytest.raises(MonjuError, match="still lives"):
            jobs.stop(patience=0.1)


def test_a_run_is_not_deleted_nor_renamed_while_a_trainer_starts_on_it(begun):
    jobs, pid = begun  # noqa: F811
    page = JobManager(jobs.folder)  # another
    assert not locks.taken(jobs.folder / "try")  # the trainer is at its imports
    for act in (lambda: page.delete("try"), lambda: page.rename("try", "new"),
                lambda: jobs.delete("try")):
        with pytest.raises(MonjuError, match="try is being trained: stop it first"):
            act()
    page.rename("other", "another")
    page.delete("another")
    assert processes(pid) and page.snapshot()["status"] == "training"
    page.stop()
    page.delete("try")
    assert page.snapshot() == {"name": None, "status": "none"}


def test_no_run_takes_the_name_of_one_that_a_trainer_is_about_to_make(jobs, config, tiny_run):  # noqa: F811
    shutil.copytree(tiny_run, jobs.folder / "other")
    jobs.start(config(), "new")
    with pytest.raises(MonjuError, match="new is being trained"):
        JobManager(jobs.folder).rename("other", "new")


def test_a_start_that_cannot_be_written_leaves_no_process(begun, config):  # noqa: F811
    jobs, _ = begun  # noqa: F811
    jobs.stop()
    children = {child.pid for child in psutil.Process().children()}
    with no_room(), pytest.raises(MonjuError, match="cannot be started"):
        jobs.resume("try")
    assert not jobs.running() and {child.pid for child in psutil.Process().children()} <= children


def test_a_processs_birth_tells_it_from_any_other():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = job_manager.born(process.pid)
    assert born and born == job_manager.born(process.pid)
    holder = json.loads(json.dumps({"pid": process.pid, "born": born}))
    assert job_manager.alive(holder) and not job_manager.alive({}) and not job_manager.alive({"pid": 1, "born": born})
    assert job_manager._born_elsewhere(process.pid) == job_manager._born_elsewhere(process.pid)
    process.stdin.close()
    time.sleep(0.2)
    until(lambda: not job_manager.alive(holder), "a zombie counts as alive")
    process.wait()
    assert job_manager.born(process.pid) is None is job_manager._born_elsewhere(process.pid)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only Linux has idle processes")
def test_an_idle_group_ends_within_five_seconds_of_its_page_on_a_busy_machine(tmp_path):
    """Whatever it does, and though the thread that started it has ended."""
    child = ("import os, time\nfrom monju.training import job_process\nfrom monju.utils import process\n"
             "process.end_with_parent(); job_process._stand_back(); os.fork(); print(flush=True)\n"
             "while True: sum(range(10**7))")  # as a step of training: long, with the interpreter's lock
    page = ("import subprocess, sys, threading, time\n"
            "def start():\n    p = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdin=subprocess.PIPE,\n"
            "        stdout=subprocess.PIPE, start_new_session=True)\n    kept.append(p); p.stdout.readline()\n"
            "    print(p.pid, flush=True)\n"
            "kept = []; thread = threading.Thread(target=start); thread.start(); thread.join(); time.sleep(600)")
    app = subprocess.Popen([sys.executable, "-c", page, child], stdout=subprocess.PIPE, text=True,
                           cwd=Path(__file__).parents[2])
    group = int(app.stdout.readline())
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * os.cpu_count())]
    try:
        time.sleep(1)
        assert len(processes(group)) == 2
        app.kill()
        end = time.monotonic() + 30  # five seconds where nothing but these is busy
        while processes(group):
            assert time.monotonic() < end, "it outlived its page"
            time.sleep(0.1)
    finally:
        for process in [app, *busy]:
            process.kill()
            process.wait()
            process.stdout and process.stdout.close()
