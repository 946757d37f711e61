"""Early exit: who is asked first, when it ends, and at what cost, worked out by hand."""

from math import log

import numpy as np
import pytest
from test_combiners import votes

from monju.config import Config
from monju.ensemble import fusion
from monju.evaluation import early_exit
from monju.evaluation.early_exit import answers, asked, choose, curve, in_turn, margins, under


def odds(*ratios):
    """Logits of two labels with these odds for the second: 3 is 1 to 3, a margin of 1/2; 1/3 the same for the first."""
    return [[0.0, log(ratio)] for ratio in ratios]


def test_the_heaviest_is_asked_first_and_weights_are_renormalised():
    # α = 5/8, 1/8, 2/8: AB, then CA with 5/7 and 2/7, then all
    one = votes([[[0, 7], [0, 16], [7, 0]]], [[1.0, 2, 5]])
    found = under(Config(), one)
    assert found == pytest.approx(np.array([[[0, 7], [2, 5], [14 / 8, 35 / 8 + 16 / 8]]]))
    assert found[:, -1] == pytest.approx(one.decide_as(Config()).monju)


@pytest.mark.parametrize("name", fusion.TABLE)
def test_all_experts_asked_are_the_ensemble(name):
    random = np.random.default_rng(0)
    many, alpha = votes(random.normal(size=(20, 3, 4))), random.dirichlet(np.ones(3), 20)
    mix = fusion.TABLE[name]
    assert in_turn(many, alpha, mix)[:, -1] == pytest.approx(many.decide(lambda *_: alpha, mix).monju)


def test_experts_without_weight_change_nothing():
    found = in_turn(votes([[[0, 4], [9, 0], [0, 2]]]), np.array([[0.5, 0, 0.5]]), fusion.mix_logits)
    assert found.tolist() == [[[0, 4], [0, 3], [0, 3]]]


def test_a_margin_ends_it_by_hand():
    turns = np.array([odds(3, 3, 3), odds(1, 9, 3), odds(1, 1, 1)])  # margins ½ ½ ½, 0 0.8 ½, 0 0 0
    assert margins(turns) == pytest.approx(np.array([[0.5] * 3, [0, 0.8, 0.5], [0] * 3]))
    assert asked(turns, 0.0).tolist() == [1, 1, 1] and asked(turns, 0.49).tolist() == [1, 2, 3]
    assert asked(turns, 0.6).tolist() == [3, 2, 3] and asked(turns, 1.01).tolist() == [3, 3, 3]
    assert answers(turns, np.array([1, 2, 3])) == pytest.approx(np.array([odds(3)[0], odds(9)[0], odds(1)[0]]))


# four sentences of label 1: the first expert is right and sure, right, wrong and unsure (margin 0.2), wrong and sure (0.5);
# the ensemble is right on all but the last
TURNS, LABELS = np.array([odds(9, 9, 9), odds(3, 3, 3), odds(2 / 3, 3, 3), odds(1 / 3, 1 / 3, 1 / 3)]), np.ones(4, int)


def test_the_curve_by_hand():
    points = {round(point["threshold"], 2): (point["passes"], point["accuracy"]) for point in curve(TURNS, LABELS)}
    assert points[0.0] == (1, 0.5) and points[0.19] == (1, 0.5)
    assert points[0.21] == points[0.49] == (5 / 4, 3 / 4)  # the third asks one more
    assert points[0.51] == (10 / 4, 3 / 4) and points[1.01] == (3, 3 / 4)


def test_the_cheapest_margin_that_loses_nothing_is_chosen(monkeypatch):
    assert 0.2 < choose(TURNS, LABELS) <= 0.21
    monkeypatch.setattr(early_exit, "TOLERANCE", 0.25)
    assert choose(TURNS, LABELS) == 0
