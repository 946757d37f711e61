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


@pytest.mark.parametrize("name", ["con", "CON", "nul.txt", "Com1", "lpt9.tar.gz", "aux .x", "t１", "ｔiny", "ﬁne", "ﾄﾗｲ", "か\u3099", "x.", "x. ",
                                  "tіny", "run-α", "² ", "com¹"])
def test_a_new_name_is_a_folders_on_every_system(folder, name):
    before = sorted(folder.rglob("*"))
    with pytest.raises(MonjuError, match="cannot be named"):
        registry.rename(folder, "tiny", name)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["日本 1", "実験々ー・〆", "がんばれ-v2.1", "한국", "опыт", "α-β", "é", "console", "com10", "con-1", "a b", "_x"])
def test_names_of_any_language_are_taken(folder, name):
    registry.rename(folder, "tiny", name)
    Run.open(folder / name).check()


def test_a_run_that_has_another_name_already_can_still_be_renamed_and_deleted(folder):
    (folder / "tiny").rename(folder / "t１")
    shutil.copytree(folder / "t１", folder / "con")
    registry.rename(folder, "t１", "t1")
    registry.delete(folder, "con")
    assert [path.name for path in folder.iterdir()] == ["t1"]


def test_a_link_is_no_run_to_delete(folder, tmp_path):
    (folder / "link").symlink_to(folder / "tiny")
    with pytest.raises(MonjuError, match="no run link"):
        registry.delete(folder, "link")
    assert (folder / "tiny" / "run.json").exists()


def test_the_run_that_ships_stays():
    shipped = registry.SHIPPED[1]
    for act in (lambda: registry.delete(shipped.parent, shipped.name),
                lambda: registry.rename(shipped.parent, shipped.name, "mine")):
        with pytest.raises(MonjuError, match="ships with Monju"):
            act()
    assert (shipped / "run.json").exists()


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
