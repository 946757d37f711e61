"""docs/gpu_check.py, rehearsed on the CPU at tiny size: what a machine with a GPU runs, word for word."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = {"device", "logits_and_gradients", "lockstep_against_single", "graphs_against_eager", "resumed", "without_sdpa", "speed_batch_32",
          "speed_trainer", "matrix_rate", "speed_batch_128", "speed_adapters", "whole_run", "predictions", "job", "without_room",
          "speed_trainer_tuned", "speed_reading", "speed_compiled_pipelines"}


def gpu_check(*arguments):
    return subprocess.run([sys.executable, "docs/gpu_check.py", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_every_stage_passes_and_is_written(tmp_path):
    done = gpu_check("--rehearse", "--device", "cpu", "--out", tmp_path)
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert found.keys() == STAGES and {name for name, stage in found.items() if not stage["ok"]} == set(), done.stdout + done.stderr
    assert done.returncode == 0 and all(stage["figures"] and not stage["error"] and stage["seconds"] >= 0 for stage in found.values())
    assert [line.split(":")[0] for line in done.stdout.splitlines() if ": ok, " in line] == list(found)
    assert found["job"]["figures"]["after stop"] == "stopped" and found["without_room"]["figures"]["in lockstep"] == [2]


def test_a_stage_that_fails_is_told_and_the_others_go_on(tmp_path):
    """Of a backbone that is none, all but the stage that asks for no model."""
    (tmp_path / "empty").mkdir()
    done = gpu_check("--rehearse", "--device", "cpu", "--out", tmp_path, "--backbone", tmp_path / "empty", "--only", "device", "resumed")
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert done.returncode == 1 and found["device"]["ok"] and "holds no model" in found["resumed"]["error"]
