"""Every expected number is worked out by hand beside it."""

import math

import numpy as np
import pytest
from toy import LABELS, logits, toy, verdicts

from monju.evaluation.gate_meter import agreement, mean_agreement
from monju.evaluation.metrics import (
    calibration,
    compare_gains,
    compare_pair,
    gain,
    holm,
    interval,
    majority,
    measure,
    turned,
)

pytestmark = pytest.mark.filterwarnings("error", "ignore::pytest.PytestUnraisableExceptionWarning")


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


@pytest.mark.parametrize("n, right, bounds", [
    # Wilson's interval with all right: from n / (n + z²) to 1, z² = 3.8415; with none right mirrored
    (42, True, [42 / 45.8415, 1.0]), (1, True, [1 / 4.8415, 1.0]),
    (42, False, [0.0, 3.8415 / 45.8415]), (1, False, [0.0, 3.8415 / 4.8415]),
])
def test_an_accuracy_without_spread_has_wilsons_interval(n, right, bounds):
    labels = np.arange(n) % 2
    found = measure(2.0 * np.eye(2)[labels if right else 1 - labels], labels)
    assert found["accuracy"] == right and found["interval"] == pytest.approx(bounds, abs=1e-5)


def test_certainty_beyond_floating_point_stays_finite():
    found = measure(np.array([[-1000.0, 1000.0], [1000.0, -1000.0]]), verdicts("00"))
    assert found["nll"] == pytest.approx(-math.log(np.finfo(float).eps) / 2)  # the surest p that is counted, of one in two
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


def test_holms_correction_by_hand():
    # sorted: 0.01 · 3, 0.03 · 2, 0.04 · 1, which is less than the one before it
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.6, 0.5])).tolist() == [1.0, 1.0] and len(holm(np.array([]))) == 0


def test_the_majority_of_labels_that_are_all_alike():
    assert majority(verdicts("2222")) == {"label": 2, "accuracy": 1.0}


def test_difference_is_resampled_in_pairs():
    labels = np.zeros(400, dtype=int)
    theirs = np.repeat([0, 1], [300, 100])
    ours = np.repeat([0, 1], [310, 90])  # ten rescued: 0.025 ± 1.96·√(0.025·0.975/400) = 0.025 ± 0.0153
    assert compare_pair(ours, theirs, labels)["interval"] == pytest.approx([0.0097, 0.0403], abs=0.004)


def test_gain_over_the_mean_member():
    found = gain(logits("0000"), [logits("0001"), logits("0110")], verdicts("0000"))
    assert found["mean_member"] == (3 + 2) / 8 and found["gain"] == 3 / 8
    assert gain(logits("0011"), [logits("0011")] * 3, verdicts("0101"))["gain_interval"] == [0.0, 0.0]


def test_agreement_by_hand():
    names, same = agreement(toy())
    assert names == ["AB", "BC", "CA", "seed0", "seed1"]
    expected = np.array([  # differing sentences: AB and BC at 0, 3, 7; AB and CA at 1, 3, 4, 7; …
        [8, 5, 4, 6, 4],
        [5, 8, 5, 5, 7],
        [4, 5, 8, 4, 6],
        [6, 5, 4, 8, 4],
        [4, 7, 6, 4, 8],
    ]) / 8  # fmt: skip
    np.testing.assert_array_equal(same, expected)
    assert mean_agreement(same[:3, :3]) == pytest.approx((5 + 4 + 5) / 24)  # the diagonal does not count
    assert mean_agreement(same[3:, 3:]) == 4 / 8 and mean_agreement(same[:1, :1]) is None


def test_agreement_counts_equal_verdicts_right_or_wrong():
    three = np.stack([logits("012", 3), logits("022", 3)], axis=1)
    names, same = agreement(toy(experts=["AB", "BC"], members=[], equal_cost=[], logits=three))
    assert names == ["AB", "BC"] and same[0, 1] == 2 / 3


def test_calibration_bins_by_hand():
    sure = np.array([0.55, 0.65, 0.66, 0.95, 1 - 1e-12])  # bins of a tenth: one, two, two
    found = calibration(np.log(np.column_stack([sure, 1 - sure])), verdicts("01001"), bins=10)
    assert [(cell["n"], round(cell["low"], 3), round(cell["high"], 3)) for cell in found] == [(1, 0.5, 0.6), (2, 0.6, 0.7), (2, 0.9, 1.0)]
    assert [cell["accuracy"] for cell in found] == [1.0, 0.5, 0.5]
    assert [cell["confidence"] for cell in found] == pytest.approx([0.55, 0.655, 0.975])


def test_the_ece_is_the_gap_of_each_bin_by_its_sentences():
    sure = np.array([0.61, 0.65, 0.95])  # bins of a fifteenth: two in 9/15 to 10/15, one of them right; one in the last but one
    found = measure(np.log(np.column_stack([sure, 1 - sure])), verdicts("010"))
    assert found["ece"] == pytest.approx((2 * abs(0.5 - 0.63) + (1 - 0.95)) / 3)


def test_certainty_of_one_falls_into_the_last_bin():
    [cell] = calibration(np.array([[1000.0, -1000.0]]), verdicts("0"))
    assert cell["n"] == 1 and cell["high"] == 1.0 and cell["confidence"] == 1.0


def test_who_was_rescued_and_who_broken():
    rescued, broken = turned(verdicts("00001110"), verdicts("10001111"), LABELS)
    assert rescued.tolist() == [0] and broken.tolist() == [7]
    rescued, broken = turned(verdicts("012100"), verdicts("002210"), verdicts("012012"))  # wrong to wrong is neither
    assert rescued.tolist() == [1] and broken.tolist() == [4]


def test_the_two_gains_are_compared_in_pairs():
    found = compare_gains(toy(), LABELS)
    # Monju 7/8 − 19/24, the baseline 6/8 − 6/8
    assert found["difference"] == pytest.approx(7 / 8 - 19 / 24)
    assert found["interval"][0] < found["difference"] < found["interval"][1]
    assert compare_gains(toy(members=[], baseline=None), LABELS) is None
