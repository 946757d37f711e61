"""Experts on a shared trunk: exact probabilities over the whole vocabulary, whatever lies in the cut."""

import numpy as np
import pytest
import torch
import transformers

from monju.errors import MonjuError
from monju.models import trunk as trunks
from monju.models.causal import passages
from monju.models.last_state import Adapter, load_adapter, soup
from monju.models.trunk import StateCache, Trunk, states_of, words_in_use
from monju.models.voices import BASE, SharedVoices

CPU = torch.device("cpu")
TEXTS = ["a quiet triumph of a film , and a funny one", "two hours of my life", "tedious"]


@pytest.fixture(scope="module")
def trunk(tiny_decoder):
    return Trunk(str(tiny_decoder), CPU)


@pytest.fixture(scope="module")
def rows(trunk):
    return passages(trunk.tokenizer, TEXTS, 8)


def random_adapter(trunk, cut, seed):
    adapter = Adapter(trunk.width, cut, 4, seed)
    generator = torch.Generator().manual_seed(seed)
    for weight in (adapter.up, adapter.bias):
        weight.data = torch.randn(weight.shape, generator=generator)
    return adapter.requires_grad_(False)


@pytest.fixture(scope="module")
def voices(trunk, rows):
    words = words_in_use(rows.tokens, 12)  # fewer than the texts have: some targets lie outside
    return SharedVoices(trunk, words, {name: random_adapter(trunk, len(words), seed) for seed, name in enumerate("AB")})


def test_passages_lose_no_token_and_none_is_longer_than_asked(trunk, rows):
    end = trunk.end
    for number, text in enumerate(TEXTS):
        own = [row for row, document in zip(rows.tokens, rows.documents) if document == number]
        assert sum(own, []) == [*trunk.tokenizer(text)["input_ids"], end]
        assert max(map(len, own)) <= 9 and "".join(rows.texts[i] for i, d in enumerate(rows.documents) if d == number).replace(" ", "") == text.replace(" ", "")


def test_the_trunks_own_probabilities_are_plain_transformers(trunk, rows, voices, tiny_decoder):
    found = voices.scores(states_of(trunk, rows.tokens, voices.words), [BASE])[:, 0]
    plain, at = transformers.AutoModelForCausalLM.from_pretrained(tiny_decoder, dtype=torch.float32), 0
    for row in rows.tokens:
        with torch.no_grad():
            log_p = plain(torch.tensor([[trunk.start, *row[:-1]]])).logits[0].log_softmax(-1)
        np.testing.assert_allclose(found[at : at + len(row)], [log_p[i, token] for i, token in enumerate(row)], atol=2e-3)
        at += len(row)


def test_an_expert_is_the_decoder_with_other_logits_for_the_words_of_the_cut(trunk, rows, voices):
    """Worked out the long way: the whole vocabulary's logits, those of the cut from h + B A h and the bias."""
    states = states_of(trunk, rows.tokens, voices.words)
    found, adapter = voices.scores(states, ["A"])[:, 0], voices.adapters["A"]
    h = torch.from_numpy(states.states.astype(np.float32))
    logits, changed = trunk.logits(h), h + h @ adapter.down.T @ adapter.up.T
    logits[:, voices.at] = changed @ trunk.head[voices.at].T + adapter.bias
    expected = logits.log_softmax(-1)[torch.arange(len(h)), torch.from_numpy(states.ids)]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len({*states.ids} - {*voices.words}) > 0, "some right tokens lie outside the cut"


def test_probabilities_of_the_next_token_sum_to_one_and_agree_with_the_scores(trunk, rows, voices):
    row = rows.tokens[0]
    prefix, scores = voices.begin([], streams=2), voices.scores(states_of(trunk, [row], voices.words), ["A", "B", BASE])
    for i, token in enumerate(row):
        log_p = prefix.log_probabilities(i % 2, ["A", "B", BASE])
        np.testing.assert_allclose(log_p.exp().sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(log_p[:, token], scores[i], atol=5e-3)  # states are cached in half precision
        prefix.push([token, token])


def test_before_training_an_expert_is_the_trunk(trunk, rows, voices):
    fresh = SharedVoices(trunk, voices.words, {"new": Adapter(trunk.width, len(voices.words), 4)})
    scores = fresh.scores(states_of(trunk, rows.tokens, voices.words), [BASE, "new"])
    np.testing.assert_allclose(scores[:, 0], scores[:, 1], atol=1e-5)


def test_the_soup_is_the_mean_of_the_products(trunk, voices):
    experts = list(voices.adapters.values())
    merged = soup(experts)
    np.testing.assert_allclose(merged.up @ merged.down, sum(a.up @ a.down for a in experts) / 2, atol=1e-5)
    np.testing.assert_allclose(merged.bias, (experts[0].bias + experts[1].bias) / 2, atol=1e-6)


def test_states_are_worked_out_once(trunk, rows, voices, tmp_path, monkeypatch):
    monkeypatch.setenv("MONJU_CACHE", str(tmp_path))
    cached = StateCache(trunk, rows.tokens, voices.words)
    assert list(cached.fill())[-1] == 1 and isinstance(cached.load().states, np.memmap)
    monkeypatch.setattr(trunks, "work_out", lambda *_: pytest.fail("read again"))
    again = StateCache(trunk, rows.tokens, voices.words)
    assert list(again.fill()) == [] and again.folder == cached.folder
    assert [path.name for path in cached.folder.parent.iterdir()] == [cached.folder.name]
    assert StateCache(trunk, rows.tokens[:2], voices.words).folder != cached.folder


def test_an_unwritable_cache_is_told(trunk, rows, voices, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MONJU_CACHE", str(tmp_path / "file"))
    with pytest.raises(MonjuError, match="MONJU_CACHE"):
        list(StateCache(trunk, rows.tokens, voices.words).fill())


def test_a_damaged_expert_is_refused(trunk, tmp_path):
    with pytest.raises(MonjuError, match="restore the folder"):
        load_adapter(tmp_path, trunk.width, 12)
    (tmp_path / "adapter.safetensors").write_bytes(b"no")
    with pytest.raises(MonjuError, match="restore the folder"):
        load_adapter(tmp_path, trunk.width, 12)
