"""ZeroGPU, with a stand-in for its library that runs the call as it does: in a fork, arguments and answer sent as bytes."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SPACES = '''
import multiprocessing, os, sys
assert "torch" not in sys.modules, "spaces must come before torch"

def GPU(task=None, *, duration=60):
    def lend(task):
        def call(*arguments):
            if os.environ.get("NO_GPU"):
                raise RuntimeError("You have exceeded your GPU quota")
            with multiprocessing.get_context("fork").Pool(1) as pool:
                return pool.apply(_run, (task.__module__, arguments))
        originals[task.__module__] = task
        return call
    return lend(task) if task else lend

originals = {}

def _run(module, arguments):
    answer = originals[module](*arguments)
    assert os.getppid() == parent
    return answer

parent = os.getpid()
'''
CODE = """
import app, os
from monju.inference import zerogpu
from monju.inference.run_cache import RunCache
assert zerogpu.ON
opened = RunCache({run!r}).open("tiny")
here = opened._batcher.outputs(["a fine film", "a dull film"])
lent = opened.outputs(["a fine film", "a dull film"])
assert abs(here.logits - lent.logits).max() < 1e-5 and lent.models == here.models
try:
    opened.outputs([" "])
except Exception as error:
    print(type(error).__name__)
os.environ["NO_GPU"] = "1"
assert abs(here.logits - opened.outputs(["a fine film", "a dull film"]).logits).max() < 1e-5
"""


def test_sentences_are_read_inside_the_lent_call_and_on_the_cpu_where_no_gpu_is_to_be_had(tmp_path, tiny_run):
    (tmp_path / "spaces.py").write_text(SPACES)
    found = subprocess.run([sys.executable, "-c", CODE.format(run=str(tiny_run))], cwd=REPOSITORY, capture_output=True, text=True, timeout=240,
                           env={**os.environ, "SPACES_ZERO_GPU": "true", "OMP_NUM_THREADS": "1",
                                "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])})
    assert found.returncode == 0, found.stderr[-2000:]
    lent, told = found.stdout.split("\n", 1)
    assert lent == "MonjuError"
    assert "exceeded your GPU quota" in told and "answered on the CPU" in told
