"""The list of runs, and what may be done with them: only plain folders inside, no links followed."""

import shutil
import zipfile
from pathlib import Path

import pytest

from monju.errors import MonjuError
from monju.runs import registry
from monju.runs.run import Run
from monju.utils import locks


@pytest.fixture
def folder(tmp_path, tiny_run):
    shutil.copytree(tiny_run, tmp_path / "runs" / "tiny")
    return tmp_path / "runs"


def test_a_run_is_listed_with_what_it_is_worth(folder):
    (folder / ".hidden").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    found = {run["name"]: run for run in registry.list_runs(folder)}
    metrics = Run.open(folder / "tiny").read_json("metrics.json")
    assert set(found) == {"tiny", "broken"} and found["broken"]["status"] == "damaged"
    tiny = found["tiny"]
    assert tiny["status"] == "finished" and tiny["n"] == 40 and Path(tiny["backbone"]).name == "tiny-bert"
    assert tiny["monju"] == metrics["monju"]["accuracy"] and tiny["baseline"] == metrics["baseline"]["accuracy"]
    assert tiny["bytes"] == sum(file.stat().st_size for file in (folder / "tiny").rglob("*") if file.is_file())


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b"\xff\xfe", b'{"monju": 1}', None])
def test_a_run_whose_results_are_damaged_is_listed_as_that(folder, damage):
    shutil.copytree(folder / "tiny", folder / "other")
    (folder / "tiny" / "metrics.json").unlink() if damage is None else (folder / "tiny" / "metrics.json").write_bytes(damage)
    assert {run["name"]: run["status"] for run in registry.list_runs(folder)} == {"tiny": "damaged", "other": "finished"}


def test_a_run_in_training_whose_process_is_gone_says_so(folder):
    Run.open(folder / "tiny").update(status="training")
    assert registry.list_runs(folder)[0]["status"] == "died"
    with locks.holding(folder / "tiny", MonjuError("taken")):
        assert registry.list_runs(folder)[0]["status"] == "training"
        with pytest.raises(MonjuError, match="being trained"):
            registry.delete(folder, "tiny")


def test_rename_and_delete(folder):
    registry.rename(folder, "tiny", "日本 1")
    Run.open(folder / "日本 1").check()
    shutil.copytree(folder / "日本 1", folder / "other")
    with pytest.raises(MonjuError, match="already a run"):
        registry.rename(folder, "other", "日本 1")
    registry.delete(folder, "日本 1")
    assert [path.name for path in folder.iterdir()] == ["other"]


@pytest.mark.parametrize("name", ["..", ".", "", "../runs", "tiny/..", "/tmp", "tiny\0", "a\\b", ".jobs", None, "none"])
def test_nothing_outside_is_touched(folder, name):
    before = sorted(folder.parent.rglob("*"))
    for act in (lambda: registry.delete(folder, name), lambda: registry.rename(folder, name, "new")):
        with pytest.raises(MonjuError):
            act()
    if name != "none":
        with pytest.raises(MonjuError):
            registry.rename(folder, "tiny", name)
    assert sorted(folder.parent.rglob("*")) == before


def test_a_link_is_no_run_to_delete(folder, tmp_path):
    (folder / "link").symlink_to(folder / "tiny")
    with pytest.raises(MonjuError, match="no run link"):
        registry.delete(folder, "link")
    assert (folder / "tiny" / "run.json").exists()


def test_the_run_that_ships_stays():
    for act in (lambda: registry.delete(registry.SHIPPED.parent, registry.SHIPPED.name),
                lambda: registry.rename(registry.SHIPPED.parent, registry.SHIPPED.name, "mine")):
        with pytest.raises(MonjuError, match="ships with Monju"):
            act()
    assert (registry.SHIPPED / "run.json").exists()


def test_a_zip_holds_the_runs_own_files_and_opens_as_a_run(folder, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (folder / "tiny" / "stolen").symlink_to(tmp_path / "secret")
    (folder / "tiny" / "outside").symlink_to(tmp_path)
    packed = registry.archive(folder / "tiny")
    with zipfile.ZipFile(packed) as archive:
        assert not any("stolen" in name or "outside" in name for name in archive.namelist())
        archive.extractall(tmp_path / "back")
    shutil.rmtree(packed.parent)
    Run.open(tmp_path / "back" / "tiny").check()


def test_an_upload_that_fails_keeps_the_token_to_itself(folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MonjuError) as told:
        registry.upload(folder / "tiny", "someone/tiny", "hf_secretsecret")
    assert "secret" not in str(told.value) and "hub" in str(told.value)
    with pytest.raises(MonjuError, match="give both"):
        registry.upload(folder / "tiny", "someone/tiny", "")
