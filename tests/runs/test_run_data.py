"""A run's sentences are read again from its own source, and only the right ones are taken for them."""

import shutil
from dataclasses import replace

import pytest

from monju.data import named, sources
from monju.errors import MonjuError
from monju.runs import run_data as memory
from monju.runs.run import Run
from monju.runs.run_data import load_run_data


@pytest.fixture(autouse=True)
def forgetful():
    """Nothing is remembered from test to test."""
    memory._read.clear()


def moved(run, **settings):
    """The run with other settings in its manifest, on no disk."""
    return Run(run.path, {**run.manifest, "config": replace(run.config, **settings).to_json()})


def test_the_sentences_come_back_in_the_order_of_the_predictions(tiny_run, movies):
    run = Run.open(tiny_run)
    data = load_run_data(run)
    assert data.fingerprint == run.manifest["data"]["fingerprint"]
    assert data.validation.texts == sources.load(movies).validation.texts
    assert len(data.train.texts) == 100 and len(data.validation.texts) == 40


def test_the_settings_of_the_run_are_used(tiny_run):
    with pytest.raises(MonjuError, match="no longer holds"):
        load_run_data(moved(Run.open(tiny_run), sample=50))


def test_they_are_read_once(tiny_run, monkeypatch):
    calls, load = [], sources.load
    monkeypatch.setattr(sources, "load", lambda *given, **settings: calls.append(given) or load(*given, **settings))
    assert load_run_data(Run.open(tiny_run)) is load_run_data(Run.open(tiny_run))
    assert len(calls) == 1


def test_a_source_that_is_gone_is_told(tiny_run, tmp_path):
    with pytest.raises(MonjuError, match="there is no source"):
        load_run_data(moved(Run.open(tiny_run), data=str(tmp_path / "gone")))


def test_a_changed_source_is_refused(tiny_run, movies, tmp_path):
    changed = shutil.copytree(movies, tmp_path / "movies")
    with open(changed / "train.csv", "a", encoding="utf-8") as file:
        file.write("one more sentence,1\n")
    with pytest.raises(MonjuError, match="no longer holds"):
        load_run_data(moved(Run.open(tiny_run), data=str(changed)))


def test_a_missing_folder_with_the_name_of_a_source_falls_back_to_it(monkeypatch, tiny_run, movies, tmp_path):
    monkeypatch.setitem(named.SOURCES, "films", lambda: named.folder(movies))
    run = moved(Run.open(tiny_run), data=str(tmp_path / "films"))
    assert load_run_data(run).fingerprint == run.manifest["data"]["fingerprint"]


def test_offline_it_fails_quietly(monkeypatch, tiny_run, tmp_path, capfd):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(MonjuError, match="there is no source"):
        load_run_data(moved(Run.open(tiny_run), data=str(tmp_path / "sst2")))
    assert capfd.readouterr().err == ""
