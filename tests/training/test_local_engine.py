"""Who trains where, with how many cores; and that every way out is an exit, however much waits to be sent."""

import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from monju.training import local_engine

CPU = torch.device("cpu")


class Shop:
    """Each job reports the cores it was given."""

    def fit(self, job, device):
        yield job, torch.get_num_threads()


@pytest.fixture
def cores():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("number, jobs, places", [
    (2, 6, 2), (2, 3, 3), (2, 2, 2), (2, 1, 1), (2, 5, 3),  # two cores: three at once rather than two and then one
    (4, 6, 6), (4, 7, 4), (4, 9, 5), (16, 6, 6), (1, 6, 1), (8, 15, 8)])
def test_as_many_at_once_as_leave_few_cores_idle(cores, number, jobs, places):
    cores(number)
    assert local_engine.places(CPU, jobs) == [CPU] * places
    assert len(local_engine.places(CPU, jobs, most=2)) == min(2, places)


@pytest.mark.slow
def test_jobs_share_the_cores(cores):
    cores(2)
    for jobs, each in ((["AB", "BC", "CA"], 1), (["AB", "BC"], 1), (["AB"], 2)):
        told = dict(report for _, report in local_engine.run_all(Shop(), jobs, local_engine.places(CPU, len(jobs))))
        assert told == dict.fromkeys(jobs, each)


def test_what_a_worker_records_is_of_its_own_gpu(cores, monkeypatch):
    """Else all would record the first one's streams, in which nothing of theirs runs."""
    chosen, (ours, theirs) = [], multiprocessing.Pipe()
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for job in ((0, "AB"), None):
        ours.send(job)
    local_engine._work(theirs, Shop(), torch.device("cuda:1"), 1)
    assert chosen == [torch.device("cuda:1")] and [ours.recv() for _ in range(3)] == [None, (0, ("AB", 1)), None]


# ---- every way out is an exit -----------------------------------------------------------------------------------

PARENT = """
import os, sys, time
import numpy as np, torch
from monju.training import local_engine as workers
from monju.errors import MonjuError

class Shop:
    def __init__(self, end):
        self.end, self.data = end, np.zeros(500_000)  # 4 MB

    def fit(self, job, device):
        yield os.getpid()
        if self.end == "error":
            raise MonjuError("it is broken")
        if self.end == "bug":
            raise ValueError("a bug")
        time.sleep(600)

if __name__ == "__main__":
    print("started", flush=True)
    try:
        for number, report in workers.run_all(Shop(sys.argv[1]), [np.zeros(500_000) for _ in range(6)], [torch.device("cpu")] * 2, 1):
            print("pid", report, flush=True)
    except MonjuError as error:
        print("told", error, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print("told stopped", flush=True)
        sys.exit(130)
"""


@pytest.fixture
def parent(tmp_path):
    """Starts a process that runs six jobs of 4 MB on two workers; ends it, whatever came of it."""
    (tmp_path / "parent.py").write_text(PARENT)
    begun = []

    def begin(end):
        begun.append(subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), end], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])}))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def line(process, start):
    """The rest of the next line that starts so."""
    for text in process.stdout:
        if text.startswith(start):
            return text.removeprefix(start).strip()
    raise AssertionError(f"no line {start!r}: {process.stderr.read()}")


def children_gone(children, seconds=60):
    """Whether they have all ended in time."""
    return not psutil.wait_procs(children, timeout=seconds)[1]


@pytest.mark.slow
@pytest.mark.parametrize("end, sentence, code", [
    ("error", "it is broken", 2), ("killed", "a training process died", 2), ("Ctrl-C", "stopped", 130), ("Ctrl-C at once", "stopped", 130)])
def test_a_training_ends_in_time_whatever_ends_it(parent, end, sentence, code):
    process = parent(end)
    line(process, "started")
    if end == "Ctrl-C at once":  # the workers are still importing their libraries
        while len(psutil.Process(process.pid).children()) < 3:  # one is multiprocessing's tracker
            time.sleep(0.01)
    else:
        worker = int(line(process, "pid"))
    children = psutil.Process(process.pid).children(recursive=True)
    if end == "killed":
        psutil.Process(worker).kill()
    elif end != "error":
        process.send_signal(signal.SIGINT)
    assert sentence in line(process, "told")
    assert process.wait(timeout=60) == code
    assert children_gone(children)
    assert process.stderr.read() == ""


@pytest.mark.slow
def test_what_is_no_error_for_people_keeps_its_name(parent):
    process = parent("bug")
    line(process, "pid")
    assert process.wait(timeout=60) == 1
    assert process.stderr.read().endswith("RuntimeError: ValueError: a bug\n")


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_terminated(parent):
    process = parent("never")
    line(process, "pid")
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 3
    process.terminate()
    assert process.wait(timeout=60) == -signal.SIGTERM
    assert children_gone(children)
