"""The table of a run; every expected number is worked out by hand beside it."""

import json

import numpy as np
import pytest
from toy import COST, LABELS, toy, verdicts

from monju.errors import MonjuError
from monju.evaluation.run_table import POSTER, cost_share, table, trained_on

pytestmark = pytest.mark.filterwarnings("error", "ignore::pytest.PytestUnraisableExceptionWarning")


def test_table_by_hand():
    found = table(toy(), LABELS)
    assert (found["n"], found["labels"]) == (8, 2)
    assert {name: expert["accuracy"] for name, expert in found["experts"].items()} == {"AB": 6 / 8, "BC": 7 / 8, "CA": 6 / 8}
    assert found["monju"]["accuracy"] == 7 / 8
    assert found["monju"]["mean_member"] == pytest.approx(19 / 24)
    assert found["monju"]["gain"] == pytest.approx(2 / 24)
    low, high = found["monju"]["gain_interval"]
    assert low < 2 / 24 < high
    assert {name: model["accuracy"] for name, model in found["baseline"]["models"].items()} == {"seed0": 6 / 8, "seed1": 6 / 8}
    assert found["baseline"]["accuracy"] == 6 / 8 and found["baseline"]["gain"] == 0.0
    assert found["equal_cost"]["accuracy"] == 1.0 and list(found["equal_cost"]["models"]) == ["equal-cost/seed0"]
    assert found["baseline"].keys() == found["equal_cost"].keys()


def test_the_majority_class_is_told_of_the_sentences_themselves():
    labels = np.repeat([0, 1], [6, 84])  # six of ninety: always 1 is right for 84, 93.33 %
    found = table(toy(**{name: np.tile(value[:1], (90, *[1] * (value.ndim - 1))) for name, value in vars(toy()).items()
                         if isinstance(value, np.ndarray)}), labels)
    assert found["majority"] == {"label": 1, "accuracy": 84 / 90}
    assert table(toy(), LABELS)["majority"] == {"label": 0, "accuracy": 0.5}  # of two as common the first


def test_monju_is_compared_as_ours():
    found = table(toy(), LABELS)
    pair = found["monju_vs_baseline"]  # sentence 0 is rescued, sentence 7 wrong in both
    assert (pair["rescued"], pair["broken"], pair["changed"], pair["difference"]) == (1, 0, 1, 1 / 8)
    pair = found["monju_vs_equal_cost"]  # sentence 7 is broken
    assert (pair["rescued"], pair["broken"], pair["changed"], pair["difference"]) == (0, 1, 1, -1 / 8)


def test_cells_know_the_clusters_an_expert_has_seen():
    found = table(toy(), LABELS)

    def cells(model):
        return [(cell["n"], cell["accuracy"], cell["seen"]) for cell in model["clusters"].values()]

    assert cells(found["experts"]["AB"]) == [(3, 3 / 3, True), (3, 2 / 3, True), (2, 1 / 2, False)]
    assert cells(found["experts"]["BC"]) == [(3, 2 / 3, False), (3, 3 / 3, True), (2, 2 / 2, True)]
    assert cells(found["experts"]["CA"]) == [(3, 2 / 3, True), (3, 2 / 3, False), (2, 2 / 2, True)]
    assert cells(found["baseline"]["models"]["seed0"]) == [(3, 1.0, True), (3, 1.0, True), (2, 0.0, True)]
    assert cells(found["monju"]) == [(3, 1.0, True), (3, 1.0, True), (2, 1 / 2, True)]


def test_a_cluster_without_sentences_has_no_accuracy():
    found = table(toy(distances=2.0 - np.eye(3)[verdicts("00011111")]), LABELS)
    assert found["experts"]["AB"]["clusters"]["C"] == {"n": 0, "accuracy": None, "seen": False}


def test_gate_beside_equal_weights():
    found = table(toy(), LABELS)["alpha"]
    assert found["mean"] == pytest.approx({"AB": 0.3, "BC": 0.4, "CA": 0.3})
    # sorted: .2 .3 .5 four times, .1 .3 .6 four times
    assert found["sorted_mean"] == pytest.approx([0.15, 0.3, 0.55])
    # the experts' majority is 00001111; Monju's 00001110 differs at sentence 7
    assert found["fused_differs_from_uniform"] == 1
    loud = toy().logits * np.array([1, 1, 1, 1, 99, 1])[:, None]  # seed1 is no expert: it has no say in the average
    assert table(toy(logits=loud), LABELS)["alpha"] == found


def test_a_run_without_baseline_cost_or_equal_cost():
    found = table(toy(members=[], equal_cost=[], baseline=None, equal_cost_ensemble=None), LABELS)
    assert found.keys() == {"n", "labels", "majority", "experts", "monju", "alpha", "gate_meter"}


def test_the_table_is_plain_json():
    found = table(toy(), LABELS.astype(np.uint8), COST)
    assert json.loads(json.dumps(found, allow_nan=False)) == found

    def plain(value):
        if isinstance(value, dict):
            return all(type(key) is str and plain(inner) for key, inner in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return type(value) in (str, int, float, bool, type(None))

    assert plain(found) and found["cost"] == COST


@pytest.mark.parametrize(
    ("changes", "labels", "words"),
    [
        ({}, LABELS[:7], "8 sentences were read but 7 labels"),
        ({}, LABELS + 1, "the labels 0 to 1"),
        ({"monju": np.empty((0, 2))}, LABELS[:0], "no sentence"),
        ({"logits": toy().logits * np.array([1, np.nan, 1, 1, 1, 1])[:, None]}, LABELS, "BC gives logits that are not finite"),
    ],
)
def test_bad_input_is_told_in_a_sentence(changes, labels, words):
    with pytest.raises(MonjuError, match=words):
        table(toy(**changes), labels)


def test_the_posters_numbers():
    mean_expert = sum(expert["accuracy"] for expert in POSTER["experts"].values()) / 3
    mean_seed = sum(model["accuracy"] for model in POSTER["baseline"]["models"].values()) / 3
    # its claim: a larger gain from ensembling, 94.04 − 93.08 = 0.96 points against 94.15 − 93.42 = 0.73
    assert POSTER["monju"]["accuracy"] - mean_expert == pytest.approx(0.0096, abs=5e-5)
    assert POSTER["baseline"]["accuracy"] - mean_seed == pytest.approx(0.0073, abs=5e-5)


def test_cost_as_a_share_of_the_baselines():
    found = table(toy(), LABELS, COST)
    assert cost_share(found, found["experts"]) == 3300 / 4000 and cost_share(found, found["baseline"]["models"]) == 1.0
    assert cost_share(found, found["equal_cost"]["models"]) is None  # its members were not counted
    assert cost_share(table(toy(), LABELS), found["experts"]) is None


def test_models_are_named_by_what_they_have_seen():
    found = table(toy(), LABELS)
    assert [trained_on(name, model) for name, model in found["experts"].items()] == ["{A,B}", "{B,C}", "{C,A}"]
    assert trained_on("equal-cost/seed0", found["equal_cost"]["models"]["equal-cost/seed0"]) == "{A,B,C} seed0"
