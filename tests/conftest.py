"""What the tests share: real sentences, and one tiny real run, trained once a session."""

import asyncio
import csv
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from monju import sources
from monju.config import Config
from monju.training import train


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the long versions too: hundreds of kills, thousands of hostile texts")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes many minutes; runs with --long alone")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long: run it with --long"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """The tests' cache of vectors is their own."""
    os.environ["MONJU_CACHE"] = str(tmp_path_factory.mktemp("cache"))


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
def tiny_run(tmp_path_factory, movies):
    """The folder of a real run on 100 sentences, 20 kept aside: three experts, three baselines and their equal-cost
    controls, all as adapters."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    config = Config(data=str(movies), label_names=["negative", "positive"], tuning_size=20, k=3, subset_size=2, finetuning="lora",
                    epochs=1, max_tokens=48, equal_cost=True, precision="fp32", device="cpu", workers=1)
    for _ in train(config, out):
        pass
    return out
