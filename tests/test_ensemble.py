"""A loaded run: from sentences to readings, and that every number in one follows from the others."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

import monju
from monju import fusion, gates
from monju.config import Config
from monju.ensemble import Monju, Predictions, Votes, check_text, expert_names, model_key, near_a_tie
from monju.errors import MonjuError
from monju.run import Run

SHIPPED = Path(monju.__file__).parents[1] / "trained" / "sst2-minilm"
TEXTS = ["a quiet triumph", "dull, loud and far too long", "it is a film", "see it twice !", "雪 is snow"]


@pytest.fixture(scope="module")
def ensemble(tiny_run):
    return monju.load(tiny_run, device="cpu")


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
    assert list(told) == ["text", "distances", "alpha", "logits", "monju", "baseline"]
    assert set(told["logits"]) == {"AB", "BC", "CA", "seed0", "seed1", "seed2"}
    assert told["monju"]["label"] in (0, 1) and np.allclose(sum(told["monju"]["probabilities"]), 1)


def test_gate_and_fusion_can_be_changed_without_the_models(ensemble):
    votes = ensemble.votes(TEXTS)
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
    votes = Votes(["A", "B"], [(0,), (1,)], ["A", "B"], ["seed0"], [], None, np.ones((1, 2)), None, logits)
    assert votes.of(["seed0", "A"]).tolist() == [[[4, 5], [0, 1]]]
    assert votes.by_model()["B"].tolist() == [[2, 3]]
    assert votes.decide(gates.Distance()).monju.tolist() == [[1, 2]]


def test_without_baselines_there_is_no_baseline_verdict():
    votes = Votes(["A", "B"], [(0,), (1,)], ["A", "B"], [], [], None, np.ones((1, 2)), None, np.zeros((1, 2, 2)))
    assert votes.decide(gates.Distance()).baseline is None


def test_the_control_is_loaded_on_request_only(tiny_run, ensemble, found):
    everything = Monju.load(tiny_run, "cpu", controls=True).predict(TEXTS)
    assert everything.equal_cost == [f"equal-cost/seed{i}" for i in range(3)]
    assert everything.logits.shape == (5, 9, 2)
    np.testing.assert_allclose(everything.logits[:, :6], found.logits, atol=1e-5)
    np.testing.assert_allclose(everything.equal_cost_ensemble, everything.logits[:, 6:].mean(axis=1), rtol=1e-6)


def test_a_run_trained_on_a_gpu_is_read_without_one(tiny_run, found):
    run = Run.open(tiny_run)
    run.manifest["config"]["device"] = "cuda"
    np.testing.assert_array_equal(Monju.of(run, "cpu").predict(TEXTS).monju, found.monju)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u3000", "\x00\x07", None, 3])
def test_a_sentence_without_a_word_is_refused(ensemble, text):
    for act in (ensemble.read, ensemble.predict):
        with pytest.raises(MonjuError, match="empty"):
            act(["a fine film", text])


def test_no_sentence_at_all(ensemble):
    assert ensemble.read([]) == []
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


def test_near_a_tie_is_where_any_answer_could_turn():
    sure, torn = [[3.0, -3.0]] * 3, [[3.0, -3.0], [0.05, -0.05], [3.0, -3.0]]
    fields = {"clusters": ["A"], "subsets": [], "experts": ["AB"], "members": ["seed0", "seed1"], "equal_cost": [], "vectors": None,
              "distances": None, "posterior": None, "alpha": None, "uniform": None, "equal_cost_ensemble": None,
              "logits": np.array([sure, torn, sure, sure]), "monju": np.array([[3, -3], [3, -3], [0.0, 0.1], [3, -3]]),
              "baseline": np.array([[3, -3], [3, -3], [3, -3], [-0.1, 0.0]])}
    models, ensembles = near_a_tie(Predictions(**fields))
    assert np.argwhere(models).tolist() == [[1, 1]] and ensembles.tolist() == [False, False, True, True]
    assert near_a_tie(Predictions(**fields | {"baseline": None}))[1].tolist() == [False, False, True, False]


def test_in_bf16_labels_are_those_of_full_precision():
    """The run that ships: the tiny one is near a tie everywhere."""
    full, rough = (monju.load(SHIPPED, device="cpu", bf16=bf16) for bf16 in (False, True))
    torn = ["the ending tries hard", "this film tries hard", "the music is a mess, and I liked it"]  # two models, and Monju itself
    texts = json.loads((SHIPPED.parents[1] / "assets" / "examples.json").read_text(encoding="utf-8")) + TEXTS + torn
    one, other = full.predict(texts), rough.predict(texts)
    for name in ("logits", "monju", "baseline"):
        assert (one[name].argmax(axis=-1) == other[name].argmax(axis=-1)).all()
    models, ensembles = near_a_tie(rough.decide(rough._votes(texts, rough.rough)))
    assert models[~ensembles].any() and ensembles.any() and not (models.any(axis=1) | ensembles).all()
    again = models | ensembles[:, None]
    far = np.abs(other.logits - one.logits).max(axis=2)
    assert far[again].max() < 1e-5 and far[~again].min() > 1e-5  # these, and only these, are read again
    np.testing.assert_allclose(other.alpha[ensembles], one.alpha[ensembles], atol=1e-5)
