"""A loaded run: from sentences to readings, and that every number in one follows from the others."""

import json
import pickle
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from scipy.special import softmax

import monju
from monju.clustering.embedders import TfidfEmbedder
from monju.config import Config
from monju.data.notes import Note
from monju.ensemble import gates
from monju.ensemble.outputs import ModelOutputs, Predictions
from monju.ensemble.subsets import expert_names, model_key
from monju.errors import MonjuError
from monju.evaluation.comparison import compare
from monju.inference.batcher import DynamicBatcher
from monju.inference.pipeline import TIE, Monju, near_a_tie
from monju.inference.reader import check_text
from monju.inference.students import student_logits
from monju.models import backbones
from monju.models.members import FEW
from monju.runs.run import Run

SHIPPED = Path(monju.__file__).parents[1] / "trained" / "sst2-minilm"
TEXTS = ["a quiet triumph", "dull, loud and far too long", "it is a film", "see it twice !", "雪 is snow"]


@pytest.fixture(scope="module")
def ensemble(minilm_run):
    return monju.load(minilm_run, device="cpu")


@pytest.fixture(scope="module")
def found(ensemble):
    return ensemble.predict(TEXTS)


def test_predictions_have_the_shapes_of_the_contract(found):
    assert found.distances.shape == (5, 3) and found.alpha.shape == (5, 3)
    assert found.logits.shape == (5, 6, 2)
    assert found.monju.shape == found.baseline.shape == (5, 2)
    assert found.models == ["AB", "BC", "CA", "seed0", "seed1", "seed2"]
    assert found["alpha"] is found.alpha
    assert found.equal_cost_ensemble is None


def test_monju_is_alpha_times_logits(found):
    d_a, d_b, d_c = found.distances.T
    np.testing.assert_allclose(found.alpha, np.stack([d_c, d_a, d_b], axis=1) / found.distances.sum(axis=1, keepdims=True))
    by_hand = sum(found.alpha[:, i, None] * found.logits[:, i] for i in range(3))
    np.testing.assert_allclose(found.monju, by_hand, rtol=1e-6)
    np.testing.assert_allclose(found.baseline, found.logits[:, 3:].mean(axis=1), rtol=1e-6)


def test_distances_are_to_the_centres(ensemble, found):
    centres = ensemble.clustering.clusterer.centres_
    np.testing.assert_allclose(found.distances, np.linalg.norm(found.vectors[:, None] - centres[None], axis=2), atol=1e-6)


def test_one_sentence_alone_is_the_same_as_among_others(ensemble, found):
    for i, text in enumerate(TEXTS):
        alone = ensemble.predict([text])
        for name in ("distances", "alpha", "logits", "monju", "baseline"):
            np.testing.assert_allclose(alone[name][0], found[name][i], atol=1e-5, err_msg=f"{name} of {text}")


def test_a_reading_says_what_the_arrays_say(ensemble, found):
    for i, reading in enumerate(ensemble.read(TEXTS)):
        assert reading.text == TEXTS[i]
        assert list(reading.distances) == ["A", "B", "C"] and list(reading.alpha) == ["AB", "BC", "CA"]
        assert list(reading.alpha.values()) == found.alpha[i].tolist()
        assert list(reading.logits) == found.models
        for verdict, fused in ((reading.monju, found.monju[i]), (reading.baseline, found.baseline[i])):
            np.testing.assert_array_equal(verdict.logits, fused)
            np.testing.assert_allclose(verdict.probabilities, softmax(fused))
            assert verdict.label == fused.argmax() and verdict.name == ["negative", "positive"][fused.argmax()]


def test_a_reading_is_json(ensemble):
    reading = ensemble.read([TEXTS[0]])[0]
    told = json.loads(json.dumps(reading.to_json(), allow_nan=False))
    assert list(told) == ["text", "distances", "alpha", "logits", "monju", "baseline", "notes"]
    assert set(told["logits"]) == {"AB", "BC", "CA", "seed0", "seed1", "seed2"}
    assert told["monju"]["label"] in (0, 1) and np.allclose(sum(told["monju"]["probabilities"]), 1)


def test_readings_compare_hash_and_print(ensemble):
    (one, other), again = ensemble.read(TEXTS[:2]), ensemble.read(TEXTS[:2])
    assert [one, other] == again and one != other and one != 3 and other in again
    assert len({one, other, *again}) == 2 and len({one.monju, again[0].monju}) == 1
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.monju == again[0].monju and one.monju != other.monju and one.monju != "positive"
    for change in ({"vector": one.vector + 1}, {"text": "b"}, {"baseline": None}, {"alpha": one.alpha | {"AB": 0.0}},
                   {"notes": (Note("sentence_cut", {"limit": 1, "n": 2}),)}, {"monju": other.monju},
                   {"logits": one.logits | {"AB": one.logits["AB"] + 1}}):
        assert replace(one, **change) != one
    assert repr(one) == f"Reading('a quiet triumph', monju={one.monju}, baseline={one.baseline})"
    assert repr(one.monju) == f"Verdict({one.monju.name!r}, {100 * one.monju.probabilities.max():.1f}%)"
    assert len(repr(replace(one, text="word " * 20_000))) < 200


def test_votes_and_predictions_are_equal_to_themselves_alone(ensemble):
    votes, found = ensemble.outputs(TEXTS), ensemble.predict(TEXTS)
    assert votes == votes and votes != ensemble.outputs(TEXTS) and votes != found and len({votes, found, votes}) == 2
    assert repr(votes) == "ModelOutputs(5 sentences, 6 models, 2 labels)" and repr(found) == "Predictions(5 sentences, 6 models, 2 labels)"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(votes)).logits, votes.logits)


NOTED = {  # on at most 48 tokens, two of them special
    "a quiet triumph": [], "👎👎👎": [("sentence_unknown", {"n": 1, "tokens": 1})],
    "fine 👎 film": [("sentence_unknown", {"n": 1, "tokens": 3})], "word " * 46: [],
    "word " * 47: [("sentence_cut", {"limit": 46, "n": 47})], "word " * 384: [("sentence_cut", {"limit": 46, "n": 384})],
    "word " * 385: [("sentence_cut_far", {"limit": 46})], "word " * 20_000: [("sentence_cut_far", {"limit": 46})],
    "👎 " * 50: [("sentence_cut", {"limit": 46, "n": 50}), ("sentence_unknown", {"n": 46, "tokens": 46})]}


@pytest.mark.parametrize("text", NOTED, ids=range(len(NOTED)))
def test_what_the_models_do_not_see_of_a_sentence_is_noted(ensemble, text):
    named = {"sentence_unknown": {"backbone": "all-MiniLM-L6-v2"}}
    expected = [Note(code, values | named.get(code, {})) for code, values in NOTED[text]]
    [reading] = ensemble.read([text])
    assert list(reading.notes) == expected and reading.to_json()["notes"] == [note.to_json() for note in expected]
    assert ensemble.readings(["fine", text], ensemble.outputs(["fine", text]))[1].notes == reading.notes  # each its own
    for note in reading.notes:
        assert note.text("en") and note.text("ja") != note.text("en") and json.dumps(note.to_json())


def test_of_several_backbones_the_one_that_sees_the_least_is_noted(ensemble, tmp_path):
    """Beside the run's own a tokenizer that knows two words."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fine", "film"]))
    small = transformers.BertTokenizerFast(vocab=str(tmp_path / "small" / "vocab.txt"))
    several = copy(ensemble)
    several.groups = [*ensemble.groups, ensemble.groups[0]._replace(tokenizer=small)]
    several.config = replace(ensemble.config, backbones=f"all-MiniLM-L6-v2,{tmp_path / 'small'}")
    [reading] = several.read(["a fine 👎 film"])
    assert reading.notes == (Note("sentence_unknown", {"n": 2, "tokens": 4, "backbone": "small"}),)


def test_gate_and_fusion_can_be_changed_without_the_models(ensemble):
    votes = ensemble.outputs(TEXTS)
    uniform = votes.decide(gates.Distance(sharpness=0))
    np.testing.assert_allclose(uniform.alpha, 1 / 3)
    np.testing.assert_allclose(uniform.monju, votes.of(votes.experts).mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(uniform.uniform, uniform.monju, rtol=1e-6)
    mixed = votes.decide_as(replace(ensemble.config, fusion="probabilities"))
    np.testing.assert_allclose(softmax(mixed.monju, axis=1),
                               np.einsum("ne,nel->nl", mixed.alpha, softmax(votes.of(votes.experts), axis=2)), rtol=1e-6)
    again = ensemble.under(sharpness=0.0).predict(TEXTS)
    np.testing.assert_allclose(again.monju, uniform.monju, rtol=1e-6)


def test_models_are_found_by_name():
    logits = np.arange(6.0).reshape(1, 3, 2)
    votes = ModelOutputs(["A", "B"], [(0,), (1,)], ["A", "B"], ["seed0"], [], None, np.ones((1, 2)), None, logits)
    assert votes.of(["seed0", "A"]).tolist() == [[[4, 5], [0, 1]]]
    assert votes.by_model()["B"].tolist() == [[2, 3]]
    assert votes.decide(gates.Distance(1.0)).monju.tolist() == [[1, 2]]


def test_without_baselines_there_is_no_baseline_verdict():
    votes = ModelOutputs(["A", "B"], [(0,), (1,)], ["A", "B"], [], [], None, np.ones((1, 2)), None, np.zeros((1, 2, 2)))
    assert votes.decide(gates.Distance(1.0)).baseline is None


def test_the_control_is_loaded_on_request_only(minilm_run, ensemble, found):
    everything = monju.load(minilm_run, "cpu", controls=True).predict(TEXTS)
    assert everything.equal_cost == [f"equal-cost/seed{i}" for i in range(3)]
    assert everything.logits.shape == (5, 9, 2)
    np.testing.assert_allclose(everything.logits[:, :6], found.logits, atol=1e-5)
    np.testing.assert_allclose(everything.equal_cost_ensemble, everything.logits[:, 6:].mean(axis=1), rtol=1e-6)


def test_a_run_trained_on_a_gpu_is_read_without_one(minilm_run, found):
    run = Run.open(minilm_run)
    run.manifest["config"]["device"] = "cuda"
    np.testing.assert_array_equal(Monju.of(run, "cpu").predict(TEXTS).monju, found.monju)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u3000", "\x00\x07"])
def test_a_sentence_without_a_word_is_refused(ensemble, text):
    for act in (ensemble.read, ensemble.predict):
        with pytest.raises(MonjuError, match="empty"):
            act(["a fine film", text])


SEQUENCES = {
    "tuple": tuple, "generator": iter, "array": np.array, "objects": lambda texts: np.array(texts, object),
    "keys": lambda texts: dict.fromkeys(texts).keys(), "series": pd.Series,
    "shuffled": lambda texts: pd.Series(texts, [2, 0, 4, 1, 3]), "named": lambda texts: pd.Series(texts, list("edcba")),
    "strings": lambda texts: pd.Series(texts, [5, 9, 7, 6, 8], dtype="string"), "repeated": lambda texts: pd.Series(texts, [1] * 5)}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_any_sequence_of_strings_is_read_in_its_order(ensemble, found, kind):
    """pandas finds by label and iterates by place: each reading carries the text that was read for it."""
    make = SEQUENCES[kind]
    for readings in (ensemble.read(make(TEXTS)), ensemble.readings(make(TEXTS), ensemble.outputs(make(TEXTS)))):
        assert [reading.text for reading in readings] == TEXTS
        np.testing.assert_allclose([reading.monju.logits for reading in readings], found.monju, atol=1e-5)
    np.testing.assert_allclose(ensemble.predict(make(TEXTS)).monju, found.monju, atol=1e-5)


NO_SENTENCES = {
    "a string": ("good", r"put it into brackets, \[sentence\]"), "bytes": (b"good", "put it into brackets"),
    "a number": (3, "from a list of strings, not from a int"), "nothing": (None, "from a list of strings, not from a NoneType"),
    "a table": (pd.DataFrame({"text": TEXTS}), "from one column, not from a DataFrame"),
    "a dictionary": ({"text": TEXTS}, "from one column, not from a dict"),
    "a gap": (pd.Series(["a fine film", None], dtype=object), "sentence 2 is no string but of the type NoneType"),
    "not a number": (["a fine film", float("nan")], "sentence 2 is no string but of the type float"),
    "rows": ([["a fine film", 1]], "sentence 1 is no string but of the type list"), "numbers": ([3], "sentence 1 .* int")}


@pytest.mark.parametrize("given", NO_SENTENCES)
def test_what_is_no_sequence_of_strings_is_refused(ensemble, given):
    texts, told = NO_SENTENCES[given]
    doors = [ensemble.read, ensemble.outputs, ensemble.predict, ensemble.clustering.place, DynamicBatcher(ensemble.outputs).outputs,
             TfidfEmbedder(Config()).fit(TEXTS).transform, lambda texts: ensemble.readings(texts, ensemble.outputs(["a", "b"])),
             lambda texts: student_logits(ensemble, texts)]
    for door in doors if texts is None else [*doors, lambda texts: compare(ensemble, [0, 1], texts)]:
        with pytest.raises(MonjuError, match=told):
            door(texts)


def test_readings_have_as_many_votes_as_texts(ensemble):
    with pytest.raises(MonjuError, match="2 sentences and outputs for 3"):
        ensemble.readings(TEXTS[:2], ensemble.outputs(TEXTS[:3]))


def test_no_sentence_at_all(ensemble):
    assert ensemble.read([]) == ensemble.read(iter([])) == ensemble.read(pd.Series(dtype=str)) == []
    with pytest.raises(MonjuError, match="no sentence"):
        ensemble.predict([])


def test_blanks_controls_and_broken_characters_do_not_count(ensemble):
    assert check_text("  a fine film \n") == "a fine film"
    assert check_text("a\x00fine\ud800film") == "a fine film"
    plain, odd = ensemble.read(["a fine film", "\t a\x00fine\ud800film "])
    assert odd.text == "a fine film"
    np.testing.assert_allclose(odd.monju.logits, plain.monju.logits, atol=1e-5)


def test_a_sentence_of_100_000_characters_is_read(ensemble):
    long, cut, solid, unknown = ensemble.read(["word " * 20_000, "word " * 300, "x" * 100_000, "x" * 300])
    np.testing.assert_allclose(long.monju.logits, cut.monju.logits, atol=1e-4)  # both are more than it reads
    np.testing.assert_allclose(solid.monju.logits, unknown.monju.logits, atol=1e-4)  # a word too long is one unknown token
    assert sum(long.alpha.values()) == pytest.approx(1)


def test_names_follow_the_clusters():
    assert expert_names(Config()) == ["AB", "BC", "CA"]
    assert expert_names(Config(k=4, subset_size=1)) == ["A", "B", "C", "D"]
    assert expert_names(Config(k=4, subset_size=3)) == ["ABC", "ABD", "ACD", "BCD"]
    assert model_key("baseline", "seed0") == "seed0" and model_key("equal-cost", "seed0") == "equal-cost/seed0"


def test_an_unfinished_run_is_not_loaded(tmp_path):
    Run.create(tmp_path / "run", Config(), data={"fingerprint": "0"}, models={"experts": []})
    with pytest.raises(MonjuError, match="not finished"):
        monju.load(tmp_path / "run")


@pytest.mark.skipif(not backbones.computes_in_bf16(torch.device("cpu")), reason="this processor does not compute in bf16")
def test_many_sentences_in_bf16_get_the_verdicts_of_full_precision():
    """The bundled run: the tiny one is near a tie everywhere."""
    full, rough = (Monju.load(SHIPPED, "cpu", bf16=bf16) for bf16 in (False, True))
    torn = ["the ending tries hard", "this film tries hard", "the music is a mess, and I liked it"]
    examples = json.loads((SHIPPED.parents[1] / "assets" / "examples.json").read_text(encoding="utf-8"))["sst2-minilm"]
    texts = [example["text"] for example in examples] + TEXTS + torn
    one, other, first = full.predict(texts), rough.predict(texts), rough.decide(rough._outputs(texts, rough=True))
    for name in ("monju", "baseline"):
        assert (one[name].argmax(axis=1) == other[name].argmax(axis=1)).all()
    again, far = near_a_tie(first), np.abs(other.logits - one.logits).max(axis=(1, 2))
    assert again.any() and not again.all() and far[again].max() < 1e-4 < far[~again].min()  # these, and only these, are read again
    assert np.abs(first.logits - one.logits).max() < TIE / 2
    np.testing.assert_allclose(rough.predict(texts[:FEW]).logits, full.predict(texts[:FEW]).logits, atol=1e-5)


def test_near_a_tie_is_where_a_verdict_could_turn():
    sure = np.array([[3.0, -3.0]] * 3)
    fields = {"clusters": ["A"], "subsets": [], "experts": ["AB"], "members": ["seed0"], "equal_cost": [], "vectors": None,
              "distances": None, "posterior": None, "alpha": None, "uniform": None, "equal_cost_ensemble": None,
              "logits": np.zeros((3, 2, 2)), "monju": np.array([[3, -3], [0.0, 0.1], [3, -3]]), "baseline": np.array([[3, -3], [3, -3], [-0.1, 0.0]])}
    assert near_a_tie(Predictions(**fields)).tolist() == [False, True, True]
    assert near_a_tie(Predictions(**fields | {"baseline": None, "monju": sure})).tolist() == [False] * 3
