"""Selections, by what the experts know of fourteen sentences kept aside."""

import numpy as np
from scipy.special import softmax
from test_combiners import NEGATIVE, POSITIVE, aside, fused, known, votes

from monju.evaluation import selections


def test_dynamic_selection_asks_those_who_are_right_nearby():
    asked = votes([[POSITIVE, NEGATIVE, NEGATIVE]] * 2, vectors=[[0.9, 0.1, 0], [0.1, 0.9, 0]])
    for way in ("KNORA-U", "OLA"):
        probabilities = softmax(fused(way, asked, known(aside())), axis=1)
        p = softmax(POSITIVE)[1]
        np.testing.assert_allclose(probabilities[:, 1], [p, 1 - p])  # AB alone, then BC and CA alone
    assert selections.local(asked, known(aside())).tolist() == [[7, 0, 0], [0, 7, 7]]


def test_nobody_right_nearby_weighs_all_alike():
    np.testing.assert_allclose(selections.shares(np.array([[0.0, 0, 0], [1, 1, 2]])), [[1 / 3] * 3, [0.25, 0.25, 0.5]])
