"""Runs sent to a hub repository and fetched from it, over HTTP to a hub of one's own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub import Hub

from monju import runs
from monju.errors import MonjuError
from monju.run import Run

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.shutdown()
    hub.server_close()


def python(hub, code, tmp_path, **environment):
    """Code in a process of its own: huggingface_hub reads where the hub is when it is imported."""
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, env={
        **os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", **environment})
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout.strip()


FETCH = "import sys\nfrom monju import runs\nfrom monju.errors import MonjuError\n" \
        "try:\n    print(runs.download({!r}, 'kana/runs'))\nexcept MonjuError as error:\n    print(error)"


def test_a_finished_run_is_sent_by_itself_and_fetched_elsewhere(hub, tiny_run, tmp_path):
    told = python(hub, f"from pathlib import Path\nfrom monju.jobs import sent\nprint(*sent(Path({str(tiny_run)!r})))", tmp_path,
                  MONJU_HUB="kana/runs", HF_TOKEN="hf_secret")
    assert told.startswith("Sent to ") and "hf_secret" not in told
    assert set(hub.files) == {f"tiny/{file.relative_to(tiny_run).as_posix()}" for file in runs.files(tiny_run)}
    assert {token for method, _, token in hub.asked if method == "POST"} == {"Bearer hf_secret"}

    (there := tmp_path / "there").mkdir()
    hub.files["tiny/extra.py"] = b"print('not a run's file')"
    assert python(hub, FETCH.format(str(there)), tmp_path) == "['tiny']"
    fetched = Run.open(there / "tiny").check()
    assert not (fetched.path / "extra.py").exists() and [path.name for path in there.iterdir()] == ["tiny"]
    assert python(hub, FETCH.format(str(there)), tmp_path) == "[]"  # what is here stays as it is


def test_nothing_is_sent_without_a_repository_and_a_refusal_is_told(hub, tiny_run, tmp_path):
    code = f"from pathlib import Path\nfrom monju.jobs import sent\nprint(*sent(Path({str(tiny_run)!r})))"
    assert python(hub, code, tmp_path, MONJU_HUB="") == "" and hub.asked == []
    assert "your token with write access" in python(hub, code, tmp_path, MONJU_HUB="kana/runs", HF_TOKEN="")


@pytest.mark.parametrize("name", ["..", "a\\b", ".hidden", "x" * 200])
def test_a_repository_cannot_write_outside(hub, tmp_path, name, tiny_run):
    (there := tmp_path / "there").mkdir()
    hub.files = {f"{name}/run.json": (tiny_run / "run.json").read_bytes()}
    assert "cannot be named" in python(hub, FETCH.format(str(there)), tmp_path)
    assert not list(there.iterdir()) and {path.name for path in tmp_path.iterdir()} <= {"there", "home"}


@pytest.mark.parametrize("name", ["tiny/../../evil", "tiny/../evil", "tiny//evil", "tiny/experts/../../../evil"])
def test_nor_can_a_file_of_a_run(hub, tmp_path, name, tiny_run):
    (there := tmp_path / "there").mkdir()
    hub.files = {f"tiny/{file.relative_to(tiny_run).as_posix()}": file.read_bytes() for file in runs.files(tiny_run)}
    hub.files[name] = b"evil"
    python(hub, FETCH.format(str(there)), tmp_path)
    assert not [*tmp_path.rglob("evil")] and not Path("/evil").exists()


def test_a_damaged_run_is_not_kept(hub, tmp_path, tiny_run):
    (there := tmp_path / "there").mkdir()
    hub.files = {f"tiny/{file.relative_to(tiny_run).as_posix()}": file.read_bytes() for file in runs.files(tiny_run)}
    hub.files["tiny/metrics.json"] = json.dumps({"monju": 1}).encode()
    assert "is not the file that the run wrote" in python(hub, FETCH.format(str(there)), tmp_path)
    assert not list(there.iterdir())
