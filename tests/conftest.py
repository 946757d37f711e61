"""What the tests share: real sentences, and one tiny real run, trained once a session."""

import asyncio
import csv
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

from monju.config import Config
from monju.data import sources
from monju.inference.process import InferenceProcess
from monju.inference.run_cache import RunCache
from monju.training import pipeline
from monju.training.pipeline import train
from monju.utils.quiet import quiet

PROCESS = InferenceProcess()  # of all pages that tests serve; started when first asked

# a training of two experts in seconds; too few sentences on the map for UMAP, whose compiler would take as long again
SHORT = {"k": 2, "subset_size": 1, "baselines": False, "sample": 40, "finetuning": "lora", "epochs": 2, "batch_size": 2,
         "learning_rate": 1e-3, "max_tokens": 24, "precision": "fp32", "device": "cpu", "workers": 1, "map_size": 8}


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the long versions too: hundreds of kills, thousands of hostile texts")


def pytest_configure(config):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background has it ignored, and would hand that down
    quiet()  # as the command line
    config.addinivalue_line("markers", "long: takes many minutes; runs with --long alone")


def pytest_collection_modifyitems(config, items):
    asked = config.getoption("--long")
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.timeout(0) if asked else pytest.mark.skip(reason="long: run it with --long"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """The tests' cache of vectors is their own."""
    os.environ["MONJU_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def short_curves():
    """A model's held-out curve is read from 8 sentences: of a training as small as the tests' it would be the most work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "HELD_OUT_SENTENCES", 8)
        yield


@contextmanager
def alone():
    """On one thread: the order in which several add up changes the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one_thread():
    with alone():
        yield


@pytest.fixture(scope="session")
def finish():
    """Runs a coroutine in a thread of its own: Playwright keeps the main thread's event loop running."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda coroutine: thread.submit(asyncio.run, coroutine).result()


@pytest.fixture(scope="session")
def movies(tmp_path_factory):
    """A folder of real Rotten Tomatoes sentences: 120 in train.csv, 40 in validation.csv, half of each positive."""
    found = sources.load("rotten-tomatoes", sample=120)
    folder = tmp_path_factory.mktemp("movies")
    held_out = sources.stratified(found.validation.labels, 40, seed=0)
    for name, split, rows in (("train", found.train, range(120)), ("validation", found.validation, held_out)):
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *((split.texts[row], split.labels[row]) for row in rows)])
    return folder


@pytest.fixture(scope="session")
def many_sentences(tmp_path_factory):
    """A file of 12,000 sentences of three words, of two classes: the row numbers of a model's sentences alone fill a pipe."""
    words = "good bad film plot cast scene slow quick warm cold dull bright".split()
    file = tmp_path_factory.mktemp("many") / "many.csv"
    rows = [f"{words[i % 12]} {words[i // 12 % 12]} {i},{i % 2}" for i in range(12_000)]
    file.write_text("text,label\n" + "\n".join(rows) + "\n")
    return file


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, movies):
    """The folder of a real run on 100 sentences, 20 kept aside: three experts, three baselines and their equal-cost
    controls, all as adapters."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    config = Config(data=str(movies), label_names=["negative", "positive"], tuning_size=20, k=3, subset_size=2, finetuning="lora",
                    epochs=1, max_tokens=48, equal_cost=True, precision="fp32", device="cpu", workers=1)
    for _ in train(config, out):
        pass
    return out


@pytest.fixture(scope="session")
def short_run(tmp_path_factory, movies):
    """(folder of a run with the settings SHORT, what its training told)."""
    out = tmp_path_factory.mktemp("short") / "run"
    with alone():
        return out, list(train(Config(data=str(movies), **SHORT), out))


@contextmanager
def serving(run, **environment):
    """The page on a run, launched under these environment variables: (its URL, its blocks)."""
    from monju import ui

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ui, "RunCache", lambda *given: RunCache(*given, process=PROCESS))  # one for all pages: a start takes seconds
        for name, value in environment.items():
            patch.setenv(name, str(value))
        app, url, _ = ui.launch(run, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        yield url, app.blocks
    finally:
        app.blocks.close(verbose=False)


@pytest.fixture(scope="session")
def tiny_page(tiny_run):
    """The URL of one page on the tiny run, for all who change nothing; its shelf is the folder that the run is in."""
    with serving(tiny_run, MONJU_RUNS=tiny_run.parent) as (url, _):
        yield url
