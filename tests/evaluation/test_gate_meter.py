"""The gate meter: the bound holds for every sentence, and gap, agreement and correlation are those worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toy import LABELS, logits, toy

from monju.evaluation import gate_meter as meter
from monju.evaluation.gate_meter import could_flip, gate_meter


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(2, 5), st.integers(1, 6))
def test_whatever_the_weights_only_sentences_within_the_bound_are_turned(data, experts, labels, n):
    logits = data.draw(arrays(float, (n, experts, labels), elements=st.floats(-30, 30, width=32)))
    raw = data.draw(arrays(float, (n, experts), elements=st.floats(0, 1, width=32))) + 1e-6
    alpha = raw / raw.sum(axis=1, keepdims=True)
    turned = np.einsum("ne,nel->nl", alpha, logits).argmax(axis=1) != logits.mean(axis=1).argmax(axis=1)
    assert not (turned & ~could_flip(logits, alpha)).any()


def test_the_bound_by_hand():
    # margins of label 0 over label 1: 3 and −1, mean 1; ‖m − m̄‖ = √8, so α must be 1/√8 = 0.354 away from ½: 0.75 and 0.25
    logits = np.array([[[3.0, 0.0], [0.0, 1.0]]] * 3)
    alpha = np.array([[0.26, 0.74], [0.25, 0.75], [0.24, 0.76]])
    assert could_flip(logits, alpha).tolist() == [False, True, True]
    assert np.einsum("ne,nel->nl", alpha, logits).argmax(axis=1).tolist() == [0, 0, 1]  # at 0.25 it is a tie


def test_equal_weights_turn_nothing():
    logits = np.random.default_rng(0).normal(size=(50, 3, 4))
    assert not could_flip(logits, np.full((50, 3), 1 / 3)).any()


def test_gap_agreement_and_correlation_by_hand():
    """Sentences in A A A B B B C C; AB is wrong on 3 and 7, BC on 0, CA on 1 and 4."""
    found = gate_meter(toy(), LABELS)
    # seen: AB 5 of 6, BC 5 of 5, CA 4 of 5; unseen: AB 1 of 2, BC 2 of 3, CA 2 of 3
    assert found["gap"] == {"seen": 14 / 16, "unseen": 5 / 8, "difference": 14 / 16 - 5 / 8}
    assert found["agreement"] == pytest.approx((5 + 4 + 5) / 24)
    # of eight: wrong on 2 and 1, 2 and 2, 1 and 2, never together: −1/32 / √(3/16 · 7/64), −1/16 / (3/16), as the first
    assert found["error_correlation"] == pytest.approx((2 * -(1 / 32) / (3 / 16 * 7 / 64) ** 0.5 - 1 / 3) / 3)
    assert found["did_flip"] <= found["could_flip"] <= 1


def test_what_cannot_be_told_is_none():
    whole = replace(toy(), subsets=[(0, 1, 2)] * 3)  # nobody has not seen a cluster
    assert meter.gap(whole, LABELS) == {"seen": pytest.approx(19 / 24), "unseen": None, "difference": None}
    always = replace(toy(), logits=np.repeat(logits("00001111")[:, None], 6, axis=1))
    assert meter.error_correlation(always, LABELS) is None and gate_meter(always, LABELS)["agreement"] == 1


def test_what_is_known_before_training_by_hand():
    # six sentences, labels 5 5 5 in A, 7 in B, 7 and 9 in C; pairs AB, BC, CA
    clusters, labels = np.array([0, 0, 0, 1, 2, 2]), np.array([5, 5, 5, 7, 7, 9])
    alpha = np.array([[1.0, 0, 0]] * 3 + [[1 / 3] * 3] * 3)
    found = meter.before_training(alpha, clusters, labels, [(0, 1), (1, 2), (2, 0)])
    # AB never meets 9 (one sentence), BC never 5 (three), CA meets all: (1 + 3 + 0) / 18
    assert found["unseen"] == pytest.approx(4 / 18)
    # ‖(1, 0, 0) − ⅓‖ = √(4/9 + 2/9) = √⅔ on half of them
    assert found["uneven"] == pytest.approx((2 / 3) ** 0.5 / 2) and found["most"] == pytest.approx((2 / 3) ** 0.5)
    few = meter.before_training(alpha[:1].repeat(22, 0), np.repeat([0, 1, 1], [1, 20, 1]), np.repeat([1, 1, 2], [1, 20, 1]), [(0,), (1,), (0,)])
    assert few["unseen"] == pytest.approx((22 + 0 + 22) / 66)  # one of 21 examples is as good as none
