"""Cases: each one by hand, on three experts of pairs of clusters."""

import numpy as np
import pytest

from monju.ensemble import gates, subsets
from monju.ensemble.outputs import ModelOutputs
from monju.evaluation.cases import CASES, cases

RIGHT, WRONG = [4.0, 0.0], [0.0, 1.0]  # of label 0; who is right says it the louder
NEAR_A = [1.0, 5.0, 5.0]  # AB and CA have met its cluster, BC never


@pytest.mark.parametrize("ab, bc, ca, baseline, case", [
    (RIGHT, RIGHT, RIGHT, RIGHT, "agree"),
    (RIGHT, WRONG, RIGHT, RIGHT, "unseen"),
    (WRONG, RIGHT, RIGHT, RIGHT, "saved"),
    (RIGHT, WRONG, WRONG, RIGHT, "alone"),  # CA has met the cluster, and is wrong as well
    (RIGHT, RIGHT, RIGHT, WRONG, "rescued"),
    (WRONG, WRONG, WRONG, RIGHT, "broken"),
    (WRONG, WRONG, WRONG, WRONG, "both_wrong"),
])
def test_each_case_by_hand(ab, bc, ca, baseline, case):
    outputs = ModelOutputs(["A", "B", "C"], subsets.expert_subsets(3, 2), ["AB", "BC", "CA"], ["seed0"], [], vectors=None, posterior=None,
                           distances=np.array([NEAR_A]), logits=np.array([[ab, bc, ca, baseline]]))
    assert cases(outputs.decide(gates.Distance(1.0)), np.array([0])).tolist() == [case] and case in CASES


def test_without_a_baseline_nothing_is_rescued_or_broken():
    outputs = ModelOutputs(["A", "B", "C"], subsets.expert_subsets(3, 2), ["AB", "BC", "CA"], [], [], vectors=None, posterior=None,
                           distances=np.array([NEAR_A] * 2), logits=np.array([[RIGHT] * 3, [WRONG] * 3]))
    assert cases(outputs.decide(gates.Distance(1.0)), np.zeros(2, int)).tolist() == ["agree", "both_wrong"]
