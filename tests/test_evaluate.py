"""Every expected number is worked out by hand beside it."""

import json
import math

import numpy as np
import pytest

from monju.ensemble import Predictions
from monju.errors import MonjuError
from monju.evaluate import POSTER, compare_pair, gain, interval, measure, render, table

pytestmark = pytest.mark.filterwarnings("error")


def verdicts(digits: str) -> np.ndarray:
    return np.array([int(digit) for digit in digits])


def logits(digits: str, labels: int = 2) -> np.ndarray:
    """Logits (n, labels) whose verdicts are the digits, all equally sure."""
    return 2.0 * np.eye(labels, dtype=np.float32)[verdicts(digits)]


LABELS = verdicts("00001111")


VERDICTS = {  # counted against 0000 1111
    "AB": "00011110",  # wrong: 3, 7   6/8
    "BC": "10001111",  # wrong: 0      7/8
    "CA": "01000111",  # wrong: 1, 4   6/8
    "seed0": "00001100",  # wrong: 6, 7   6/8
    "seed1": "11001111",  # wrong: 0, 1   6/8
    "equal-cost/seed0": "00001111",  # 8/8
}


def toy(**changes) -> Predictions:
    """Eight sentences in the clusters A A A B B B C C."""
    fields = {
        "clusters": ["A", "B", "C"],
        "experts": ["AB", "BC", "CA"],
        "subsets": [(0, 1), (1, 2), (2, 0)],
        "members": ["seed0", "seed1"],
        "equal_cost": ["equal-cost/seed0"],
        "vectors": None,
        "posterior": None,
        "distances": 2.0 - np.eye(3)[verdicts("00011122")],
        "alpha": np.array([[0.5, 0.2, 0.3]] * 4 + [[0.1, 0.6, 0.3]] * 4),
        "logits": np.stack([logits(digits) for digits in VERDICTS.values()], axis=1),  # [8, 6, 2]
        "monju": logits("00001110"),  # wrong: 7      7/8
        "uniform": np.mean([logits(VERDICTS[name]) for name in ("AB", "BC", "CA")], axis=0),
        "baseline": logits("10001110"),  # wrong: 0, 7   6/8
        "equal_cost_ensemble": logits("00001111"),
    }
    return Predictions(**fields | changes)


COST = {
    "AB": {"sentences": 600, "tokens": 1000, "steps": 20, "seconds": 1.5},
    "BC": {"sentences": 600, "tokens": 1100, "steps": 20, "seconds": 1.5},
    "CA": {"sentences": 600, "tokens": 1200, "steps": 20, "seconds": 1.5},
    "seed0": {"sentences": 900, "tokens": 2000, "steps": 30, "seconds": 2.2},
    "seed1": {"sentences": 900, "tokens": 2000, "steps": 30, "seconds": 2.2},
}


# ---- measures


def test_measures_of_two_labels_by_hand():
    ones = np.array([0.1, 0.1, 0.9, 0.3])  # probability of label 1; verdicts 0 0 1 0
    found = measure(np.log(np.column_stack([1 - ones, ones])), verdicts("0011"))
    assert found["accuracy"] == 0.75
    # F1 of 0: 2·2/(2·2+1) = 4/5; of 1: 2·1/(2·1+1) = 2/3
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found["nll"] == pytest.approx(-(3 * math.log(0.9) + math.log(0.3)) / 4)
    # three times 0.1² + 0.1² = 0.02, once 0.7² + 0.7² = 0.98
    assert found["brier"] == pytest.approx((3 * 0.02 + 0.98) / 4)
    # three sentences 0.9 sure and all right, one 0.7 sure and wrong
    assert found["ece"] == pytest.approx((3 * (1 - 0.9) + 0.7) / 4)


def test_measures_of_three_labels_one_of_them_missing():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1]])  # verdicts 0 1 1 0
    found = measure(np.log(probabilities), verdicts("0110"))
    assert found["accuracy"] == found["macro_f1"] == 1.0
    assert found["nll"] == pytest.approx(-(2 * math.log(0.7) + math.log(0.5) + math.log(0.8)) / 4)
    # 0.09+0.04+0.01 = 0.14 twice; 0.04+0.25+0.09 = 0.38; 0.01+0.04+0.01 = 0.06
    assert found["brier"] == pytest.approx((2 * 0.14 + 0.38 + 0.06) / 4)
    assert found["ece"] == pytest.approx((2 * 0.3 + 0.5 + 0.2) / 4)


def test_all_correct_has_no_spread():
    found = measure(logits("0101"), verdicts("0101"))
    assert found["accuracy"] == 1.0 and found["interval"] == [1.0, 1.0]
    assert measure(logits("1"), verdicts("1"))["interval"] == [1.0, 1.0]


def test_certainty_beyond_floating_point_stays_finite():
    found = measure(np.array([[-1000.0, 1000.0], [1000.0, -1000.0]]), verdicts("00"))
    assert math.isfinite(found["nll"]) and found["nll"] > 10
    assert found["brier"] == 1.0 and found["ece"] == 0.5


def test_labels_of_any_integer_type_will_do():
    for kind in (np.uint8, np.int32, np.int64):
        assert measure(logits("0110"), verdicts("0111").astype(kind))["accuracy"] == 0.75


def test_interval_is_near_the_normal_one():
    right = np.repeat([1, 0], [320, 80])
    half = 1.96 * math.sqrt(0.8 * 0.2 / 400)  # 0.0392
    assert interval(right) == pytest.approx([0.8 - half, 0.8 + half], abs=0.005)
    assert interval(right) == interval(right)  # a fixed seed


# ---- pairs


def test_pair_one_against_five():
    labels = verdicts("00000000")
    ours, theirs = verdicts("01111100"), verdicts("10000000")
    found = compare_pair(ours, theirs, labels)
    assert (found["rescued"], found["broken"], found["changed"]) == (1, 5, 6)
    assert found["difference"] == -4 / 8
    # exact, two-sided: 2 · (C(6,0) + C(6,1)) / 2⁶ = 14/64
    assert found["p_value"] == pytest.approx(0.21875)


def test_pair_of_three_labels_changes_more_than_it_rescues_or_breaks():
    labels, ours, theirs = verdicts("012012"), verdicts("012100"), verdicts("002210")
    # per sentence: both right, rescued, both right, wrong to wrong, broken, same wrong
    found = compare_pair(ours, theirs, labels)
    assert (found["rescued"], found["broken"], found["changed"]) == (1, 1, 3)
    assert found["p_value"] == 1.0 and found["difference"] == 0.0


def test_pair_that_agrees_everywhere():
    found = compare_pair(verdicts("0110"), verdicts("0110"), verdicts("0101"))
    assert found == {
        "difference": 0.0, "interval": [0.0, 0.0], "rescued": 0, "broken": 0, "changed": 0, "p_value": 1.0,
    }  # fmt: skip


def test_difference_is_resampled_in_pairs():
    labels = np.zeros(400, dtype=int)
    theirs = np.repeat([0, 1], [300, 100])
    ours = np.repeat([0, 1], [310, 90])  # ten rescued: 0.025 ± 1.96·√(0.025·0.975/400) = 0.025 ± 0.0153
    assert compare_pair(ours, theirs, labels)["interval"] == pytest.approx([0.0097, 0.0403], abs=0.004)


def test_gain_over_the_mean_member():
    found = gain(logits("0000"), [logits("0001"), logits("0110")], verdicts("0000"))
    assert found["mean_member"] == (3 + 2) / 8 and found["gain"] == 3 / 8
    assert gain(logits("0011"), [logits("0011")] * 3, verdicts("0101"))["gain_interval"] == [0.0, 0.0]


# ---- the table


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
    assert "*–" in shown(found)


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
    assert found.keys() == {"n", "labels", "experts", "monju", "alpha"}
    text = shown(found)
    assert "Baseline" not in text and "Equal cost" not in text and "Cost of training" not in text


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


# ---- the terminal's view


def shown(metrics: dict) -> str:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as capture:
        console.print(render(metrics))
    return capture.get()


def row(text: str, name: str, after: str = "") -> list[str]:
    """The words of the first line that starts with `name`, looking behind the heading `after`."""
    lines = text[text.index(after) :].splitlines()
    return next(line.strip().removeprefix(name).split() for line in lines if line.strip().startswith(name))


def test_the_view_shows_the_numbers():
    metrics = table(toy(), LABELS, COST)
    metrics["monju"]["gate"] = "distance [p=1]"
    text = shown(metrics)
    assert row(text, "{C,A}")[0] == "75.00" and row(text, "{B,C}")[0] == "87.50"
    assert row(text, "Monju")[:3] == ["79.17", "mean", "87.50"] and "+8.33" in row(text, "Monju")
    assert row(text, "Baseline")[5] == "+0.00"
    assert "Monju − baseline: +12.50 points" in text and "one sentence is 12.50 points" in text
    assert "1 of 8 labels changed: 1 rescued, 0 broken; exact McNemar p = 1." in text
    assert "Monju − equal cost: -12.50 points" in text
    assert row(text, "{A,B}", "by nearest cluster") == ["100.00", "66.67", "*50.00"]
    assert row(text, "{B,C}", "by nearest cluster") == ["*66.67", "100.00", "100.00"]
    assert row(text, "sentences", "by nearest cluster") == ["3", "3", "2"]
    assert row(text, "{A,B,C} seed1", "Cost of training") == ["900", "2,000", "30", "2.2"]
    # 1000 + 1100 + 1200 tokens of 2 · 2000
    assert row(text, "Monju", "Cost of training") == ["1,800", "3,300", "60", "4.5", "82.50", "%"]
    assert row(text, "Baseline", "Cost of training") == ["1,800", "4,000", "60", "4.4", "100.00", "%"]
    assert "Equal cost" not in text[text.index("Cost of training") :]  # its members were not counted
    assert "Gate distance [p=1]: mean sorted α 0.15 / 0.30 / 0.55" in text
    assert "changed 1 of 8 labels" in " ".join(text.split())


def test_the_view_shows_the_measures_of_the_ensembles():
    metrics = table(toy(), LABELS)
    expected = [f"{metrics['monju'][name]:.4f}" for name in ("macro_f1", "nll", "brier", "ece")]
    assert row(shown(metrics), "Monju", "Beyond accuracy") == expected


@pytest.mark.parametrize("k", [3, 8, 12])
def test_no_line_is_longer_than_the_terminal(k):
    clusters, names = [chr(ord("A") + c) for c in range(k)], [f"leave{c}" for c in range(k)]
    wide = toy(
        clusters=clusters,
        experts=names,
        subsets=[tuple(set(range(k)) - {c}) for c in range(k)],
        distances=2.0 - np.eye(k)[verdicts("00011122")],
        alpha=np.full((8, k), 1 / k),
        logits=np.stack([logits("00001111")] * (k + 3), axis=1),
    )
    huge = {"sentences": 67_349, "tokens": 2_631_482_000, "steps": 1_004_212, "seconds": 81_234.5}
    text = shown(table(wide, LABELS, dict.fromkeys(wide.models, huge)))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    headings = [line.split() for line in text.splitlines() if not set(line.split()) - set(clusters)]
    assert sum(headings, []) == clusters  # every cluster has its column, once
