"""Out of fold: temperatures and a gate from the clusters that an expert never saw, against cases worked out by hand."""

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
from test_combiners import CENTRES, NEGATIVE, POSITIVE, fused, votes

from monju.config import Config
from monju.ensemble.outputs import ModelOutputs
from monju.errors import MonjuError
from monju.evaluation import combiners
from monju.evaluation.combiners import FitContext
from monju.evaluation.out_of_fold import Folds, Temperatures, fit_one, fit_temperatures, outside

PAIRS = [(0, 1), (1, 2), (2, 0)]


def test_how_far_outside_by_hand():
    # AB on (6, 4, 2): 4 to its nearer cluster and 2 to C, (4 − 2) / 6; BC saw C, which is nearest; CA likewise
    # on two centres at once nobody is outside
    found = outside(np.array([[6.0, 4, 2], [0, 0, 5], [0, 0, 0], [1, 1, 1]]), PAIRS)
    assert found == pytest.approx(np.array([[1 / 3, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]))
    # with one cluster each, only C's expert is inside; A's: (6 − 2) / 8
    assert outside(np.array([[6.0, 4, 2]]), [(0,), (1,), (2,)]) == pytest.approx(np.array([[1 / 2, 1 / 3, 0]]))


def test_one_temperature_by_hand():
    """Right 3 times in 4 with a margin of 2 for the label said: 1 / (1 + exp(−2 / T)) = 3/4 at T = 2 / log 3."""
    logits, labels = np.tile([0.0, 2.0], (4, 1)), np.array([1, 1, 1, 0])
    a, b, _ = fit_one(logits, labels, np.zeros(4))
    assert (exp(a), b) == pytest.approx((2 / log(3), 0), abs=1e-3)


def test_a_temperature_that_grows_outside_by_hand():
    """At the border as above; at s = 0.2 the margin is 8 for the same share of right answers: T = 8 / log 3, four times as high."""
    logits, labels = np.repeat([[0.0, 2.0], [0.0, 8.0]], 4, axis=0), np.array([1, 1, 1, 0] * 2)
    s = np.repeat([0.0, 0.2], 4)
    a, b, reach = fit_one(logits, labels, s)
    assert (exp(a), exp(b), reach) == pytest.approx((2 / log(3), 4, 0.2), rel=2e-3)
    # never less outside than at the border: of the two groups the other way round, one temperature is the best
    _, b, _ = fit_one(logits[::-1], labels[::-1], s)
    assert b == 0


def test_temperatures_of_new_sentences_by_hand():
    temperatures = Temperatures(np.log([2.0, 1.0, 3.0]), np.array([log(4), 0, 0]), np.array([0.5, 1, 1]))
    # s of AB: 0, (3 − 1) / 4 = 0.5 = all its reach, 1/4 = half of it, and beyond
    asked = votes([[POSITIVE] * 3] * 4, [[1, 2, 5], [3, 5, 1], [5, 6, 3], [9, 9, 1]])
    assert temperatures(asked) == pytest.approx(np.array([[2, 1, 3], [8, 1, 3], [2 * 4**0.5, 1, 3], [8, 1, 3]]))


def training(n=400, seed=0, a=0.5, b=1.2):
    """Training sentences around the three clusters: out of its fold an expert is too sure by exp(a + b s / reach), in it perfect."""
    random = np.random.default_rng(seed)
    distances, clusters = random.uniform(1, 2, (n, 3)), random.integers(0, 3, n)
    distances[np.arange(n), clusters] -= random.uniform(0.3, 0.9, n)
    honest = random.normal(scale=2, size=(n, 3, 2))
    honest[:, :, 0] = 0
    p = 1 / (1 + np.exp(-honest[np.arange(n), (clusters + 1) % 3, 1]))  # of the one expert that has not seen it: BC, CA, AB
    labels = (random.random(n) < p).astype(int)
    s = outside(distances, PAIRS)
    logits = honest * np.exp(a + b * s / s.max(axis=0))[:, :, None]
    seen = np.array([[c in subset for subset in PAIRS] for c in clusters])
    logits[seen] = 20 * np.eye(2)[labels][:, None].repeat(3, axis=1)[seen]
    return Folds(votes(logits, distances), labels, clusters)


def test_temperatures_are_found_again():
    found = fit_temperatures(training(40_000))
    assert found.a == pytest.approx(np.full(3, 0.5), abs=0.08) and found.b == pytest.approx(np.full(3, 1.2), abs=0.2)


def test_which_expert_is_new_to_what_and_only_those_count():
    folds = training()
    assert folds.unseen[folds.clusters == 0].tolist()[0] == [False, True, False]  # BC has not seen A
    assert folds.unseen[folds.clusters == 2].tolist()[0] == [True, False, False] and (folds.unseen.sum(axis=1) == 1).all()
    other = folds.outputs.logits.copy()
    other[~folds.unseen] = -other[~folds.unseen]  # what an expert says of its own training sentences
    before, after = fit_temperatures(folds), fit_temperatures(replace(folds, outputs=replace(folds.outputs, logits=other)))
    assert before.a.tolist() == after.a.tolist() and before.b.tolist() == after.b.tolist()


def test_a_cluster_without_sentences_changes_nothing():
    folds = training()
    rows = folds.clusters != 1  # CA is out of fold on B alone
    some = replace(folds.outputs, logits=folds.outputs.logits[rows], distances=folds.outputs.distances[rows])
    found = fit_temperatures(Folds(some, folds.labels[rows], folds.clusters[rows]))
    assert (found.a[2], found.b[2], found.reach[2]) == (0, 0, 1) and found.a[0] > 0


def test_calibrated_logits_are_mixed_by_hand(monkeypatch):
    temperatures = Temperatures(np.log([2.0, 1.0, 4.0]), np.zeros(3), np.ones(3))
    monkeypatch.setattr(combiners, "fit_temperatures", lambda folds: temperatures)
    asked = votes([[[0, 2], [3, 0], [0, 8]]], [[1.0, 2, 5]])
    context = FitContext(Config(), CENTRES, folds=training(50))
    # (0, 1), (3, 0), (0, 2): their mean; and by α = 5/8, 1/8, 2/8
    assert fused("calibrated, equal weights", asked, context) == pytest.approx(np.array([[1, 1]]))
    found = combiners.TABLE["calibrated, gate"].decide(asked, context)
    assert found.monju == pytest.approx(np.array([[3 / 8, 5 / 8 + 4 / 8]]))
    assert found.logits.tolist() == asked.logits.tolist() and found.uniform == pytest.approx(np.array([[1, 10 / 3]]))


def single(logits, vectors):
    """Votes of one expert per cluster."""
    return ModelOutputs(["A", "B", "C"], [(0,), (1,), (2,)], ["A", "B", "C"], [], [], np.array(vectors, float),
                        np.ones((len(logits), 3)), None, np.array(logits, float))


def test_a_gate_compares_only_experts_to_whom_a_sentence_is_new():
    """On A's sentences B is right and C is wrong; A's own expert, which learned them, says anything."""
    near_a = np.tile([1.0, 0, 0], (40, 1)) + np.random.default_rng(0).normal(scale=0.1, size=(40, 3))
    labels, gates = np.ones(40, int), []
    for own in (POSITIVE, NEGATIVE):
        context = FitContext(Config(subset_size=1, temperature=1), CENTRES,
                             folds=Folds(single([[own, POSITIVE, NEGATIVE]] * 40, near_a), labels, np.zeros(40, int)))
        gates.append(combiners.parent(single([[POSITIVE] * 3], [[1.0, 0, 0]]), context, out_of_fold=True)[0])
    assert gates[0].tolist() == gates[1].tolist()
    assert gates[0][1] > 3 * gates[0][2]  # c-BTM's weights, from which it starts, are equal for B and C there


@pytest.mark.parametrize("name, size, why", [("calibrated, gate", 2, "python -m monju map"), ("MoE out of fold", 2, "--subset-size 1"),
                                             ("MoE out of fold", 1, "python -m monju map")])
def test_what_is_not_there_is_named(name, size, why):
    with pytest.raises(MonjuError, match=why):
        fused(name, votes([[POSITIVE] * 3]), FitContext(Config(subset_size=size), CENTRES))
