"""α against numbers worked out on paper: who is far from what an expert has not seen, trusts it."""

import dataclasses
from itertools import combinations
from math import comb, log, sqrt
from types import SimpleNamespace

import numpy as np
import pytest

from monju.config import SETTINGS, Config
from monju.ensemble import gates
from monju.ensemble.gates import Distance, InverseDistance, Membership, Nearest, Posterior, keep_top
from monju.ensemble.subsets import expert_subsets
from monju.errors import MonjuError

pytestmark = pytest.mark.filterwarnings("error", "ignore::pytest.PytestUnraisableExceptionWarning")
# an overflow or 0/0 inside a gate is a failure


def alpha(gate, k, m, *distances, posterior=None):
    """The gate's α for one sentence."""
    return gate(np.array([distances], float), expert_subsets(k, m), posterior)[0]


def cbtm(temperature=0.1, power=2.0, top_k=None):
    """The membership gate at the paper's settings, unless others are given."""
    return Membership(temperature, power, top_k)


def every_km(largest=7):
    return [(k, m) for k in range(2, largest + 1) for m in range(1, k)]


def test_poster_names_its_pairs_in_a_circle():
    assert expert_subsets(3, 2) == [(0, 1), (1, 2), (2, 0)]  # AB, BC, CA


@pytest.mark.parametrize("k, m", every_km())
def test_there_is_one_expert_per_subset(k, m):
    found = expert_subsets(k, m)
    assert len(found) == comb(k, m)
    assert {frozenset(subset) for subset in found} == {frozenset(subset) for subset in combinations(range(k), m)}


def test_poster_formula():
    # d_A + d_B + d_C = 1 + 2 + 5 = 8: α_AB = d_C/8, α_BC = d_A/8, α_CA = d_B/8
    assert alpha(Distance(1.0), 3, 2, 1, 2, 5) == pytest.approx([5 / 8, 1 / 8, 2 / 8], abs=1e-15)


def test_pairs_of_four_weigh_the_two_distances_outside():
    # α_S = (the distances outside S) / (C(3, 2) · (1+2+3+4)) = … / 30, for AB, AC, AD, BC, BD, CD
    expected = [(3 + 4) / 30, (2 + 4) / 30, (2 + 3) / 30, (1 + 4) / 30, (1 + 3) / 30, (1 + 2) / 30]
    assert alpha(Distance(1.0), 4, 2, 1, 2, 3, 4) == pytest.approx(expected, abs=1e-15)


def test_one_cluster_per_expert_weighs_all_other_distances():
    # α_A = (2+3+4) / (C(3, 1) · 10) = 9/30, then 8/30, 7/30, 6/30: the nearest cluster's expert leads
    assert alpha(Distance(1.0), 4, 1, 1, 2, 3, 4) == pytest.approx([9 / 30, 8 / 30, 7 / 30, 6 / 30], abs=1e-15)


def test_leaving_one_cluster_out_weighs_the_distance_to_it():
    # ABCD, ABCE, ABDE, ACDE, BCDE miss E, D, C, B, A; 1+2+3+4+6 = 16 and C(4, 4) = 1
    assert alpha(Distance(1.0), 5, 4, 1, 2, 3, 4, 6) == pytest.approx([6 / 16, 4 / 16, 3 / 16, 2 / 16, 1 / 16], abs=1e-15)


def test_a_sentence_on_a_centre_mutes_the_expert_that_has_not_seen_it():
    # d_A = 0: α_BC = 0/4, α_AB = d_C/4 = 1/4, α_CA = d_B/4 = 3/4
    assert alpha(Distance(1.0), 3, 2, 0, 3, 1) == pytest.approx([1 / 4, 0, 3 / 4], abs=1e-15)
    # with one cluster each nobody is mute: α_A = (3+1) / (2·4), α_B = (0+1)/8, α_C = (0+3)/8
    assert alpha(Distance(1.0), 3, 1, 0, 3, 1) == pytest.approx([4 / 8, 1 / 8, 3 / 8], abs=1e-15)


def test_sharpness_is_a_power_of_the_distances():
    # p = 2: 1, 4, 25 of 30 in place of 1, 2, 5 of 8
    assert alpha(Distance(2.0), 3, 2, 1, 2, 5) == pytest.approx([25 / 30, 1 / 30, 4 / 30], abs=1e-15)


@pytest.mark.parametrize("k, m", every_km())
def test_sharpness_zero_weighs_all_alike(k, m):
    distances = np.random.default_rng(k).random((5, k))
    distances[0, 0] = 0  # 0⁰ is 1 here: a sentence on a centre is no exception
    assert Distance(0.0)(distances, expert_subsets(k, m)) == pytest.approx(np.full((5, comb(k, m)), 1 / comb(k, m)), abs=1e-15)


def test_a_huge_sharpness_leaves_the_expert_without_the_farthest_cluster():
    # 200^1000 overflows a float; the ratios (100/200)^1000 and (150/200)^1000 are 0 to any digit that counts
    assert alpha(Distance(1000.0), 3, 2, 100, 150, 200) == pytest.approx([1, 0, 0], abs=1e-100)
    # two clusters equally far share: α_AB = d_C = 1/2, α_CA = d_B = 1/2
    assert alpha(Distance(1000.0), 3, 2, 0.001, 0.1, 0.1) == pytest.approx([1 / 2, 0, 1 / 2], abs=1e-100)


@pytest.mark.parametrize("gate", [Distance(1.0), Distance(0.0), Distance(3.0), InverseDistance(2.0), Nearest(), cbtm(),
                                  cbtm(power=4.0)], ids=str)
@pytest.mark.parametrize("k, m", every_km(5))
def test_every_centre_on_the_sentence_weighs_all_alike(gate, k, m):
    assert alpha(gate, k, m, *[0.0] * k) == pytest.approx([1 / comb(k, m)] * comb(k, m), abs=1e-15)


@pytest.mark.parametrize("k, m", every_km())
@pytest.mark.parametrize("gate", [Distance(1.0), Distance(0.5), Distance(8.0), InverseDistance(0.5), InverseDistance(8.0), Nearest(),
                                  cbtm(), cbtm(0.01, 4.0),
                                  cbtm(top_k=1), cbtm(top_k=2), Posterior(None), Posterior(top_k=2)], ids=str)
def test_weights_are_shares_of_one(gate, k, m):
    random = np.random.default_rng(10 * k + m)
    found = gate(random.random((200, k)) * 2, expert_subsets(k, m), random.dirichlet(np.ones(k), 200))
    assert found.shape == (200, comb(k, m))
    assert (found >= 0).all()
    assert found.sum(axis=1) == pytest.approx(np.ones(200), abs=1e-12)


def test_distances_are_left_as_they_were():
    distances = np.array([[1.0, 2.0, 5.0]])
    for gate in (Distance(2.0), InverseDistance(2.0), Nearest(), cbtm(top_k=1)):
        gate(distances, expert_subsets(3, 2))
    assert distances.tolist() == [[1, 2, 5]]


HALVING = 1 / log(2)  # at this temperature exp(−d²/T) = 2^(−d²)


def test_membership_alone_is_cbtm():
    # c-BTM's own T = 0.1: d² = 0, 0.1, 0.2 make the weights 1, 1/e, 1/e²
    weights = np.exp([0, -1, -2])
    assert alpha(cbtm(), 3, 1, 0, sqrt(0.1), sqrt(0.2)) == pytest.approx(weights / weights.sum(), abs=1e-12)
    # d² = 0, 1, 2 → 1, 1/2, 1/4 → 4/7, 2/7, 1/7
    assert alpha(cbtm(HALVING), 3, 1, 0, 1, sqrt(2)) == pytest.approx([4 / 7, 2 / 7, 1 / 7], abs=1e-12)


def test_membership_is_shared_by_the_experts_that_know_the_cluster():
    # q = 4/7, 2/7, 1/7, each cluster in C(2, 1) = 2 experts: α_AB = (4+2)/14, α_BC = (2+1)/14, α_CA = (1+4)/14
    assert alpha(cbtm(HALVING), 3, 2, 0, 1, sqrt(2)) == pytest.approx([6 / 14, 3 / 14, 5 / 14], abs=1e-12)
    # q = 8, 4, 2, 1 of 15, each cluster in C(3, 1) = 3 experts: AB, AC, AD, BC, BD, CD
    expected = np.array([12, 10, 9, 6, 5, 3]) / 45
    assert alpha(cbtm(HALVING), 4, 2, 0, 1, sqrt(2), sqrt(3)) == pytest.approx(expected, abs=1e-12)


def test_membership_with_power_four():
    # d⁴ = 0, 1, 4 → 1, 1/2, 1/16 → 16, 8, 1 of 25
    assert alpha(cbtm(HALVING, power=4.0), 3, 1, 0, 1, sqrt(2)) == pytest.approx([16 / 25, 8 / 25, 1 / 25], abs=1e-12)


def test_membership_keeps_the_top_and_renormalises():
    # of 4/7, 2/7, 1/7 the top two become 4/6, 2/6; the top one 1
    assert alpha(cbtm(HALVING, top_k=2), 3, 1, 0, 1, sqrt(2)) == pytest.approx([4 / 6, 2 / 6, 0], abs=1e-12)
    assert alpha(cbtm(HALVING, top_k=1), 3, 1, 0, 1, sqrt(2)) == pytest.approx([1, 0, 0], abs=1e-12)
    # as pairs: q = 4/6, 2/6, 0 → α_AB = 6/12, α_BC = 2/12, α_CA = 4/12
    assert alpha(cbtm(HALVING, top_k=2), 3, 2, 0, 1, sqrt(2)) == pytest.approx([6 / 12, 2 / 12, 4 / 12], abs=1e-12)


@pytest.mark.parametrize("top", [3, 9, None])
def test_top_of_all_or_more_is_all(top):
    q = np.array([[0.5, 0.3, 0.2]])
    assert keep_top(q, top).tolist() == q.tolist()


def test_a_tie_at_the_top_is_settled_by_the_clusters_order():
    assert keep_top(np.array([[0.2, 0.4, 0.4]]), 1).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-300, 1e-310])
def test_a_tiny_temperature_gives_all_to_the_nearest(temperature):
    assert alpha(cbtm(temperature), 3, 1, 1.2, 1.1, 1.3) == pytest.approx([0, 1, 0], abs=1e-15)


def test_a_huge_temperature_weighs_all_alike():
    assert alpha(cbtm(1e300), 3, 1, 0, 1, 2) == pytest.approx([1 / 3] * 3, abs=1e-15)


def test_posterior_is_shared_likewise():
    posterior = np.array([[0.7, 0.2, 0.1]])
    # at m = 1 the posterior itself; as pairs AB, BC, CA: (0.7+0.2)/2, (0.2+0.1)/2, (0.1+0.7)/2
    assert alpha(Posterior(None), 3, 1, 1, 1, 1, posterior=posterior) == pytest.approx([0.7, 0.2, 0.1], abs=1e-15)
    assert alpha(Posterior(None), 3, 2, 1, 1, 1, posterior=posterior) == pytest.approx([0.45, 0.15, 0.4], abs=1e-15)
    # the top two renormalised: 7/9, 2/9, 0
    assert alpha(Posterior(top_k=2), 3, 1, 1, 1, 1, posterior=posterior) == pytest.approx([7 / 9, 2 / 9, 0], abs=1e-15)


def test_inverse_distances_by_hand():
    # 1/d = 1, 1/2, 1/4 of 7/4: q = 4/7, 2/7, 1/7; a pair shares: AB 6/14, BC 3/14, CA 5/14
    assert alpha(InverseDistance(1.0), 3, 2, 1, 2, 4) == pytest.approx([6 / 14, 3 / 14, 5 / 14], abs=1e-15)
    # squared: 16/21, 4/21, 1/21
    assert alpha(InverseDistance(2.0), 3, 1, 1, 2, 4) == pytest.approx([16 / 21, 4 / 21, 1 / 21], abs=1e-15)
    assert alpha(InverseDistance(0.0), 3, 2, 1, 2, 4) == pytest.approx([1 / 3] * 3, abs=1e-15)
    assert alpha(InverseDistance(3.0), 3, 2, 0, 2, 4).tolist() == [0.5, 0, 0.5]  # on A's centre: A's experts alone
    assert alpha(InverseDistance(3.0), 3, 2, 0, 0, 0) == pytest.approx([1 / 3] * 3, abs=1e-15)
    assert alpha(InverseDistance(1e6), 3, 2, 1, 2, 4) == pytest.approx(alpha(Nearest(), 3, 2, 1, 2, 4), abs=1e-15)


def test_only_those_who_learned_the_nearest_cluster():
    assert alpha(Nearest(), 3, 2, 1, 2, 5).tolist() == [0.5, 0, 0.5]
    assert alpha(Nearest(), 4, 1, 3, 1, 2, 9).tolist() == [0, 1, 0, 0]
    assert alpha(Nearest(), 3, 1, 2, 1, 1).tolist() == [0, 0.5, 0.5]  # of two that are as near, both
    assert alpha(Nearest(), 3, 2, 0, 0, 0) == pytest.approx([1 / 3] * 3, abs=1e-15)


def test_a_run_without_posterior_is_told_so():
    with pytest.raises(MonjuError, match="--clusterer gmm"):
        alpha(Posterior(None), 3, 2, 1, 1, 1)


def test_make_hands_the_settings_on():
    assert gates.make(Config(sharpness=2.5)) == Distance(2.5)
    assert gates.make(Config(gate="membership", temperature=0.3, power=4, top_k=2)) == Membership(0.3, 4.0, 2)
    assert gates.make(Config(gate="posterior", clusterer="gmm", top_k=1)) == Posterior(1)
    assert gates.make(SimpleNamespace(gate="distance", sharpness=0)) == Distance(0)  # a form's choice is enough


@pytest.mark.parametrize("name", gates.TABLE)
def test_every_setting_of_a_gate_is_in_the_schema_and_has_its_default_there_alone(name):
    fields = dataclasses.fields(gates.TABLE[name])
    assert {field.name for field in fields} <= SETTINGS.keys()
    assert all(field.default is dataclasses.MISSING for field in fields)
