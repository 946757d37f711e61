"""A finished run that is changed in place: a process killed at any moment leaves the old run or the new one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from monju.errors import MonjuError
from monju.runs.run import CHANGE, Run

MOVES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir"}


def change(path, last=None):
    """Change a run as `refresh` does; this process is killed before the step `last` that moves or removes something."""
    steps = 0

    def count(event, _):
        nonlocal steps
        if event in MOVES:
            steps += 1
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    with Run.changing(path) as run, run.replacing() as new:
        new.manifest["config"]["sharpness"] = 7.0
        new.write_json("metrics.json", {"new": True})
        with new.folder("map") as folder:
            (folder / "new.json").write_text("{}")
        (new.path / "history.jsonl").unlink(missing_ok=True)


def changed(path, last=None):
    """Do so in a process of its own; return whether it lived to the end."""
    child = os.fork()
    if not child:
        try:
            change(path, last)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code == 0


def contents(path):
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def is_new(run):
    return run.config.sharpness == 7.0


def test_killed_at_any_step_it_is_the_old_or_the_new_run(tiny_run, tmp_path):
    """Before every rename and removal once; then the same change again."""
    before, seen, last = contents(tiny_run), set(), 1
    while True:
        path = shutil.copytree(tiny_run, tmp_path / str(last))
        (path / "README.md").write_text("kept")
        if changed(path, last):
            break
        between = (path / CHANGE).exists()
        run = Run.open(path).check()
        seen.add((between, is_new(run)))
        assert not (path / CHANGE).exists()
        if not is_new(run):
            run.metrics()
            assert {name: content for name, content in contents(path).items() if name in before} == before
        assert changed(path)
        after = contents(path)
        assert is_new(Run.open(path).check()) and not [name for name in after if name.startswith(".")]
        assert json.loads(after["metrics.json"]) == {"new": True} and after["README.md"] == b"kept"
        assert [name for name in after if name.startswith("map/")] == ["map/new.json"] and "history.jsonl" not in after
        shutil.rmtree(path)
        last += 1
    assert {(False, False), (True, True)} <= seen and (True, False) not in seen and last > 20


def test_an_error_leaves_the_run_as_it_was(tiny_run, tmp_path):
    path = shutil.copytree(tiny_run, tmp_path / "run")
    before = contents(path)
    with pytest.raises(ZeroDivisionError), Run.changing(path) as run, run.replacing() as new:
        new.write_json("metrics.json", {})
        1 / 0
    assert contents(path) == before


def test_a_change_that_cannot_be_finished_is_told(tiny_run, tmp_path, monkeypatch):
    path = shutil.copytree(tiny_run, tmp_path / "run")
    shutil.copytree(tiny_run, path / CHANGE)

    def read_only(*_):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", read_only)
        with pytest.raises(MonjuError, match=r"was being changed .* \(Read-only file system\): make the folder writable"):
            Run.open(path)
    Run.open(path).check()


@pytest.mark.slow
def test_a_killed_refresh_leaves_the_run_and_the_same_command_finishes_it(tiny_run, tmp_path):
    path = shutil.copytree(tiny_run, tmp_path / "run")
    before = contents(path)
    command = [sys.executable, "-m", "monju", "refresh", str(path), "--gate", "nearest", "--map-size", "30"]
    for written in ("predictions.parquet", "metrics.json", "map/map.json"):
        refresh = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        copy = path / f"{CHANGE}.partial" / written
        while refresh.poll() is None and not (copy.exists() and copy.read_bytes() != before[written]):
            time.sleep(0.002)
        refresh.kill()
        refresh.communicate()
        run = Run.open(path).check()
        run.metrics()
        if run.config.gate == "nearest":  # it was faster than this loop
            continue
        assert {name: content for name, content in contents(path).items() if name[0] != "."} == before
    assert subprocess.run(command, capture_output=True).returncode == 0
    run = Run.open(path).check()
    assert run.config.gate == "nearest" and run.metrics()["monju"]["gate"] == "Nearest()"
    assert not [name for name in contents(path) if name[0] == "."]
