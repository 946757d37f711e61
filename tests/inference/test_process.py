"""The inference process: answers as the run itself, whatever befalls it."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

import monju
from monju.errors import MonjuError
from monju.inference import process as process_module
from monju.inference.process import InferenceProcess
from monju.models.members import FEW

ROOT = Path(monju.__file__).parents[1]
TEXTS = ["a quiet triumph", "dull, loud and far too long", "雪 is snow", "not for me"] * 3
OUTPUTS = "monju.inference.pipeline:Monju.outputs"


@pytest.fixture(scope="module")
def process():
    found = InferenceProcess()
    yield found
    found.close()


# called in the process


def die(monju):
    os._exit(1)


def slow(monju, until):
    """Work until there is a file of that name."""
    while not os.path.exists(until):
        time.sleep(0.05)


def loaded(monju):
    """How many runs the process holds."""
    gc.collect()
    return sum(isinstance(each, type(monju)) for each in gc.get_objects())


# called in the test


def gone(process, patience=20):
    return not psutil.wait_procs([process], patience)[1]


def test_it_says_what_the_run_itself_says(process, tiny_run):
    ensemble = monju.load(tiny_run)
    here, there = ensemble.outputs(TEXTS[:FEW]), process.call(tiny_run, 1, OUTPUTS, TEXTS[:FEW])
    assert there.models == here.models and there.notes == here.notes
    for name in ("logits", "distances", "vectors"):
        np.testing.assert_allclose(getattr(there, name), getattr(here, name), atol=1e-5)
    here, there = (ensemble.decide(each) for each in (ensemble.outputs(TEXTS), process.call(tiny_run, 1, OUTPUTS, TEXTS)))
    np.testing.assert_allclose(there.logits, here.logits, atol=0.2)  # many are read in bf16 where the processor has it
    for name in ("monju", "baseline"):
        assert (there[name].argmax(1) == here[name].argmax(1)).all()


def test_a_bad_sentence_is_told_and_the_next_one_answered(process, tiny_run):
    with pytest.raises(MonjuError, match="empty"):
        process.call(tiny_run, 1, OUTPUTS, ["  "])
    assert process.call(tiny_run, 1, OUTPUTS, TEXTS[:1]).logits.shape[0] == 1


def test_a_run_that_is_not_there_is_told_and_others_answered(process, tiny_run, tmp_path):
    with pytest.raises(MonjuError, match="no run"):
        process.call(tmp_path / "none", None, OUTPUTS, TEXTS)
    assert process.call(tiny_run, 1, OUTPUTS, TEXTS[:1]).logits.shape[0] == 1


def test_what_fails_otherwise_is_told_where_it_was_asked(process, tiny_run):
    with pytest.raises(RuntimeError, match="AttributeError"):
        process.call(tiny_run, 1, "monju.inference.pipeline:Monju.nothing")


@pytest.mark.parametrize("struck", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def test_whoever_is_in_flight_when_it_dies_or_hangs_is_asked_once_more(process, tiny_run, monkeypatch, struck):
    process.call(tiny_run, 1, OUTPUTS, TEXTS)
    first = psutil.Process(process._process.pid)
    first.send_signal(signal.SIGSTOP)  # so that all are in flight
    with ThreadPoolExecutor(30) as users:
        answers = [users.submit(process.call, tiny_run, 1, OUTPUTS, [f"sentence {n}"]) for n in range(30)]
        while len(process._requests) < 30:
            time.sleep(0.01)
        if struck == signal.SIGKILL:
            first.kill()
        else:
            monkeypatch.setattr(process_module, "TIMEOUT_S", 0.1)
            answers.append(users.submit(process.call, tiny_run, 1, OUTPUTS, ["one that does not wait for long"]))
            while process._process.pid == first.pid:
                time.sleep(0.01)
            monkeypatch.setattr(process_module, "TIMEOUT_S", 300)
        assert all(answer.result(120).logits.shape == (1, 6, 2) for answer in answers[:30])
    assert gone(first) and process._process.pid != first.pid


def test_what_kills_it_twice_is_told(process, tiny_run):
    with pytest.raises(MonjuError, match="ended twice"):
        process.call(tiny_run, 1, "test_process:die")
    assert process.call(tiny_run, 1, OUTPUTS, TEXTS).logits.shape[0] == len(TEXTS)


def test_it_is_started_once_however_many_ask(tiny_run, monkeypatch):
    found, started = InferenceProcess(), []
    kind = process_module.multiprocessing.get_context("spawn").Process
    monkeypatch.setattr(kind, "start", lambda self, start=kind.start: [started.append(self), start(self)])
    threads = [threading.Thread(target=found.start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.close()
    assert len(started) == 1 and not started[0].is_alive()


def test_who_waits_when_it_is_closed_is_told(tiny_run):
    found = InferenceProcess()
    with ThreadPoolExecutor(1) as user:
        answer = user.submit(found.call, tiny_run, 1, OUTPUTS, TEXTS)
        while not found._requests:
            time.sleep(0.01)
        found.close()
        with pytest.raises(MonjuError, match="closing"):
            answer.result(60)


@pytest.mark.parametrize("loaded", [False, True])
def test_it_ends_with_a_process_that_is_killed(tiny_run, loaded):
    script = ("import sys, time; from monju.inference.process import InferenceProcess\n"
              "if __name__ == '__main__':\n"
              "    process = InferenceProcess(); process.start()\n"
              f"    if {loaded}: process.call(sys.argv[1], 1, {OUTPUTS!r}, ['a'])\n"
              "    print(process._process.pid, flush=True); time.sleep(100)\n")
    parent = subprocess.Popen([sys.executable, "-c", script, str(tiny_run)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(child)


def test_whoever_asks_holds_no_weights(tiny_run):
    """Neither torch nor transformers are imported where a sentence is read by the process."""
    script = ("import sys; from monju.inference.run_cache import RunCache\n"
              "if __name__ == '__main__':\n"
              "    opened = RunCache(sys.argv[1]).open('tiny')\n"
              "    print(opened.read(['a quiet triumph'])[0].monju.name in opened.label_names, 'torch' in sys.modules, 'transformers' in sys.modules)\n")
    out = subprocess.run([sys.executable, "-c", script, str(tiny_run)], capture_output=True, text=True, cwd=ROOT)
    assert out.stdout.split() == ["True", "False", "False"], out.stderr
