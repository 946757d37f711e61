"""A run folder: whole or refused, never half."""

import json
import os
import shutil
import threading

import pytest

from monju.cli import main
from monju.config import Config
from monju.errors import MonjuError
from monju.runs.run import Run, refuse_taken
from monju.utils.files import digest, write

FACTS = {"data": {"fingerprint": "0", "train": 10, "validation": 4, "labels": [0, 1], "label_names": ["a", "b"]},
         "models": {"experts": ["AB", "BC", "CA"], "baseline": [], "equal-cost": []}}


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", Config(), **FACTS)


@pytest.fixture(scope="module")
def copy(tiny_run, tmp_path_factory):
    return shutil.copytree(tiny_run, tmp_path_factory.mktemp("copy") / "tiny")


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_new_run_is_unfinished_and_keeps_its_configuration(run):
    found = Run.open(run.path)
    assert found.config == Config() and not found.finished
    with pytest.raises(MonjuError, match=r"not finished \(training\).*--resume"):
        found.check()


def test_a_finished_run_lists_every_file_but_its_manifest_and_readme(run):
    run.write_bytes("predictions.parquet", b"PAR1")
    (run.path / "README.md").write_text("anyone may edit this")
    with run.folder("experts/AB") as folder:
        (folder / "weights").write_bytes(b"12345")
    run.finish()
    found = Run.open(run.path).check().manifest["files"]
    assert {name: entry["bytes"] for name, entry in found.items()} == {"experts/AB/weights": 5, "predictions.parquet": 4}
    (run.path / "README.md").write_text("and has edited it")
    Run.open(run.path).check()


def test_finished_tiny_run_is_whole(tiny_run):
    run = Run.open(tiny_run).check()
    assert run.manifest["status"] == "finished"
    assert set(run.manifest["files"]) == {str(path.relative_to(tiny_run)) for path in files(tiny_run)} - {"run.json"}


def missing(content):
    return None


def truncated(content):
    return content[: len(content) // 2]


def foreign(content):
    """One bit in the middle differs."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [missing, truncated, foreign])
def test_every_damaged_file_is_refused_in_one_line_that_names_it(copy, capfd, damage):
    assert len(files(copy)) >= 30
    for path in files(copy):
        whole = path.read_bytes()
        broken = damage(whole)
        path.unlink() if broken is None else path.write_bytes(broken)
        code = main(["predict", str(copy), "a fine film"])
        captured = capfd.readouterr()
        path.write_bytes(whole)
        assert code == 2 and captured.out == "", path
        assert captured.err.count("\n") == 1 and captured.err.startswith("monju: "), captured.err
        assert path.name in captured.err and str(copy) in captured.err, captured.err
    Run.open(copy).check()


def test_no_bit_of_the_manifest_can_change_unnoticed(copy):
    path = copy / "run.json"
    whole = path.read_bytes()
    for position in range(0, whole.index(b'"seal"'), 61):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(MonjuError):
            Run.open(copy).check()
    path.write_bytes(whole)


@pytest.mark.parametrize("content", ["", "[]", "{}", "3", '{"format": 1}', "\x00", '{"format": 1, "config": {}, "status": "x"}',
                                     '{"format": 1, "config": {}, "data": 1, "models": {}}'])
def test_a_manifest_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(MonjuError, match="run.json is damaged"):
        Run.open(tmp_path)


def test_a_manifest_of_another_format_says_so(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"format": 99, "config": {"of the future": 1}}))
    with pytest.raises(MonjuError, match="format 99"):
        Run.open(tmp_path)


def test_a_setting_that_cannot_be_names_the_manifest(tmp_path):
    manifest = {"format": 1, "config": {"k": "three"}, **FACTS}
    (tmp_path / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(MonjuError, match="run.json.*--k"):
        Run.open(tmp_path)


def test_only_an_empty_or_new_folder_is_taken(tmp_path, run):
    refuse_taken(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    refuse_taken(tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    for taken in ("file", "full"):
        with pytest.raises(MonjuError, match="no run"):
            refuse_taken(tmp_path / taken)
    with pytest.raises(MonjuError, match="already holds a run.*--resume"):
        refuse_taken(run.path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for impossible in (tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(MonjuError, match="cannot be written"):
            Run.create(impossible, Config(), **FACTS)
        with pytest.raises(MonjuError, match="there is no run folder"):
            Run.open(impossible)


def test_the_way_to_continue_is_one_that_a_shell_takes(tmp_path):
    run = Run.create(tmp_path / "it's a [run] & 雪", Config(), **FACTS)
    with pytest.raises(MonjuError) as error:
        run.check()
    quoted = str(error.value).split("--out ")[1].split(" --resume")[0]
    assert os.popen(f"printf %s {quoted}").read() == str(run.path)


def test_a_reader_meanwhile_sees_whole_files_only(tmp_path):
    path, torn, stop = tmp_path / "metrics.json", [], threading.Event()
    contents = {letter * 300_000 for letter in "ab"}
    write(path, "a" * 300_000)

    def read():
        while not stop.is_set():
            if path.read_text() not in contents:
                torn.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for letter in "ba" * 40:
        write(path, letter * 300_000)
    stop.set()
    reader.join()
    assert not torn and files(tmp_path) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write(path, "old")

    def full(handle):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        write(path, "new")
    assert path.read_text() == "old"


def test_a_folder_appears_whole_or_not_at_all(run):
    with pytest.raises(ZeroDivisionError):
        with run.folder("experts/AB") as folder:
            (folder / "half").write_text("half")
            assert not (run.path / "experts" / "AB").exists()
            1 / 0
    assert [path.name for path in files(run.path)] == ["run.json"]
    for content in ("first", "second"):
        with run.folder("experts/AB") as folder:
            (folder / "whole").write_text(content)
    assert [path.name for path in files(run.path)] == ["whole", "run.json"]
    assert (run.path / "experts" / "AB" / "whole").read_text() == "second"


def test_what_a_kill_left_half_written_is_swept(run):
    (run.path / ".metrics.json.partial").write_text("{")
    (run.path / "experts" / ".AB.partial").mkdir(parents=True)
    (run.path / "experts" / ".AB.partial" / "model.safetensors").write_text("half")
    run.sweep()
    assert [path.name for path in files(run.path)] == ["run.json"]


def test_history_forgives_a_last_line_cut_short(run):
    run.append_history({"model": "AB", "step": 1})
    run.append_history({"model": "BC", "step": 1})
    with open(run.path / "history.jsonl", "a") as file:
        file.write('{"model": "BC", "st')
    assert [line["model"] for line in run.history()] == ["AB", "BC"]
    run.append_history({"model": "BC", "step": 2})
    run.keep_history({"AB": 5, "BC": 1})
    assert run.history() == [{"model": "AB", "step": 1}, {"model": "BC", "step": 1}]
    run.keep_history({"AB": 5})
    assert run.history() == [{"model": "AB", "step": 1}]


def test_digest_is_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_is_no_line_of_a_training_is_left_out_of_its_history(tmp_path):
    run = Run.create(tmp_path / "run", Config(), data={"fingerprint": ""}, models={"experts": []})
    run.append_history({"model": "AB", "step": 1})
    with open(run.path / "history.jsonl", "ab") as file:
        file.write(b'\xff\xfe\x84\n5\n[1]\n{"model": "AB"}\n')
    run.append_history({"model": "AB", "step": 2})
    with open(run.path / "history.jsonl", "ab") as file:
        file.write(b'{"model": "AB", "st')
    assert run.history() == [{"model": "AB", "step": 1}, {"model": "AB", "step": 2}]
