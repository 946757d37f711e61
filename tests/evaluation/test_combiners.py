"""Ways to make one answer of the experts' votes, against cases worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from monju.config import Config
from monju.ensemble import fusion, gates, subsets
from monju.ensemble.outputs import ModelOutputs
from monju.errors import MonjuError
from monju.evaluation import combiners
from monju.evaluation.combiners import FitContext

POSITIVE, NEGATIVE = [0.0, 2.0], [2.0, 0.0]
CENTRES = np.eye(3)


def votes(logits, distances=None, vectors=None, posterior=None):
    """Votes of n sentences by the three experts AB, BC, CA; logits [n, 3, labels]."""
    logits = np.array(logits, float)
    n = len(logits)
    return ModelOutputs(["A", "B", "C"], subsets.expert_subsets(3, 2), ["AB", "BC", "CA"], [], [],
                 np.zeros((n, 3)) if vectors is None else np.array(vectors, float),
                 np.ones((n, 3)) if distances is None else np.array(distances, float), posterior, logits)


def known(tuning=None, labels=None, **settings):
    return FitContext(Config(**settings), CENTRES, tuning, labels)


def fused(name, asked, what):
    """The fused logits [n, labels] of a way by its name."""
    return combiners.all_combiners()[name].decide(asked, what).monju


def aside():
    """Seven sentences near e₁ on which AB alone is right, seven near e₂ on which BC and CA are."""
    near_a, near_b = np.tile([1.0, 0, 0], (7, 1)), np.tile([0, 1.0, 0], (7, 1))
    logits = [[POSITIVE, NEGATIVE, NEGATIVE]] * 7 + [[NEGATIVE, POSITIVE, POSITIVE]] * 7
    return votes(logits, vectors=np.concatenate([near_a, near_b])), np.ones(14, int)


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
    ours, theirs = combiners.gated(many, known()), combiners.permuted(many, known())
    assert not np.allclose(ours, theirs)
    alike = votes(many.logits, np.tile([1.0, 2.0, 3.0], (50, 1)))
    np.testing.assert_allclose(combiners.gated(alike, known()), combiners.permuted(alike, known()))


def test_stacking_finds_the_expert_that_knows():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    sure = np.where(labels[:, None] == [0, 1], 3.0, 0.0)
    logits = np.stack([random.normal(size=(300, 2)), sure, random.normal(size=(300, 2))], axis=1)
    found = fused("stacking", votes([[[0, 0], [0, 6], [0, 0]]]), known((votes(logits), labels)))
    assert found[0, 1] > 5  # nearly all weight on BC
    assert fused("best single expert", votes([[[9, 0], [0, 6], [9, 0]]]), known((votes(logits), labels))).tolist() == [[0, 6]]


def test_a_gate_that_is_learned_draws_from_its_own_random_numbers():
    """Two visitors who learn at the same moment would otherwise take each other's."""
    random = np.random.default_rng(0)
    tuning, before = votes(random.normal(size=(20, 3, 2)), vectors=random.normal(size=(20, 3))), torch.get_rng_state()
    gate = combiners.fit_parent(tuning, random.integers(0, 2, 20), known(), hidden=4, steps=3)
    assert torch.equal(torch.get_rng_state(), before) and np.allclose(gate(tuning.vectors).sum(axis=1), 1)


@pytest.mark.parametrize("hidden", [0, 4])
def test_the_parent_gate_starts_at_cbtms_weights_and_learns(hidden):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(40, 3))
    distances = np.linalg.norm(vectors[:, None] - CENTRES[None], axis=2)
    tuning, labels = votes(np.zeros((40, 3, 2)), distances, vectors), np.zeros(40, int)
    start = combiners.fit_parent(tuning, labels, known(temperature=0.5), hidden, steps=0)
    np.testing.assert_allclose(start(vectors), softmax(-distances**2 / 0.5, axis=1), atol=1e-9)

    tuning, labels = aside()
    before, after = (combiners.fit_parent(tuning, labels, known(temperature=0.5), hidden, steps)(tuning.vectors) for steps in (0, 200))
    share = lambda q: gates.share(q, tuning.subsets)  # noqa: E731
    assert (share(after)[:7, 0] > share(before)[:7, 0]).all() and (share(after)[7:, 0] < share(before)[7:, 0]).all()


def test_the_running_prior_follows_what_it_has_seen():
    posterior = np.tile([0.6, 0.2, 0.2], (200, 1))
    many = votes([[POSITIVE, NEGATIVE, NEGATIVE]] * 200, posterior=posterior)
    found = combiners.running_prior(many, known(clusterer="gmm"))
    np.testing.assert_allclose(found[0], combiners.gated(votes([[POSITIVE, NEGATIVE, NEGATIVE]], posterior=posterior[:1]),
                                                       known(clusterer="gmm", gate="posterior"))[0])
    # the prior moves by a hundredth of each posterior: q₂ ∝ (0.6, 0.2, 0.2) · (0.99/3 + 0.01 · (0.6, 0.2, 0.2))
    second = np.array([0.6, 0.2, 0.2]) * (0.99 / 3 + 0.01 * np.array([0.6, 0.2, 0.2]))
    np.testing.assert_allclose(found[1], gates.share(second[None] / second.sum(), many.subsets)[0])
    with pytest.raises(MonjuError, match="gmm"):
        fused("posterior, running prior", votes([[POSITIVE] * 3]), known())


@pytest.mark.parametrize("way", ["MoE linear", "MoE network", "stacking", "best single expert", "KNORA-U", "OLA"])
def test_what_needs_sentences_kept_aside_says_so(way):
    with pytest.raises(MonjuError, match="--tuning-size"):
        fused(way, votes([[POSITIVE] * 3]), known())


def test_a_gate_is_learned_once_for_each_temperature_that_it_starts_from(monkeypatch):
    learned, fits, fit = known(aside()), [], combiners.fit_parent
    monkeypatch.setattr(combiners, "fit_parent", lambda *given, **named: fits.append(given) or fit(*given, **named))
    alone = combiners.parent(aside()[0], known(aside()))
    shared = {t: combiners.parent(aside()[0], replace(learned, config=Config(temperature=t))) for t in (2.0, 0.1)}
    np.testing.assert_array_equal(shared[0.1], alone)  # the default T, whatever was asked before
    assert np.abs(shared[2.0] - alone).max() > 0.1
    combiners.parent(aside()[0], learned)
    assert len(fits) == 3  # one alone, and one for each temperature


def test_weights_are_fitted_to_the_fusion_that_uses_them():
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 400)
    right = np.where(labels[:, None] == [0, 1], 1.0, -1.0)
    # two are right four times in five, one of them five times as loud, and CA is noise
    shy, loud = (right * np.where(random.random(400) < 0.8, by, -by)[:, None] for by in (1, 5))
    tuning = votes(np.stack([shy, loud, random.normal(size=(400, 2))], axis=1)), labels
    shared, asked = known(tuning), votes([[POSITIVE, NEGATIVE, NEGATIVE]])
    weights = {name: combiners.stacked(asked, replace(shared, config=Config(fusion=name)))[0] for name in ("logits", "probabilities")}
    for name, found in weights.items():  # no other weights on the simplex do better under that fusion
        mix = fusion.TABLE[name]

        def loss(alpha):
            return -log_softmax(mix(tuning[0].logits, np.tile(alpha, (400, 1))), axis=1)[np.arange(400), labels].mean()

        others = random.dirichlet(np.ones(3), 300)
        assert loss(found) <= min(map(loss, others)) + 1e-4
    assert np.abs(weights["logits"] - weights["probabilities"]).max() > 0.1
