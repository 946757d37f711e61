"""Texts in the inference process: written one pass at a time, sentences are read in between, what is left is forgotten."""

import dataclasses
import time
import uuid
from types import SimpleNamespace

import pytest
from conftest import PROCESS

from monju.errors import MonjuError
from monju.inference import writings
from monju.inference.language import LanguageRun
from monju.inference.run_cache import RunCache
from monju.inference.writer import Ended, Request, Token, Writer


@pytest.fixture(scope="module")
def language(tiny_writer):
    return LanguageRun.load(tiny_writer, "cpu")


@pytest.fixture
def key():
    """A key, forgotten after the test."""
    key = uuid.uuid4().hex
    yield key
    writings._writings.pop(key, None)


def rest(step):
    told, done = [], False
    while not done:
        more, done = step()
        told += more
    return told


def test_steps_tell_what_the_writer_writes(language, key):
    request = Request("a quiet film", tokens=9, seed=3)
    first = writings.begin(language, key, request)
    told = rest(lambda: writings.step(language, key))
    events = [event for event in Writer(language).write(request) if isinstance(event, Token)]
    assert first["voices"] == {"monju": ["AB", "BC", "CA"], "baseline": ["seed0", "seed1", "seed2"]}
    tokens = [one for one in told if "text" in one]
    assert [(one["stream"], one["text"], one["p"]) for one in tokens] == [(event.stream, event.text, event.probability) for event in events]
    assert [one["alpha"] for one in tokens] == [list(event.alpha.values()) for event in events]
    assert all(list(event.alpha)[one["loudest"]] == event.loudest for one, event in zip(tokens, events, strict=True))
    assert [one["ended"] for one in told if "ended" in one] == ["length", "length"]
    with pytest.raises(MonjuError, match="no longer being written"):
        writings.step(language, key)


def test_a_step_is_one_pass_for_all_streams(language, key, monkeypatch):
    passes = []
    push = type(language.voices.begin([5])).push
    monkeypatch.setattr(type(language.voices.begin([5])), "push", lambda self, ids: (passes.append(ids), push(self, ids))[1])
    writings.begin(language, key, Request("a film", tokens=6))
    for number in range(4):
        told, done = writings.step(language, key)
        assert [one["stream"] for one in told] == ["monju", "baseline"] and not done and len(passes) == number
    writings.drop(language, key)
    with pytest.raises(MonjuError):
        writings.step(language, key)


def test_what_nobody_asks_for_makes_room(language, monkeypatch):
    keys = [f"left-{number}" for number in range(writings.MOST)]
    for key in keys:
        writings.begin(language, key, Request("a film", tokens=3))
    with pytest.raises(MonjuError, match="try again in a moment"):
        writings.begin(language, "one too many", Request("a film", tokens=3))
    later = time.monotonic() + writings.LEFT_S + 1
    monkeypatch.setattr(writings, "time", SimpleNamespace(monotonic=lambda: later))
    writings.begin(language, "later", Request("a film", tokens=3))
    assert list(writings._writings) == ["later"]
    writings.drop(language, "later")


@pytest.mark.parametrize("wrong", [{"tokens": 2.5}, {"tokens": float("nan")}, {"seed": 1.5}, {"temperature": float("nan")}, {"temperature": "1"},
                                   {"top_p": 0}, {"tokens": 10**6}])
def test_settings_that_cannot_be_are_refused_in_a_sentence(wrong):
    with pytest.raises(MonjuError, match="give a"):
        dataclasses.replace(Request("a film"), **wrong)


def test_sentences_are_read_while_a_text_is_written(tiny_run, tiny_writer):
    """In the real process, which holds runs of both tasks."""
    runs, writers = RunCache(tiny_run, process=PROCESS), RunCache(tiny_writer, process=PROCESS)
    call, key = writers.writer(writers.start), uuid.uuid4().hex
    call("monju.inference.writings:begin", key, Request("a quiet film", tokens=20))
    text = []
    for number in range(5):
        told, done = call("monju.inference.writings:step", key)
        text += [one["text"] for one in told]
        reading = runs.open(runs.start).read_one(f"sentence {number}")
        assert reading.text == f"sentence {number}" and not done
    call("monju.inference.writings:drop", key)
    assert len(text) == 10


def test_a_run_of_the_other_task_is_refused_with_those_that_will_do(tiny_run, tiny_writer, tmp_path):
    for run, name in ((tiny_run, "labels"), (tiny_writer, "writes")):
        (tmp_path / name).symlink_to(run)
    shelf = RunCache(tmp_path / "labels", tmp_path, PROCESS)
    with pytest.raises(MonjuError, match="labels sentences and writes no text. To write, choose writes"):
        shelf.writer("labels")
    with pytest.raises(MonjuError, match="writes texts and labels no sentence. Here choose labels"):
        shelf.open("writes")
    assert shelf.names() == ["labels", "writes"]


def test_ended_reasons_are_those_that_the_page_words():
    from typing import get_args, get_type_hints

    from monju.ui.i18n.translator import TEXTS

    reasons = set(get_args(get_type_hints(Ended)["reason"])) - {"cancelled"}  # the page says "Stopped" itself
    assert {f"w_ended_{reason}" for reason in reasons} <= TEXTS.keys()
