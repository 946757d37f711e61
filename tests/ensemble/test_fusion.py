"""Σ α · logits and log Σ α · softmax, by hand."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from monju.config import Config
from monju.ensemble.fusion import TABLE, mix_logits, mix_probabilities, mix_product

pytestmark = pytest.mark.filterwarnings("error", "ignore::pytest.PytestUnraisableExceptionWarning")

LOGITS = np.array([[[2.0, 0.0], [0.0, 4.0], [1.0, 1.0]]])  # one sentence, three experts, two labels
EXTREME = np.array([[[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]], [[-1e4, 1e4], [-1e4, 1e4], [-1e4, 1e4]]])
THIRDS = np.full((2, 3), 1 / 3)


def test_logits_are_averaged_by_weight():
    # 0.5·2 + 0.3·0 + 0.2·1 = 1.2 and 0.5·0 + 0.3·4 + 0.2·1 = 1.4
    assert mix_logits(LOGITS, np.array([[0.5, 0.3, 0.2]])) == pytest.approx(np.array([[1.2, 1.4]]))


def test_each_sentence_has_its_own_weights():
    # (0.5, 0.5, 0): (1, 2); (0, 0.5, 0.5): (0.5, 2.5)
    found = mix_logits(np.repeat(LOGITS, 2, axis=0), np.array([[0.5, 0.5, 0], [0, 0.5, 0.5]]))
    assert found == pytest.approx(np.array([[1, 2], [0.5, 2.5]]))


def test_three_labels():
    # 0.25·(4, 0, 8) + 0.75·(0, 4, 4) = (1, 3, 5)
    assert mix_logits(np.array([[[4.0, 0, 8], [0, 4, 4]]]), np.array([[0.25, 0.75]])) == pytest.approx(np.array([[1, 3, 5]]))


def test_probabilities_are_averaged_by_weight():
    # 0.6·(3/4, 1/4) + 0.4·(1/5, 4/5) = (0.53, 0.47); a constant on an expert's logits (+7, −3) changes nothing
    logits = np.log([[[3 / 4, 1 / 4], [1 / 5, 4 / 5]]]) + np.array([[[7.0], [-3.0]]])
    assert softmax(mix_probabilities(logits, np.array([[0.6, 0.4]])), axis=1) == pytest.approx(np.array([[0.53, 0.47]]))
    assert mix_probabilities(logits, np.array([[0.6, 0.4]])) == pytest.approx(np.log([[0.53, 0.47]]))


def test_probabilities_of_three_labels():
    # the mean of (1/2, 1/4, 1/4) and (0.1, 0.3, 0.6) is (0.3, 0.275, 0.425)
    logits = np.log([[[1 / 2, 1 / 4, 1 / 4], [0.1, 0.3, 0.6]]])
    assert np.exp(mix_probabilities(logits, np.array([[0.5, 0.5]]))) == pytest.approx(np.array([[0.3, 0.275, 0.425]]))


def test_a_very_sure_expert_outvotes_two_only_in_logits():
    # logits: (10 + 0 + 0)/3 against (0 + 2 + 2)/3 → label 0; probabilities of label 1: (0 + 0.88 + 0.88)/3 = 0.59 → label 1
    logits, alpha = np.array([[[10.0, 0], [0, 2], [0, 2]]]), THIRDS[:1]
    assert mix_logits(logits, alpha).argmax() == 0
    assert mix_probabilities(logits, alpha).argmax() == 1


def test_extreme_logits_stay_finite():
    # logits: a third of (1e4, 1e4) for the first sentence, all of (−1e4, 1e4) for the second
    assert mix_logits(EXTREME, THIRDS) == pytest.approx(np.array([[1e4 / 3, 1e4 / 3], [-1e4, 1e4]]))
    # probabilities: the mean of (1, 0), (0, 1), (1/2, 1/2); then label 0 is exp(−20000), its logarithm −20000
    assert mix_probabilities(EXTREME, THIRDS) == pytest.approx(np.array([[np.log(1 / 2), np.log(1 / 2)], [-2e4, 0]]))


@pytest.mark.parametrize("labels", [2, 3, 7])
@pytest.mark.parametrize("mix", TABLE.values(), ids=TABLE)
def test_softmax_of_the_result_is_a_distribution(mix, labels):
    random = np.random.default_rng(labels)
    found = mix(random.normal(size=(50, 4, labels)) * 10, random.dirichlet(np.ones(4), 50))
    assert found.shape == (50, labels)
    assert softmax(found, axis=1).sum(axis=1) == pytest.approx(np.ones(50))


@pytest.mark.parametrize("logits", [LOGITS, EXTREME], ids=["plain", "extreme"])
@pytest.mark.parametrize("expert", range(3))
def test_all_weight_on_one_expert_is_that_expert(logits, expert):
    alpha = np.tile(np.eye(3)[expert], (len(logits), 1))
    assert mix_logits(logits, alpha) == pytest.approx(logits[:, expert])
    assert mix_probabilities(logits, alpha) == pytest.approx(log_softmax(logits[:, expert], axis=1))


def test_a_product_multiplies_probabilities_and_one_experts_weight_is_its_power():
    # odds e¹ · e² · e⁻¹ at equal weights; with all weight on the second of three, its odds cubed
    logits = np.array([[[0, 1.0], [0, 2], [0, -1]]] * 2)
    found = mix_product(logits, np.array([[1 / 3] * 3, [0, 1, 0]]))
    assert found == pytest.approx(log_softmax([[0, 2.0], [0, 6]], axis=1))


def test_single_precision_logits_are_mixed_in_double():
    for mix in TABLE.values():
        assert mix(LOGITS.astype(np.float32), THIRDS[:1]).dtype == np.float64


@pytest.mark.parametrize("name", TABLE)
def test_every_fusion_can_be_asked_for(name):
    assert Config(fusion=name).fusion == name
