"""A run of language models writes and scores: the mixture is one distribution, top-k asks fewer, a stop is a stop."""

import numpy as np
import pytest
import torch
import transformers

from monju.ensemble import fusion, gates
from monju.errors import MonjuError
from monju.evaluation import perplexity
from monju.inference.language import LanguageRun
from monju.inference.pipeline import Monju
from monju.inference.run_cache import RunCache
from monju.inference.writer import Ended, Request, Started, Token, Writer
from monju.runs.registry import SHIPPED_WRITERS, files
from monju.runs.run import Run
from monju.runs.run_data import held_out_documents, load_run_data


@pytest.fixture(scope="module")
def language(tiny_writer):
    return LanguageRun.load(tiny_writer, "cpu", controls=True)


@pytest.fixture(scope="module")
def scores(language):
    documents, _ = held_out_documents(language.run)
    return language.score(perplexity.held_out_rows(language, documents.texts))


def written(language, prompt="a quiet film", cancelled=lambda: False, **more):
    return list(Writer(language).write(Request(prompt, **{"tokens": 12, **more}), cancelled))


def tokens(events, stream="monju"):
    return [event for event in events if isinstance(event, Token) and event.stream == stream]


def test_the_mixture_sums_to_one(language):
    prefix = language.voices.begin([5, 6, 7])
    alpha = np.array([[0.2, 0.5, 0.3]])
    mixed = fusion.mix_log_probabilities(prefix.log_probabilities(0, language.experts).numpy()[None], alpha)
    assert abs(np.exp(mixed).sum() - 1) < 1e-6


def test_equal_experts_give_the_single_model_whatever_the_gate(language, scores):
    same = type(scores)(scores.starts, scores.names, np.repeat(scores.of(["AB"]), len(scores.names), axis=1), scores.distances, None)
    for gate in perplexity.all_gates(language).values():
        mixed = same.mixed(language.experts, same.alpha(gate, language.experts, language.subsets))
        np.testing.assert_allclose(mixed, scores.of(["AB"])[:, 0], atol=1e-6)


def test_every_gate_is_a_distribution_over_the_experts(language, scores):
    for gate in perplexity.all_gates(language).values():
        alpha = scores.alpha(gate, language.experts, language.subsets)
        assert (alpha >= 0).all()
        np.testing.assert_allclose(alpha.sum(axis=1), 1, atol=1e-9)
        np.testing.assert_allclose(alpha[scores.starts[:-1]], 1 / 3, err_msg="before there is any text")


def test_btms_gate_is_bayes_rule(language, scores):
    """Worked out by hand for the third token of the first document."""
    first = np.exp(scores.of(language.experts)[:2].astype(float)).prod(axis=0)
    alpha = scores.alpha(gates.Likelihood(None), language.experts, language.subsets)
    np.testing.assert_allclose(alpha[2], first / first.sum(), rtol=1e-6)


def test_alpha_is_worked_out_from_the_text_so_far(language, scores):
    every, row = language.config.renew_every, perplexity.held_out_rows(language, held_out_documents(language.run)[0].texts).tokens[0]
    _, placed, _ = language.clustering.place([language.tokenizer.decode(row[:every])])
    np.testing.assert_allclose(scores.distances[every], placed[0], atol=1e-6)
    np.testing.assert_array_equal(scores.distances[every : min(2 * every, len(row))], scores.distances[every][None].repeat(min(every, len(row) - every), 0))


def test_perplexity_is_that_of_plain_transformers(language, tiny_decoder):
    documents, _ = held_out_documents(language.run)
    table = perplexity.table(language, documents)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tiny_decoder, dtype=torch.float32)
    start, nll, n = language.start_and_end[0], 0.0, 0
    for row in perplexity.held_out_rows(language, documents.texts).tokens:
        with torch.no_grad():
            loss = plain(torch.tensor([[start, *row]]), labels=torch.tensor([[-100, *row]])).loss
        nll, n = nll + float(loss) * len(row), n + len(row)
    assert table["base"]["perplexity"] == pytest.approx(np.exp(nll / n), rel=1e-3)
    size = sum(len(text.encode()) for text in documents.texts)
    assert table["base"]["per_byte"] == pytest.approx(np.exp(nll / size), rel=1e-3) and table["tokens"] == n


def test_what_was_learned_beats_the_decoder_by_a_wide_margin_on_text_not_trained_on(tiny_writer):
    metrics = Run.open(tiny_writer).metrics()
    for system in ("monju", "baseline", "merged"):
        assert metrics[system]["perplexity"] < 0.8 * metrics["base"]["perplexity"]
    assert metrics["monju_vs_base"]["interval"][1] < 0.9


def test_a_text_is_written_by_both_streams_and_every_number_adds_up(language):
    events = written(language)
    assert isinstance(events[0], Started) and events[0].streams == ("monju", "baseline")
    ends = {event.stream: event for event in events if isinstance(event, Ended)}
    for stream, voices in events[0].voices.items():
        own = tokens(events, stream)
        assert "".join(token.text for token in own) == ends[stream].text.rstrip("\ufffd")
        for token in own:
            assert list(token.alpha) == voices and sum(token.alpha.values()) == pytest.approx(1)
            assert token.probability == pytest.approx(sum(token.alpha[name] * token.probabilities[name] for name in voices))
            assert token.shares[token.loudest] == max(token.shares.values()) and sum(token.shares.values()) == pytest.approx(1)
            assert len(token.runners_up) == 5 and [p for _, p in token.runners_up] == sorted((p for _, p in token.runners_up), reverse=True)
    placed = [token.index for token in tokens(events) if token.place]
    assert placed == list(range(0, len(tokens(events)), language.config.renew_every))


def test_the_same_seed_writes_the_same_and_another_does_not(language):
    ids = [[token.id for token in tokens(written(language, seed=seed))] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_temperature_zero_takes_the_likeliest(language):
    for token in tokens(written(language, temperature=0)):
        assert all(token.probability >= p for _, p in token.runners_up) or token.id in language.tokenizer.all_special_ids


def test_experts_of_weight_zero_are_not_run(language):
    prompt, asked = "a quiet film about two hours", []
    for top_k in (None, 1):
        run = LanguageRun(language.run, language.clustering, language.voices, [])
        run.config = type(run.config)(**{**run.config.to_json(), "gate": "membership", "temperature": 10.0, "top_k": top_k})
        before = language.voices.asked
        events = written(run, prompt, baseline=False)
        asked.append((language.voices.asked - before) / len(tokens(events)))
    # of three pairs, the two that learned the nearest cluster
    assert asked[1] == 2 < asked[0] == 3
    assert all((token.probabilities[name] is None) == (token.alpha[name] == 0) for token in tokens(events) for name in token.alpha)


def test_a_stop_string_ends_the_text_before_it_and_no_part_of_it_is_shown(language):
    whole = [event for event in written(language, tokens=30) if isinstance(event, Ended)][0].text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    events = written(language, tokens=30, stop=(stop,))
    end = next(event for event in events if isinstance(event, Ended) and event.stream == "monju")
    assert (end.reason, end.text) == ("stop", whole[: whole.index(stop)]) == ("stop", "".join(token.text for token in tokens(events)))


def test_cancelled_it_ends_within_a_token(language):
    events, count = [], 0
    for event in Writer(language).write(Request("a film", tokens=50, baseline=False), lambda: count >= 3):
        events.append(event)
        count += isinstance(event, Token)
    assert len(tokens(events)) == 3 and events[-1].reason == "cancelled"


def test_an_empty_prompt_starts_from_the_beginning_of_text_token(language):
    events = written(language, "")
    assert [note.code for note in events[0].notes] == ["prompt_empty"] and events[0].place is None
    assert list(tokens(events)[0].alpha.values()) == [pytest.approx(1 / 3)] * 3


def test_a_prompt_longer_than_the_context_is_shortened_from_the_left_and_told(language):
    events = written(language, "dull " * 300 + "a quiet triumph")
    [note] = events[0].notes
    assert note.code == "prompt_shortened" and note.values["limit"] < 128 and events[0].prompt.endswith("a quiet triumph")
    assert len(tokens(events)) > 0


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"seed": -1}, {"stop": ("",)}, {"tokens": True}, {"renew_every": 0}])
def test_a_request_that_cannot_be_is_refused_in_a_sentence(wrong):
    with pytest.raises(MonjuError) as caught:
        Request("a", **wrong)
    assert "\n" not in str(caught.value)


def test_each_kind_of_run_is_refused_where_the_other_is_read(language, tiny_writer, tiny_run):
    with pytest.raises(MonjuError, match="language models"):
        Monju.load(tiny_writer)
    with pytest.raises(MonjuError, match="language models"):
        RunCache(tiny_run, tiny_writer.parent).open(tiny_writer.name)
    with pytest.raises(MonjuError, match="classifiers"):
        LanguageRun.load(tiny_run)


def test_the_wrong_decoder_is_refused(tiny_writer, language, monkeypatch):
    monkeypatch.setattr("monju.models.trunk.Trunk.fingerprint", lambda trunk: "another")
    with pytest.raises(MonjuError, match="not the decoder"):
        LanguageRun.load(tiny_writer)


def test_the_run_that_ships_learned_something_and_holds_no_sentence():
    run = Run.open(SHIPPED_WRITERS[0]).check()
    metrics, data = run.metrics(), load_run_data(run)
    assert metrics["monju"]["perplexity"] < 0.7 * metrics["base"]["perplexity"] and metrics["monju"]["perplexity"] < 0.1 * metrics["unigram"]["perplexity"]
    assert sum(file.stat().st_size for file in files(run.path)) < 15e6
    content = b"".join(file.read_bytes() for file in files(run.path))
    assert not any(text.encode() in content for text in data.texts if len(text) > 20)
