"""The runs on a shelf under several visitors: who waits for whom, what stays loaded, what is shared."""

import gc
import shutil
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import PROCESS

from monju import ui
from monju.data import sources
from monju.evaluation import combiners
from monju.inference import process as process_module
from monju.inference import run_cache as shelf_module
from monju.inference.run_cache import RunCache
from monju.runs import run_data as memory
from monju.runs.run import Run
from monju.runs.run_data import load_run_data
from monju.ui.components import map_library, map_panel
from monju.ui.i18n.translator import Translator
from monju.ui.tabs import playground

OWN = dict(gate="distance", sharpness=1.0, temperature=0.1, fusion="logits")


@pytest.fixture
def shelf(tiny_run, tmp_path):
    """A shelf with the tiny run and six copies of it, 0 to 5."""
    for number in range(6):
        shutil.copytree(tiny_run, tmp_path / str(number))
    return RunCache(tiny_run, tmp_path, PROCESS)


@contextmanager
def held(monkeypatch, owner, name, which):
    """While inside, calls of `owner.name` whose first argument `which` accepts wait: gives the event that says one does."""
    begun, door, ordinary = threading.Event(), threading.Event(), getattr(owner, name)

    def waits(first, *more, **options):
        if which(first):
            begun.set()
            assert door.wait(120)
        return ordinary(first, *more, **options)

    monkeypatch.setattr(owner, name, waits)
    try:
        yield begun
    finally:
        door.set()


def test_a_run_that_loads_makes_nobody_wait_who_wants_another(shelf, tmp_path):
    shelf.open("0").outputs(["a"])
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(shelf.open("1").call, "test_process:slow", str(tmp_path / "go"))  # a load, too, is a call that takes its time
        try:
            assert shelf.open("0").outputs(["b"]).logits.shape == (1, 6, 2)
            assert shelf.ready("0") and not shelf.ready("1") and not shelf.ready("2")
            assert shelf.open("2").outputs(["c"]).logits.shape == (1, 6, 2)
            assert not slow.done()
        finally:
            (tmp_path / "go").touch()
        slow.result(60)


def test_sentences_that_are_fetched_make_nobody_wait_who_wants_others(tiny_run, short_run, monkeypatch):
    memory._read.clear()
    one, other = Run.open(tiny_run), Run.open(short_run[0])
    with ThreadPoolExecutor(3) as pool:
        with held(monkeypatch, sources, "load_for", lambda config: config.k == one.config.k) as begun:
            slow = [pool.submit(load_run_data, one) for _ in range(2)]
            assert begun.wait(60)
            assert recall_within(pool, other).fingerprint == other.manifest["data"]["fingerprint"]
            assert not any(each.done() for each in slow)
        assert slow[0].result(60) is slow[1].result(60)


def recall_within(pool, run, seconds=30):
    return pool.submit(load_run_data, run).result(seconds)


def test_at_most_so_many_runs_stay_open_whatever_tabs_are_opened(tiny_run, shelf, monkeypatch):
    """The Playground, the map with its sentences and a sentence on it, and the figures beside them, of six runs."""
    monkeypatch.setattr(shelf_module, "KEPT", 3)
    shelf = RunCache(tiny_run, shelf.folder, shelf.process)
    library, opened, say = map_library.Library(shelf), [], Translator("en")
    for name in "012345":
        monju, atlas = library.open(name)
        assert 'data-who="AB"' in playground.respond(shelf, name, "a quiet triumph", say, OWN)[0][0]
        place = map_library.locate(shelf.open(name), atlas, "a quiet triumph")
        assert library.texts(name) and map_panel.panel(place, library.texts(name), monju, atlas, say)
        assert combiners.offered(shelf.open(name)) and library.excuse(name, say) == ""
        opened.append(weakref.ref(monju))
    del monju, atlas, place
    gc.collect()
    assert [each() is not None for each in opened] == [False] * 3 + [True] * 3
    assert shelf.open("0").call("test_process:loaded") <= process_module.KEPT


def test_the_map_reads_a_sentence_as_the_playground_has_read_it(shelf, monkeypatch):
    opened = shelf.open("0")
    reading, atlas = opened.read_one("a quiet triumph"), map_library.Library(shelf).open("0")[1]
    monkeypatch.setattr(opened, "outputs", lambda *_: pytest.fail("it is read a second time"))
    assert map_library.locate(opened, atlas, "a quiet triumph").reading == reading


def test_sentences_that_cannot_be_had_are_asked_for_again_later(shelf, monkeypatch):
    opened, load, there, asked = shelf.open("0"), sources.load_for, [False], []
    memory._read.clear()

    def fetch(config):
        asked.append(config)
        if not there[0]:
            raise shelf_module.MonjuError("the hub does not answer")
        return load(config)

    monkeypatch.setattr(sources, "load_for", fetch)
    assert opened.texts() is None and opened.texts() is None
    tries, there[0] = len(asked), True
    assert opened.texts() is None and len(asked) == tries  # not at every keystroke
    later = time.monotonic() + shelf_module.RETRY_S + 1
    monkeypatch.setattr(shelf_module, "time", SimpleNamespace(monotonic=lambda: later))
    assert len(opened.texts()) == 100


def test_many_take_the_same_file_of_results_at_once(tiny_run):
    page = ui.build(RunCache(tiny_run))
    take = next(each.fn for each in page.fns.values() if each.fn and each.fn.__qualname__.startswith("build.<locals>.take"))
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: Path(take("tiny", None)).read_bytes(), range(64)))
    assert len(set(taken)) == 1 and len(taken[0]) > 100


def test_what_users_share_bears_many_at_once(shelf, monkeypatch):
    """Eight users turn the gate and type, each as one likes; each is answered under the own settings."""
    monkeypatch.setattr(shelf_module, "REMEMBERED", 8)
    opened = RunCache(shelf.first, shelf.folder, shelf.process).open("0")
    outputs = {text: opened.outputs([text]) for text in "abcdefghijklmnopqrstuvwxyz"}
    monkeypatch.setattr(opened, "outputs", lambda texts: outputs[texts[0]])  # reading is not the point
    held_out, before = opened.held_out()[0], sys.getswitchinterval()

    def visit(number):
        for n in range(60):
            text, sharpness = "abcdefghijklmnopqrstuvwxyz"[(n * n + number) % 26], (number * 60 + n) / 16
            view = combiners.view(opened, sharpness=sharpness)
            reading = opened.read_one(text, view)
            assert reading.text == text and view.config.sharpness == sharpness
            np.testing.assert_array_equal(list(reading.logits.values()), outputs[text].logits[0])
            np.testing.assert_array_equal(combiners.held_out_alpha(opened, sharpness=sharpness), view.decide(held_out).alpha)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(visit, range(8)))
    finally:
        sys.setswitchinterval(before)
