"""Where sentences stand: what each embedder promises of its vectors, and that a saved one keeps the promise."""

from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from monju.clustering.embedders import TABLE, TfidfEmbedder, one_number
from monju.config import Config
from monju.errors import MonjuError
from monju.models import backbones

SENTENCES = ["a quiet triumph", "dull, overlong and painfully unfunny", "the acting is superb .", "no",
             "it 's a charming and often affecting journey through a landscape that nobody in this film seems to notice at all"]


def corpus(words, n, seed=0, letters="abcdefghijklmnopqrstuvwxyz"):
    """n sentences of eight out of so many invented words, none an English stop word."""
    vocabulary = [f"zz{letters[i // 26]}{letters[i % 26]}" for i in range(words)]
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(vocabulary, 8)) for _ in range(n)]


def tfidf(texts, seed=0):
    return TfidfEmbedder(SimpleNamespace(seed=seed)).fit(texts)


@pytest.fixture(scope="module")
def sbert():
    return TABLE["sbert"](Config(device="cpu"))


# tfidf


def test_tfidf_vectors_have_length_one():
    vectors = tfidf(corpus(300, 200)).transform(corpus(300, 50, seed=1))
    assert vectors.shape == (50, 100) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(50), abs=1e-6)


def test_tfidf_by_hand():
    # river and stone never meet: two orthogonal directions, whatever the SVD calls them
    vectors = tfidf(["river", "stone", "river", "stone"]).transform(["river", "stone", "river stone", "river river"])
    # by idf alike, so "river stone" halves the angle: cos 45° = √½; saying river twice changes no direction
    expected = [[1, 0, np.sqrt(0.5), 1], [0, 1, np.sqrt(0.5), 0], [np.sqrt(0.5), np.sqrt(0.5), 1, np.sqrt(0.5)], [1, 0, np.sqrt(0.5), 1]]
    assert vectors @ vectors.T == pytest.approx(np.array(expected), abs=1e-6)


def test_a_rare_word_weighs_more_than_a_common_one():
    # smoothed idf, ln((1 + 4) / (1 + df)) + 1: river in 3 of 4 gives 1.2231, stone in 1 of 4 gives 1.9163
    vectors = tfidf(["river", "river", "river stone", "lamp"]).transform(["river stone", "river", "stone"])
    length = np.hypot(1.2231, 1.9163)
    assert vectors[0] @ vectors[1] == pytest.approx(1.2231 / length, abs=1e-4)
    assert vectors[0] @ vectors[2] == pytest.approx(1.9163 / length, abs=1e-4)


def test_unknown_words_are_the_zero_vector():
    vectors = tfidf(["river bank", "stone wall", "river stone"]).transform(["mountain", "", "the of and", "Mountain RIVER"])
    assert not vectors[:3].any()
    assert np.array_equal(vectors[3:], tfidf(["river bank", "stone wall", "river stone"]).transform(["river"]))


def test_every_number_is_one_token():
    assert one_number("In 1999 it cost 1,000.50 or 3") == "in  seennumber  it cost  seennumber  or  seennumber "
    embedder = tfidf(["year 1999", "year 2001", "price 3.50", "price 1,000"])
    assert embedder.words == ["price", "seennumber", "year"]
    same = embedder.transform(["year 7", "year 1,234.5", "YEAR 1999"])
    assert np.array_equal(same[0], same[1]) and np.array_equal(same[0], same[2])


@pytest.mark.parametrize("texts", [["the of and", "it is"], ["a", "!"], ["river", "river", "the river"]])
def test_a_corpus_without_words_is_refused(texts):
    with pytest.raises(MonjuError, match="embedder tfidf.*--embedder sbert"):
        tfidf(texts)


@pytest.mark.parametrize("words, n", [(300, 200), (300, 20), (40, 200), (5, 6), (2, 3)],
                         ids=["more words than dimensions", "fewer sentences than dimensions", "fewer words", "tiny", "two words"])
def test_a_saved_tfidf_places_new_sentences_exactly_where_the_original_did(tmp_path, words, n):
    original = tfidf(corpus(words, n))
    new = [*corpus(words, 30, seed=1), "unknown alone", "zzaa 1,000 zzab"]
    before = original.transform(new)
    original.save(tmp_path)
    restored = TfidfEmbedder(SimpleNamespace(seed=0)).restore(tmp_path)
    assert before.any()
    assert np.array_equal(restored.transform(new), before)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}  # no pickle
    assert before.shape[1] == min(100, len(original.words), n)


def test_tfidf_is_kept_in_single_precision_and_an_earlier_run_in_double_is_read_alike(tmp_path):
    embedder, new = tfidf(corpus(300, 200)), corpus(300, 50, seed=1)
    embedder.save(tmp_path)
    kept = load_file(tmp_path / "embedder.safetensors")
    assert {array.dtype for array in kept.values()} == {np.dtype(np.float32)}
    random = np.random.default_rng(0)  # what single precision cannot hold
    double = {name: array * (1 + 3e-8 * random.standard_normal(array.shape)) for name, array in kept.items()}
    save_file(double, tmp_path / "embedder.safetensors")
    restored = TfidfEmbedder(SimpleNamespace(seed=0)).restore(tmp_path)
    assert restored.transform(new) == pytest.approx(embedder.transform(new), abs=1e-6)
    restored.save(tmp_path)
    assert {array.dtype for array in load_file(tmp_path / "embedder.safetensors").values()} == {np.dtype(np.float32)}


def test_tfidf_keeps_words_of_any_script(tmp_path):
    original = tfidf(["文殊 知恵", "café river", "知恵 café", "文殊 river"])
    original.save(tmp_path)
    restored = TfidfEmbedder(SimpleNamespace(seed=0)).restore(tmp_path)
    assert restored.words == ["café", "river", "文殊", "知恵"]
    assert np.array_equal(restored.transform(["文殊 café"]), original.transform(["文殊 café"]))


def test_tfidf_is_the_same_for_the_same_seed():
    texts = corpus(300, 200)
    assert np.array_equal(tfidf(texts, seed=3).transform(texts), tfidf(texts, seed=3).transform(texts))


def test_tfidf_does_not_look_at_the_other_sentences_of_a_batch():
    embedder, texts = tfidf(corpus(300, 200)), corpus(300, 20, seed=1)
    assert np.array_equal(embedder.transform(texts)[7], embedder.transform([texts[7]])[0])


def test_tfidf_reads_a_hundred_thousand_characters():
    vectors = tfidf(["river bank", "stone wall", "river stone"]).transform(["river stone " * 8334, "river stone"])
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)


# sbert and backbone


def test_sbert_is_sentence_transformers_own(sbert):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(backbones.locate("all-MiniLM-L6-v2"), device="cpu")
    texts = [*SENTENCES, "word " * 1000]  # the last is longer than the 256 tokens that are read
    assert sbert.transform(texts) == pytest.approx(theirs.encode(texts, normalize_embeddings=True), abs=1e-5)


def test_sbert_vectors_have_length_one_and_mean_something(sbert):
    vectors = sbert.transform(["a wonderful film", "what a marvellous movie", "the battery drains quickly"])
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-6)
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]


def test_who_else_is_in_the_batch_changes_nothing(sbert, monkeypatch):
    together = sbert.transform(SENTENCES)  # the short ones padded to the longest
    alone = np.vstack([sbert.transform([sentence]) for sentence in SENTENCES])
    assert together == pytest.approx(alone, abs=1e-5)
    monkeypatch.setattr(sbert, "batch", 2)  # rows come back in the order in which they went in
    assert sbert.transform(SENTENCES[::-1])[::-1] == pytest.approx(alone, abs=1e-5)


def test_a_hundred_thousand_characters_are_read_as_far_as_the_model_goes(sbert):
    long, start = "a fine film and " * 6250, "a fine film and " * 100
    vectors = sbert.transform([long, start])
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-5)


def test_sbert_keeps_nothing_and_places_alike_again(sbert, tmp_path):
    sbert.save(tmp_path)
    assert not list(tmp_path.iterdir())  # the weights are found again by name
    restored = TABLE["sbert"](Config(device="cpu")).restore(tmp_path)
    assert np.array_equal(restored.transform(SENTENCES), sbert.transform(SENTENCES))


def test_backbone_reads_with_the_runs_own_encoder_and_length(sbert):
    # MiniLM as the backbone is the same recipe as sbert, read only as far as the run's max_tokens
    vectors = TABLE["backbone"](Config(embedder="backbone", max_tokens=5, device="cpu")).fit(SENTENCES).transform(SENTENCES)
    full = sbert.transform(SENTENCES)
    assert vectors.shape == (5, 384)
    assert vectors[3] == pytest.approx(full[3], abs=1e-5)  # "no" fits: [CLS] no [SEP]
    assert vectors[0] == pytest.approx(full[0], abs=1e-5)  # so do the five tokens of "a quiet triumph"
    assert abs(vectors[4] - full[4]).max() > 0.01  # the long one is cut


@pytest.mark.parametrize("name", TABLE)
def test_fit_returns_the_embedder(name):
    embedder = TABLE[name](Config(device="cpu"))
    assert embedder.fit(["river bank", "stone wall", "river stone"]) is embedder
