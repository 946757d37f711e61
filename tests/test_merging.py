"""Merges of weights, against cases worked out by hand."""

import torch

from monju import merging

START = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([[0.0]])}
ONE = {"a": torch.tensor([2.0, 1.0]), "b": torch.tensor([[3.0]])}
TWO = {"a": torch.tensor([0.0, 4.0]), "b": torch.tensor([[1.0]])}


def numbers(merged):
    return [round(float(value), 6) for value in merged["a"]] + [round(float(merged["b"]), 6)]


def test_a_uniform_soup_is_the_mean():
    assert numbers(merging.uniform_soup(START, [ONE, TWO])) == [1.0, 2.5, 2.0]


def test_task_arithmetic_adds_what_was_learned():
    # τ: [1, 0, 3] and [−1, 3, 1]
    assert numbers(merging.task_arithmetic(START, [ONE, TWO], scale=0.5)) == [1.0, 2.5, 2.0]
    assert numbers(merging.task_arithmetic(START, [ONE, TWO], scale=1.0)) == [1.0, 4.0, 4.0]


def test_ties_trims_elects_and_averages_what_agrees():
    # density 2/3 keeps [1, 0, 3] and, of [−1, 3, 1] with its tie of ones, all: sums 0, 3, 4; signs 0, +, +
    # agreeing: none, {3}, {3, 1} → 0, 3, 2
    assert numbers(merging.ties(START, [ONE, TWO], density=0.67)) == [1.0, 4.0, 2.0]
    # density 1/3 keeps [0, 0, 3] and [0, 3, 0]
    assert numbers(merging.ties(START, [ONE, TWO], density=0.34)) == [1.0, 4.0, 3.0]


def test_trimming_keeps_the_largest():
    assert merging.trim(torch.tensor([0.1, -5.0, 2.0, 0.0]), 0.5).tolist() == [0.0, -5.0, 2.0, 0.0]


def test_dare_drops_and_rescales_and_is_right_on_average():
    start = {"a": torch.zeros(20_000)}
    expert = {"a": torch.ones(20_000)}
    merged = merging.dare(start, [expert], density=0.25, scale=1.0)["a"]
    assert set(merged.tolist()) == {0.0, 4.0} and abs(float(merged.mean()) - 1) < 0.1
    assert torch.equal(merged, merging.dare(start, [expert], density=0.25, scale=1.0)["a"])
    assert torch.equal(merging.dare(start, [expert], density=1.0, scale=1.0)["a"], expert["a"])


def test_fisher_weighs_each_weight_by_who_knows_it():
    fishers = [{"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[0.0]])}, {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([[2.0]])}]
    # a₀: (3 · 2 + 1 · 0) / 4, a₁: nobody knows: the mean, b: the second alone
    assert numbers(merging.fisher(START, [ONE, TWO], fishers)) == [1.5, 2.5, 1.0]


def test_a_sentences_own_model_follows_alpha():
    assert numbers(merging.by_alpha([ONE, TWO], [1.0, 0.0])) == numbers(ONE)
    assert numbers(merging.by_alpha([ONE, TWO], [0.5, 0.5])) == numbers(merging.uniform_soup(START, [ONE, TWO]))
