"""A crowd's sentences are read in a process of its own, and the page does not depend on it."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

import monju
from monju.errors import MonjuError
from monju.inference import worker as reader_module
from monju.inference.worker import InferenceWorker

TEXTS = ["a quiet triumph", "dull, loud and far too long", "雪 is snow", "not for me"] * 3


@pytest.fixture(scope="module")
def opened(tiny_run):
    reader = InferenceWorker(tiny_run)
    yield reader
    reader.close()


def answered(reader, texts=TEXTS, patience=120):
    """What the reader says once it has loaded."""
    until = time.monotonic() + patience
    while (found := reader.votes(texts)) is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def gone(process, patience=20):
    return not psutil.wait_procs([process], patience)[1]


def test_it_says_what_the_run_itself_says(opened, tiny_run):
    here, there = monju.load(tiny_run, device="cpu", bf16=True).votes(TEXTS), answered(opened)
    assert there.models == here.models
    for name in ("logits", "distances", "vectors"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))


def test_a_bad_sentence_is_told_and_the_next_one_answered(opened):
    answered(opened)
    with pytest.raises(MonjuError, match="empty"):
        opened.votes(["  "])
    assert opened.votes(TEXTS[:1]).logits.shape[0] == 1


@pytest.mark.parametrize("struck", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def test_nobody_waits_for_one_that_was_killed_or_hangs_and_it_comes_back(opened, monkeypatch, struck):
    answered(opened)
    first = psutil.Process(opened._process.pid)
    first.send_signal(struck)
    monkeypatch.setattr(reader_module, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(opened, "_next", reader_module.time.monotonic() + 600)  # as soon after a start, however slow the machine
    assert opened.votes(TEXTS) is None and opened.votes(TEXTS) is None and gone(first)
    assert opened._line is None  # it waits: what died for want of memory would die again
    monkeypatch.setattr(reader_module, "TIMEOUT_S", 60)
    monkeypatch.setattr(opened, "_next", 0)
    assert answered(opened).logits.shape[0] == len(TEXTS) and opened._process.pid != first.pid


def test_it_is_started_once_however_often_it_is_asked_to(tiny_run, monkeypatch):
    started, process = [], reader_module.multiprocessing.get_context("spawn").Process
    monkeypatch.setattr(process, "start", lambda self, start=process.start: [started.append(self), start(self)])
    reader = InferenceWorker(tiny_run)
    for _ in range(3):
        reader.start()
    reader.close()
    reader.start()
    assert len(started) == 1 and not started[0].is_alive()


@pytest.mark.parametrize("loaded", [False, True])
def test_it_ends_with_a_process_that_is_killed(tiny_run, loaded):
    script = ("import sys, time; from monju.inference.worker import InferenceWorker\n"
              "if __name__ == '__main__':\n"
              "    reader = InferenceWorker(sys.argv[1]); reader.start()\n"
              "    while sys.argv[2] == 'True' and reader.votes(['a']) is None: time.sleep(0.05)\n"
              "    print(reader._process.pid, flush=True); time.sleep(100)\n")
    parent = subprocess.Popen([sys.executable, "-c", script, str(tiny_run), str(loaded)], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(child)
