"""Ways to make one answer of the experts' votes, against cases worked out by hand."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from monju import combine, gates
from monju.combine import Known
from monju.config import Config
from monju.ensemble import Votes
from monju.errors import MonjuError

POSITIVE, NEGATIVE = [0.0, 2.0], [2.0, 0.0]
CENTRES = np.eye(3)


def votes(logits, distances=None, vectors=None, posterior=None):
    """Votes of n sentences by the three experts AB, BC, CA; logits [n, 3, labels]."""
    logits = np.array(logits, float)
    n = len(logits)
    return Votes(["A", "B", "C"], gates.subsets(3, 2), ["AB", "BC", "CA"], [], [],
                 np.zeros((n, 3)) if vectors is None else np.array(vectors, float),
                 np.ones((n, 3)) if distances is None else np.array(distances, float), posterior, logits)


def known(tuning=None, labels=None, **settings):
    return Known(Config(**settings), CENTRES, tuning, labels)


def fused(name, asked, what):
    """The fused logits [n, labels] of a way by its name."""
    return combine.every()[name].decide(asked, what).monju


def test_monju_is_the_runs_own_gate_and_uniform_is_the_mean():
    one = votes([[POSITIVE, NEGATIVE, NEGATIVE]], [[1.0, 2.0, 5.0]])
    # α = 5/8, 1/8, 2/8: positive 2 · 0.625, negative 2 · 0.375
    np.testing.assert_allclose(fused("monju", one, known()), [[0.75, 1.25]])
    np.testing.assert_allclose(fused("uniform", one, known()), [[4 / 3, 2 / 3]])


def test_a_product_of_experts_multiplies_probabilities():
    one = votes([[[0, 1], [0, 2], [0, -1]]])
    np.testing.assert_allclose(fused("product of experts", one, known()), log_softmax([[0.0, 2.0]], axis=1))  # odds e^1 · e^2 · e^−1


def test_cbtm_needs_an_expert_a_cluster():
    with pytest.raises(MonjuError, match="--subset-size 1"):
        fused("c-BTM", votes([[POSITIVE] * 3]), known())


def test_the_oracle_is_right_where_any_expert_is():
    found = fused("oracle", votes([[NEGATIVE, POSITIVE, NEGATIVE], [NEGATIVE] * 3]), known(labels=np.array([1, 1])))
    assert found.argmax(axis=1).tolist() == [1, 0]


def test_permuted_weights_are_the_same_weights_for_other_sentences():
    many = votes(np.random.default_rng(0).normal(size=(50, 3, 2)), np.random.default_rng(1).uniform(1, 2, (50, 3)))
    ours, theirs = combine.gated(many, known()), combine.permuted(many, known())
    assert not np.allclose(ours, theirs)
    alike = votes(many.logits, np.tile([1.0, 2.0, 3.0], (50, 1)))
    np.testing.assert_allclose(combine.gated(alike, known()), combine.permuted(alike, known()))


def test_stacking_finds_the_expert_that_knows():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    sure = np.where(labels[:, None] == [0, 1], 3.0, 0.0)
    logits = np.stack([random.normal(size=(300, 2)), sure, random.normal(size=(300, 2))], axis=1)
    found = fused("stacking", votes([[[0, 0], [0, 6], [0, 0]]]), known((votes(logits), labels)))
    assert found[0, 1] > 5  # nearly all weight on BC
    assert fused("best single expert", votes([[[9, 0], [0, 6], [9, 0]]]), known((votes(logits), labels))).tolist() == [[0, 6]]


def aside():
    """Seven sentences near e₁ on which AB alone is right, seven near e₂ on which BC and CA are."""
    near_a, near_b = np.tile([1.0, 0, 0], (7, 1)), np.tile([0, 1.0, 0], (7, 1))
    logits = [[POSITIVE, NEGATIVE, NEGATIVE]] * 7 + [[NEGATIVE, POSITIVE, POSITIVE]] * 7
    return votes(logits, vectors=np.concatenate([near_a, near_b])), np.ones(14, int)


def test_dynamic_selection_asks_those_who_are_right_nearby():
    asked = votes([[POSITIVE, NEGATIVE, NEGATIVE]] * 2, vectors=[[0.9, 0.1, 0], [0.1, 0.9, 0]])
    for way in ("KNORA-U", "OLA"):
        probabilities = softmax(fused(way, asked, known(aside())), axis=1)
        p = softmax(POSITIVE)[1]
        np.testing.assert_allclose(probabilities[:, 1], [p, 1 - p])  # AB alone, then BC and CA alone
    assert combine.local(asked, known(aside())).tolist() == [[7, 0, 0], [0, 7, 7]]


def test_nobody_right_nearby_weighs_all_alike():
    np.testing.assert_allclose(combine.shares(np.array([[0.0, 0, 0], [1, 1, 2]])), [[1 / 3] * 3, [0.25, 0.25, 0.5]])


@pytest.mark.parametrize("hidden", [0, 4])
def test_the_parent_gate_starts_at_cbtms_weights_and_learns(hidden):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(40, 3))
    distances = np.linalg.norm(vectors[:, None] - CENTRES[None], axis=2)
    tuning, labels = votes(np.zeros((40, 3, 2)), distances, vectors), np.zeros(40, int)
    start = combine.fit_parent(tuning, labels, known(temperature=0.5), hidden, steps=0)
    np.testing.assert_allclose(start(vectors), softmax(-distances**2 / 0.5, axis=1), atol=1e-9)

    tuning, labels = aside()
    before, after = (combine.fit_parent(tuning, labels, known(temperature=0.5), hidden, steps)(tuning.vectors) for steps in (0, 200))
    share = lambda q: gates.share(q, tuning.subsets)  # noqa: E731
    assert (share(after)[:7, 0] > share(before)[:7, 0]).all() and (share(after)[7:, 0] < share(before)[7:, 0]).all()


def test_the_running_prior_follows_what_it_has_seen():
    posterior = np.tile([0.6, 0.2, 0.2], (200, 1))
    many = votes([[POSITIVE, NEGATIVE, NEGATIVE]] * 200, posterior=posterior)
    found = combine.running_prior(many, known(clusterer="gmm"))
    np.testing.assert_allclose(found[0], combine.gated(votes([[POSITIVE, NEGATIVE, NEGATIVE]], posterior=posterior[:1]),
                                                       known(clusterer="gmm", gate="posterior"))[0])
    # the prior after one sentence: 0.99 / 3 + 0.01 · (0.6, 0.2, 0.2) = (0.336, 0.332, 0.332); times the likelihood, normed:
    # (0.2016, 0.0664, 0.0664) / 0.3344; an expert has the half of its two clusters' sum
    np.testing.assert_allclose(found[1], [0.268 / 0.6688, 0.1328 / 0.6688, 0.268 / 0.6688])
    q = np.array([0.6, 0.2, 0.2])  # what it comes to, worked on for 199 sentences
    prior = np.full(3, 1 / 3)
    for _ in range(199):
        prior = 0.99 * prior + 0.01 * q * prior / (q * prior).sum()
    np.testing.assert_allclose(found[-1, 1], (q * prior)[1:].sum() / (q * prior).sum() / 2)
    with pytest.raises(MonjuError, match="gmm"):
        fused("posterior, running prior", votes([[POSITIVE] * 3]), known())


@pytest.mark.parametrize("way", ["MoE linear", "MoE network", "stacking", "best single expert", "KNORA-U", "OLA"])
def test_what_needs_sentences_kept_aside_says_so(way):
    with pytest.raises(MonjuError, match="--tuning-size"):
        fused(way, votes([[POSITIVE] * 3]), known())


def test_a_gate_learned_once_is_kept():
    learned = known(aside())
    first = fused("MoE linear", aside()[0], learned)
    learned.learned[("parent", 0)] = lambda vectors: np.tile([0, 0, 1.0], (len(vectors), 1))  # what is asked the second time
    assert not np.allclose(first, fused("MoE linear", aside()[0], learned))
