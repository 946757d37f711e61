"""Runs sent to a hub repository and fetched from it, over HTTP to a hub of one's own."""

import json
from contextlib import suppress
from pathlib import Path

import huggingface_hub
import pytest
from hub import Hub

from monju.errors import MonjuError
from monju.runs import registry
from monju.runs.run import Run
from monju.training.job_process import sent


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    constants = huggingface_hub.constants  # read from the environment once, when it is imported
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield hub
    hub.shutdown()
    hub.server_close()


def test_a_finished_run_is_sent_by_itself_and_fetched_elsewhere(hub, tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("MONJU_HUB", "kana/runs")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    [told] = sent(tiny_run)
    assert told.startswith("Sent to ") and "hf_secret" not in told
    assert set(hub.files) == {f"tiny/{file.relative_to(tiny_run).as_posix()}" for file in registry.files(tiny_run)}
    assert {token for method, _, token in hub.asked if method == "POST"} == {"Bearer hf_secret"}

    (there := tmp_path / "there").mkdir()
    hub.files["tiny/extra.py"] = b"print('not a run's file')"
    assert registry.download(there, "kana/runs") == ["tiny"]
    fetched = Run.open(there / "tiny").check()
    assert not (fetched.path / "extra.py").exists() and [path.name for path in there.iterdir()] == ["tiny"]
    assert registry.download(there, "kana/runs") == []  # what is here stays as it is


def test_nothing_is_sent_without_a_repository_and_a_refusal_is_told(hub, tiny_run, monkeypatch):
    monkeypatch.setenv("MONJU_HUB", "")
    assert list(sent(tiny_run)) == [] and hub.asked == []
    monkeypatch.setenv("MONJU_HUB", "kana/runs")
    [told] = sent(tiny_run)
    assert "your token with write access" in told


@pytest.mark.parametrize("name", ["..", "a\\b", ".hidden", "x" * 200])
def test_a_repository_cannot_write_outside(hub, tmp_path, name, tiny_run):
    (there := tmp_path / "there").mkdir()
    hub.files = {f"{name}/run.json": (tiny_run / "run.json").read_bytes()}
    with pytest.raises(MonjuError, match="cannot be named"):
        registry.download(there, "kana/runs")
    assert not list(there.iterdir()) and [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("name", ["tiny/../../evil", "tiny/../evil", "tiny//evil", "tiny/experts/../../../evil"])
def test_nor_can_a_file_of_a_run(hub, tmp_path, name, tiny_run):
    (there := tmp_path / "there").mkdir()
    hub.files = {f"tiny/{file.relative_to(tiny_run).as_posix()}": file.read_bytes() for file in registry.files(tiny_run)}
    hub.files[name] = b"evil"
    with suppress(MonjuError):  # whether the library takes it or not
        registry.download(there, "kana/runs")
    assert not [*tmp_path.rglob("evil")] and not Path("/evil").exists()


def test_a_damaged_run_is_not_kept(hub, tmp_path, tiny_run):
    (there := tmp_path / "there").mkdir()
    hub.files = {f"tiny/{file.relative_to(tiny_run).as_posix()}": file.read_bytes() for file in registry.files(tiny_run)}
    hub.files["tiny/metrics.json"] = json.dumps({"monju": 1}).encode()
    with pytest.raises(MonjuError, match="is not the file that the run wrote"):
        registry.download(there, "kana/runs")
    assert not list(there.iterdir())
