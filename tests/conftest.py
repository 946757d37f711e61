"""What the tests share: real sentences, a tiny random encoder, and two runs of it, trained once for all workers."""

import asyncio
import csv
import fcntl
import os
import pickle
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
import transformers
import writers

from monju.config import Config
from monju.data import sources
from monju.inference.process import InferenceProcess
from monju.inference.run_cache import RunCache
from monju.models import backbones
from monju.training import fit_jobs
from monju.training.pipeline import train
from monju.utils.quiet import quiet

PROCESS = InferenceProcess()  # of all pages that tests serve; started when first asked

# a run of two experts in seconds; too few sentences on the map for UMAP, whose compiler would take as long again
SHORT = {"k": 2, "subset_size": 1, "baselines": False, "sample": 40, "finetuning": "lora", "epochs": 2, "batch_size": 2,
         "learning_rate": 1e-3, "max_tokens": 24, "precision": "fp32", "device": "cpu", "workers": 1, "map_size": 8}


# the encoder of most tests; its weights are as large as learned ones: with BERT's own first ones all sentences are nearly the same
TINY = {"vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "max_position_embeddings": 256, "initializer_range": 0.3}

# a run of nine models on 100 sentences, 20 kept aside
WHOLE = {"label_names": ["negative", "positive"], "tuning_size": 20, "k": 3, "subset_size": 2, "finetuning": "lora", "epochs": 1,
         "max_tokens": 48, "equal_cost": True, "precision": "fp32", "device": "cpu", "workers": 1}


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the long versions too: hundreds of kills, thousands of hostile texts")


def pytest_configure(config):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background has it ignored, and would hand that down
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait would sit on another worker's core
    torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))))
    quiet()  # as the command line


def pytest_collection_modifyitems(config, items):
    asked = config.getoption("--long")
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.timeout(0) if asked else pytest.mark.skip(reason="long: run it with --long"))
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
    # files with much to do come first, so that no worker begins one when the other is nearly done
    much = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("browser")}
    items.sort(key=lambda item: item.path not in much)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """The tests' cache of vectors is their own."""
    os.environ["MONJU_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def short_curves():
    """A model's held-out curve is read from 8 sentences: of a training as small as the tests' it would be the most work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_jobs, "HELD_OUT_SENTENCES", 8)
        yield


def tiny_size(layers=TINY["num_hidden_layers"], labels=2):
    """How many weights a classifier on the tiny encoder has, or on one with so many layers, counted by hand."""
    h, i = TINY["hidden_size"], TINY["intermediate_size"]
    embeddings = (TINY["vocab_size"] + TINY["max_position_embeddings"] + 2) * h + 2 * h
    layer = 4 * (h * h + h) + 2 * h * i + i + h + 4 * h  # four products, the wide two, their biases, two norms
    return embeddings + layers * layer + h * h + h + labels * h + labels


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
def once(tmp_path_factory):
    """A function (name, make) → what `make(folder)` left in a folder of that name, which one of xdist's workers makes and all
    others wait for: read it, never change it."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    shared.mkdir(exist_ok=True)

    def folder(name, make):
        place, made = shared / name, shared / f"{name}.made"
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
            if not made.exists():
                place.mkdir()
                make(place)
                made.touch()
        return place

    return folder


@pytest.fixture(scope="session")
def movies(once):
    """A folder of real Rotten Tomatoes sentences: 120 in train.csv, 40 in validation.csv, half of each positive."""
    def make(folder):
        found = sources.load("rotten-tomatoes", sample=120)
        held_out = sources.stratified(found.validation.labels, 40, seed=0)
        for name, split, rows in (("train", found.train, range(120)), ("validation", found.validation, held_out)):
            with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("text", "label"), *((split.texts[row], split.labels[row]) for row in rows)])

    return once("movies", make)


@pytest.fixture(scope="session")
def tiny_bert(once):
    """The folder of an encoder for tests of which learning is not the point: a BERT of two layers with random weights that
    reads MiniLM's words. It is trained and read in a fiftieth of MiniLM's time."""
    def make(folder):
        words = backbones.tokenizer("all-MiniLM-L6-v2")
        torch.manual_seed(0)
        transformers.BertModel(transformers.BertConfig(**TINY)).save_pretrained(folder)
        words.save_pretrained(folder)

    return once("tiny-bert", make)


@pytest.fixture(scope="session")
def many_sentences(tmp_path_factory):
    """A file of 12,000 sentences of three words, of two classes: the row numbers of a model's sentences alone fill a pipe."""
    words = "good bad film plot cast scene slow quick warm cold dull bright".split()
    file = tmp_path_factory.mktemp("many") / "many.csv"
    rows = [f"{words[i % 12]} {words[i // 12 % 12]} {i},{i % 2}" for i in range(12_000)]
    file.write_text("text,label\n" + "\n".join(rows) + "\n")
    return file


@pytest.fixture(scope="session")
def tiny_run(once, movies, tiny_bert):
    """The folder of a run on 100 sentences: three experts, three baselines and their equal-cost controls, all as adapters of
    the tiny encoder, which places the sentences too."""
    config = Config(**WHOLE, data=str(movies), backbone=str(tiny_bert), embedder="backbone", learning_rate=1e-2)
    return once("runs", lambda folder: list(train(config, folder / "tiny"))) / "tiny"


@pytest.fixture(scope="session")
def minilm_run(once, movies):
    """The same of MiniLM, for what depends on it: a long step for each model, and a map too small for UMAP."""
    config = Config(**{**WHOLE, "epochs": 0.3}, data=str(movies), map_size=8, learning_rate=5e-3)
    return once("minilm", lambda folder: list(train(config, folder / "run"))) / "run"


@pytest.fixture(scope="session")
def short_run(once, movies):
    """(folder of a run of MiniLM with the settings SHORT, what its training told)."""
    def make(folder):
        with alone():
            told = list(train(Config(data=str(movies), **SHORT), folder / "run"))
        (folder / "told").write_bytes(pickle.dumps(told))

    folder = once("short", make)
    return folder / "run", pickle.loads((folder / "told").read_bytes())


@contextmanager
def serving(run, **environment):
    """The page on a run, launched under these environment variables: (its URL, its blocks)."""
    from monju import ui

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ui, "RunCache", lambda *given: RunCache(*given, process=PROCESS))  # one for all pages: a start takes seconds
        for name, value in {"MONJU_PROXY": "127.0.0.1", **environment}.items():  # so that tests may come from anywhere
            patch.setenv(name, str(value))
        app, url, _ = ui.launch(run, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        yield url, app.blocks
    finally:
        app.blocks.close(verbose=False)


@pytest.fixture(scope="session")
def tiny_shelf(tiny_run, tmp_path_factory):
    """A folder of runs with a copy of the tiny run in it, which stays as it is; a test may put another beside it for its time."""
    folder = tmp_path_factory.mktemp("shelf")
    shutil.copytree(tiny_run, folder / "tiny")
    return folder


@pytest.fixture(scope="session")
def tiny_page(tiny_shelf):
    """The URL of one page on that shelf, for all who change nothing."""
    with serving(tiny_shelf / "tiny", MONJU_RUNS=tiny_shelf) as (url, _):
        yield url


@pytest.fixture(scope="session")
def tiny_decoder(once):
    """The folder of a decoder for tests of which its wisdom is not the point."""
    return once("tiny-decoder", writers.make_decoder)


@pytest.fixture(scope="session")
def tiny_writer(once, tiny_decoder):
    """The folder of a run of language models on it: three experts, three baselines and their controls."""
    def make(folder):
        list(train(writers.settings(tiny_decoder, equal_cost=True), folder / "writer"))

    return once("writers", make) / "writer"
