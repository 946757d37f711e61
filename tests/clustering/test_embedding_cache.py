"""Sentences are embedded once: the cache answers the second time, and never with something else's vectors."""

import os

import numpy as np
import pytest

from monju.clustering import embedding_cache
from monju.clustering.embedders import TABLE
from monju.config import Config

TEXTS = [f"the {adjective} {noun} was seen twice" for adjective in ("quiet", "loud", "long", "short") for noun in ("film", "scene", "story")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MONJU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vectors"


def embedder(name, **settings):
    return TABLE[name](Config(embedder=name, device="cpu", **settings))


def counted(name, counts, **settings):
    """A real embedder that counts how often it embeds."""
    class Counted(TABLE[name]):
        def transform(self, texts):
            counts.append(len(texts))
            return super().transform(texts)

    return Counted(Config(embedder=name, device="cpu", **settings))


@pytest.mark.parametrize("name", ["tfidf", "sbert"])
def test_the_second_time_nothing_is_embedded(name):
    counts = []
    _, first = embedding_cache.fitted(counted(name, counts), TEXTS)
    again, second = embedding_cache.fitted(counted(name, counts), TEXTS)
    assert counts == [len(TEXTS)]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, embedder(name).fit(TEXTS).transform(TEXTS))
    np.testing.assert_allclose(again.transform(["a quiet story"]), embedder(name).fit(TEXTS).transform(["a quiet story"]), atol=1e-6)


def test_other_sentences_or_settings_are_other_vectors(tmp_path):
    prints = {embedding_cache.fingerprint(embedder("tfidf"), TEXTS), embedding_cache.fingerprint(embedder("tfidf", seed=1), TEXTS),
              embedding_cache.fingerprint(embedder("tfidf"), TEXTS[::-1]), embedding_cache.fingerprint(embedder("sbert"), TEXTS),
              embedding_cache.fingerprint(embedder("backbone"), TEXTS), embedding_cache.fingerprint(embedder("tfidf"), [TEXTS[0] + TEXTS[1], *TEXTS[2:]]),
              embedding_cache.fingerprint(embedder("tfidf"), TEXTS[:2] + TEXTS[3:])}
    assert len(prints) == 7


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"x"), lambda file: file.unlink()], ids=["foreign", "missing"])
def test_a_damaged_folder_is_made_again(cache, damage):
    counts = []
    _, first = embedding_cache.fitted(counted("tfidf", counts), TEXTS)
    for file in ("vectors.safetensors", "embedder.safetensors"):
        damage(next(cache.glob(f"*/{file}")))
        np.testing.assert_array_equal(embedding_cache.fitted(counted("tfidf", counts), TEXTS)[1], first)
    assert len(counts) == 3


def test_only_so_many_are_kept_and_no_sentence(cache):
    for n in range(embedding_cache.KEPT + 2):
        embedding_cache.fitted(embedder("tfidf"), TEXTS + [f"one more film number {n}"] * (n + 1))
    kept = list(cache.iterdir())
    assert len(kept) == embedding_cache.KEPT and not [path for path in kept if path.name.startswith(".")]
    assert not [file for file in cache.rglob("*") if file.is_file() and b"was seen twice" in file.read_bytes()]


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MONJU_CACHE", os.fspath(tmp_path / "file"))
    np.testing.assert_array_equal(embedding_cache.fitted(embedder("tfidf"), TEXTS)[1], embedder("tfidf").fit(TEXTS).transform(TEXTS))
