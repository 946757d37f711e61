"""The runs on a shelf under several visitors: who waits for whom, what stays loaded, what is shared."""

import gc
import shutil
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from monju import ui
from monju.data import sources
from monju.inference.pipeline import Monju
from monju.runs import run_data as memory
from monju.runs.run import Run
from monju.runs.run_data import load_run_data
from monju.ui import run_cache as shelf_module
from monju.ui.i18n.translator import Translator
from monju.ui.run_cache import KEPT, RunCache
from monju.ui.tabs import clusters, playground

OWN = dict(gate="distance", sharpness=1.0, temperature=0.1, fusion="logits")


@pytest.fixture
def shelf(tiny_run, tmp_path):
    """A shelf with the tiny run and six copies of it, 0 to 5."""
    for number in range(6):
        shutil.copytree(tiny_run, tmp_path / str(number))
    found = RunCache(tiny_run, tmp_path)
    yield found
    found.close()


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


def test_a_run_that_loads_makes_nobody_wait_who_wants_another(shelf, monkeypatch):
    shelf.open("0")
    with ThreadPoolExecutor(3) as pool:
        with held(monkeypatch, Monju, "load", lambda path: path.name == "1") as begun:
            slow = pool.submit(shelf.open, "1")
            assert begun.wait(60)
            assert pool.submit(shelf.open, "0").result(30).monju.run.path.name == "0"
            assert pool.submit(shelf.open, "2").result(60).monju.run.path.name == "2"
            assert not slow.done() and not shelf.ready("1")
        assert slow.result(60) is shelf.open("1")


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


def test_runs_that_are_opened_while_others_are_read_get_all_cores(shelf):
    """And so does every thread that comes later."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    reads, ended = shelf.open(shelf.start), threading.Event()
    try:
        def read_on():
            while not ended.is_set():
                reads.monju.votes(["a quiet triumph", "dull", "it is a film", "see it twice"])

        reader = threading.Thread(target=read_on)
        reader.start()
        cores = []
        for name in "0123":
            with ThreadPoolExecutor(1) as visitor:
                opened = visitor.submit(shelf.open, name).result(120)
                cores.append((opened.monju.stack.cores, visitor.submit(torch.get_num_threads).result()))
        ended.set()
        reader.join()
        assert cores == [(2, 2)] * 4 and torch.get_num_threads() == 2
    finally:
        ended.set()
        torch.set_num_threads(before)


def test_at_most_so_many_runs_stay_loaded_whatever_tabs_are_opened(shelf):
    """The Playground, the map with its sentences and a sentence on it, and the figures beside them, of six runs."""
    library, loaded, say = clusters.Library(shelf), [], Translator("en")
    for name in "012345":
        monju, atlas = library.open(name)
        assert 'data-who="AB"' in playground.respond(shelf, name, "a quiet triumph", say, OWN)[0][0]
        place = clusters.stand(shelf.open(name), atlas, "a quiet triumph")
        assert library.texts(name) and clusters.panel(place, library, name, monju, atlas, say)
        assert shelf.open(name).gates and library.excuse(name, say) == ""
        loaded.append(weakref.ref(monju))
    del monju, atlas, place
    gc.collect()
    assert [each() is not None for each in loaded] == [False] * (6 - KEPT) + [True] * KEPT


def test_the_map_reads_a_sentence_as_the_playground_has_read_it(shelf, monkeypatch):
    opened = shelf.open("0")
    reading = opened.read("a quiet triumph")[1]
    monkeypatch.setattr(Monju, "votes", lambda *_: pytest.fail("it is read a second time, past those who wait"))
    assert clusters.stand(opened, opened.atlas, "a quiet triumph")["reading"] == reading


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
    monkeypatch.setattr(shelf_module.time, "monotonic", lambda now=shelf_module.time.monotonic(): now + shelf_module.AGAIN + 1)
    assert len(opened.texts()) == 100


def test_many_take_the_same_file_of_results_at_once(tiny_run):
    page = ui.build(RunCache(tiny_run))
    take = next(each.fn for each in page.fns.values() if each.fn and each.fn.__qualname__.startswith("build.<locals>.take"))
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: Path(take("tiny", None)).read_bytes(), range(64)))
    assert len(set(taken)) == 1 and len(taken[0]) > 100


def test_what_visitors_share_bears_many_at_once(shelf, monkeypatch):
    """Eight visitors turn the gate and type, each as one likes; each is answered under the own settings."""
    monkeypatch.setattr(shelf_module, "REMEMBERED", 8)
    opened = shelf.open("0")
    votes = {text: opened.monju.votes([text]) for text in "abcdefghijklmnopqrstuvwxyz"}
    monkeypatch.setattr(opened, "votes", lambda texts: votes[texts[0]])  # reading is not the point
    held_out, before = opened.held_out[0], sys.getswitchinterval()

    def visit(number):
        for n in range(60):
            text, sharpness = "abcdefghijklmnopqrstuvwxyz"[(n * n + number) % 26], (number * 60 + n) / 16
            view, reading = opened.read(text, sharpness=sharpness)
            assert reading.text == text and view.config.sharpness == sharpness
            np.testing.assert_array_equal(list(reading.logits.values()), votes[text].logits[0])
            np.testing.assert_array_equal(opened.alpha(sharpness=sharpness), view.decide(held_out).alpha)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(visit, range(8)))
    finally:
        sys.setswitchinterval(before)
