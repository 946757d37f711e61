"""Merges of weights, against cases worked out by hand."""

import pytest
import torch

from monju.evaluation import merge_methods, merge_runner

START = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([[0.0]])}
ONE = {"a": torch.tensor([2.0, 1.0]), "b": torch.tensor([[3.0]])}
TWO = {"a": torch.tensor([0.0, 4.0]), "b": torch.tensor([[1.0]])}


def numbers(merged):
    return [round(float(value), 6) for value in merged["a"]] + [round(float(merged["b"]), 6)]


def test_a_uniform_soup_is_the_mean():
    assert numbers(merge_methods.uniform_soup([ONE, TWO])) == [1.0, 2.5, 2.0]


def test_task_arithmetic_adds_what_was_learned():
    # τ: [1, 0, 3] and [−1, 3, 1]
    assert numbers(merge_methods.task_arithmetic(START, [ONE, TWO], scale=0.5)) == [1.0, 2.5, 2.0]
    assert numbers(merge_methods.task_arithmetic(START, [ONE, TWO], scale=1.0)) == [1.0, 4.0, 4.0]


@pytest.mark.parametrize("experts", [2, 3, 6])
def test_task_arithmetic_adds_one_and_a_half_times_the_mean_task_vector(experts):
    # τ of the i-th expert: i, so that the mean is 0.5, 1, 2.5 for two, three, six
    merged = merge_methods.task_arithmetic({"a": torch.tensor([10.0])}, [{"a": torch.tensor([10.0 + i])} for i in range(experts)])
    assert merged["a"].item() == pytest.approx(10 + 1.5 * {2: 0.5, 3: 1.0, 6: 2.5}[experts])


@pytest.mark.parametrize("experts", [2, 3, 6])
def test_dare_is_the_uniform_soup_on_average(experts):
    start = {"a": torch.full((50_000,), 10.0)}
    merged = merge_methods.dare(start, [{"a": start["a"] + 1 + i} for i in range(experts)])["a"]  # τ: 1, 2, …; nothing dropped: the mean
    assert merged.mean().item() == pytest.approx(10 + {2: 1.5, 3: 2.0, 6: 3.5}[experts], abs=0.03)
    # density 1/2: what is kept counts twice, an expert's share is 1 / experts
    most = 2 * {2: 1.5, 3: 2.0, 6: 3.5}[experts]
    assert merged.min().item() == 10.0 and merged.max().item() == pytest.approx(10 + most, abs=1e-5)


def test_ties_trims_elects_and_averages_what_agrees():
    # density 2/3 keeps [1, 0, 3] and, of [−1, 3, 1] with its tie of ones, all: sums 0, 3, 4; signs 0, +, +
    # agreeing: none, {3}, {3, 1} → 0, 3, 2
    assert numbers(merge_methods.ties(START, [ONE, TWO], density=0.67)) == [1.0, 4.0, 2.0]
    # density 1/3 keeps [0, 0, 3] and [0, 3, 0]
    assert numbers(merge_methods.ties(START, [ONE, TWO], density=0.34)) == [1.0, 4.0, 3.0]


def test_trimming_keeps_the_largest():
    assert merge_methods.trim(torch.tensor([0.1, -5.0, 2.0, 0.0]), 0.5).tolist() == [0.0, -5.0, 2.0, 0.0]


def test_dare_drops_and_rescales_and_is_right_on_average():
    start = {"a": torch.zeros(20_000)}
    expert = {"a": torch.ones(20_000)}
    merged = merge_methods.dare(start, [expert], density=0.25, scale=1.0)["a"]
    assert set(merged.tolist()) == {0.0, 4.0} and abs(float(merged.mean()) - 1) < 0.1
    assert torch.equal(merged, merge_methods.dare(start, [expert], density=0.25, scale=1.0)["a"])
    assert torch.equal(merge_methods.dare(start, [expert], density=1.0, scale=1.0)["a"], expert["a"])


def test_fisher_weighs_each_weight_by_who_knows_it():
    fishers = [{"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[0.0]])}, {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([[2.0]])}]
    # a₀: (3 · 2 + 1 · 0) / 4, a₁: nobody knows: the mean, b: the second alone
    assert numbers(merge_methods.fisher([ONE, TWO], fishers)) == [1.5, 2.5, 1.0]


def test_a_sentences_own_model_follows_alpha():
    own = merge_methods.by_alpha([ONE, TWO])
    assert numbers(own(torch.tensor([1.0, 0.0]))) == numbers(ONE)
    assert numbers(own(torch.tensor([0.5, 0.5]))) == numbers(merge_methods.uniform_soup([ONE, TWO]))


def test_a_greedy_soup_keeps_what_does_not_hurt():
    three = {"a": torch.tensor([9.0, 9.0]), "b": torch.tensor([[9.0]])}

    def score(weights):  # TWO is the best alone, the mean of ONE and TWO better, THREE spoils it
        return {(0.0, 4.0, 1.0): 0.8, (2.0, 1.0, 3.0): 0.7, (9.0, 9.0, 9.0): 0.75, (1.0, 2.5, 2.0): 0.9}.get(tuple(numbers(weights)), 0.1)

    assert numbers(merge_methods.greedy_soup([ONE, TWO, three], score)) == [1.0, 2.5, 2.0]


def test_ties_and_task_arithmetic_agree_with_pefts():
    from peft.utils import merge_utils

    random = torch.Generator().manual_seed(0)
    start = {"a": torch.randn(40, generator=random), "b": torch.randn(5, 8, generator=random)}
    experts = [{name: weight + torch.randn(weight.shape, generator=random) for name, weight in start.items()} for _ in range(3)]
    tasks, ones = [merge_methods.flat(start, expert) for expert in experts], torch.ones(3)
    ours = merge_methods.flat(start, merge_methods.ties(start, experts, density=0.5))
    torch.testing.assert_close(ours, merge_utils.ties(tasks, ones, density=0.5))
    ours = merge_methods.flat(start, merge_methods.task_arithmetic(start, experts, scale=0.5))
    torch.testing.assert_close(ours, merge_utils.task_arithmetic(tasks, 0.5 * ones))


def test_dare_keeps_as_much_as_pefts_and_the_same_size():
    from peft.utils import merge_utils

    tau = torch.ones(50_000)
    torch.manual_seed(0)
    theirs = merge_utils.dare_linear([tau], torch.ones(1), density=0.3)
    ours = merge_methods.dare({"a": torch.zeros(50_000)}, [{"a": tau}], density=0.3, scale=1.0)["a"]
    assert set(ours.unique().tolist()) == set(theirs.unique().tolist())
    assert abs(float((ours > 0).float().mean() - (theirs > 0).float().mean())) < 0.02


def test_work_side_by_side_ends_with_whoever_waits_for_it():
    def work(number, over):
        if number == 0:
            raise KeyboardInterrupt
        assert over.wait(10)

    with pytest.raises(KeyboardInterrupt):
        merge_runner.in_pairs(work, [0, 1])
