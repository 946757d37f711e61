"""Merge methods: the weights of several models → one model, which answers in a single forward pass.

A merge takes dictionaries of tensors, `start` (every expert before fine-tuning) and `experts` (each after),
and returns such a dictionary. Knows nothing of texts. A new merge is one function here and one line in TABLE,
which says what of a `MergeRunner` it takes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def uniform_soup(experts: Sequence[Weights]) -> Weights:
    """Return the mean of the experts' weights (uniform soup, Wortsman et al. 2022)."""
    return {name: torch.stack([expert[name] for expert in experts]).mean(0) for name in experts[0]}


def greedy_soup(experts: Sequence[Weights], score: Callable[[Weights], float]) -> Weights:
    """Return the mean of the best expert and all that do not lower its score (greedy soup).

    `score(weights)` is the accuracy on sentences that no expert has seen; experts are tried in its order
    (Wortsman et al. 2022, recipe 1).
    """
    scores = [score(expert) for expert in experts]
    order = sorted(range(len(experts)), key=lambda i: -scores[i])
    kept, best = [experts[order[0]]], scores[order[0]]
    for i in order[1:]:
        reached = score(uniform_soup([*kept, experts[i]]))
        if reached >= best:
            kept, best = [*kept, experts[i]], reached
    return uniform_soup(kept)


def task_arithmetic(start: Weights, experts: Sequence[Weights], scale: float | None = None) -> Weights:
    """Return θ₀ + λ Σ τ_i with τ_i = θ_i − θ₀ (Ilharco et al. 2023, eq. 1).

    λ = `scale`, by default 1.5 / experts. The paper chooses λ on validation data; 1.5 is this project's
    choice (λ = 0.5 for three experts). At λ = 1 / experts it is the uniform soup.
    """
    scale = 1.5 / len(experts) if scale is None else scale
    return {name: weight + scale * sum(expert[name] - weight for expert in experts)
            for name, weight in start.items()}


def ties(start: Weights, experts: Sequence[Weights], density: float = 0.2, scale: float = 1.0) -> Weights:
    """Return the TIES merge (Yadav et al. 2023).

    Trim each task vector to its largest `density`, elect each weight's sign, average what agrees with it.
    """
    trimmed = [trim(flat(start, expert), density) for expert in experts]
    tau = torch.stack(trimmed)  # (experts, weights)
    sign = tau.sum(0).sign()  # the sign with the larger total mass
    agrees = (tau.sign() == sign) & (tau != 0)
    merged = (tau * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    return unflat(start, scale * merged)


def dare(start: Weights, experts: Sequence[Weights], density: float = 0.5, scale: float | None = None,
         seed: int = 0) -> Weights:
    """Return the DARE merge (Yu et al. 2024).

    Drop each task vector's weights at random, rescale the rest by 1 / `density`, add them up, each times
    `scale`: by default 1 / experts, so that in expectation it is the uniform soup.
    """
    scale = 1 / len(experts) if scale is None else scale
    generator = torch.Generator().manual_seed(seed)
    merged = torch.zeros(())
    for expert in experts:
        tau = flat(start, expert)
        merged = merged + tau * (torch.rand(tau.shape, generator=generator) < density) / density
    return unflat(start, scale * merged)


def fisher(experts: Sequence[Weights], fishers: Sequence[Weights], floor: float = 1e-10) -> Weights:
    """Return each weight's mean over experts by Fisher information (Matena & Raffel 2022, eq. 3)."""
    merged = {}
    for name in experts[0]:
        # equal where all are zero
        weights = torch.stack([information[name] for information in fishers]) + floor
        merged[name] = (weights * torch.stack([expert[name] for expert in experts])).sum(0) / weights.sum(0)
    return merged


def by_alpha(experts: Sequence[Weights]) -> Callable[..., Weights]:
    """Return a function (α [experts], room=None) → Σ α_i θ_i: one sentence's own model.

    It is made of views of one tensor, `room` if given: to allocate memory for every sentence would take as
    long as the product.
    """
    stacked = torch.stack([torch.cat([weight.flatten() for weight in expert.values()]) for expert in experts])
    return lambda alpha, room=None: views(experts[0], torch.mv(stacked.T, alpha, out=room))


def flat(start: Weights, expert: Weights) -> Tensor:
    """Return a task vector θ − θ₀ as one long tensor."""
    return torch.cat([(expert[name] - start[name]).flatten() for name in start])


def unflat(start: Weights, vector: Tensor) -> Weights:
    """Return θ₀ plus a long task vector."""
    return {name: start[name] + part for name, part in views(start, vector).items()}


def views(like: Weights, vector: Tensor) -> Weights:
    """Return a long tensor as views in the shapes of `like`."""
    parts = vector.split([weight.numel() for weight in like.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(like.items(), parts)}


def trim(tau: Tensor, density: float) -> Tensor:
    """Return the `density` largest entries of a task vector by magnitude; the others zero."""
    keep = max(1, int(density * tau.numel()))
    threshold = tau.abs().kthvalue(tau.numel() - keep + 1).values
    return torch.where(tau.abs() >= threshold, tau, 0.0)


TABLE: dict[str, Callable[[Any], Weights]] = {
    "uniform soup": lambda run: uniform_soup(run.weights[1]),
    "greedy soup": lambda run: greedy_soup(run.weights[1], run.score),
    "Fisher": lambda run: fisher(run.weights[1], run.fishers),
    "task arithmetic": lambda run: task_arithmetic(*run.weights),
    "TIES": lambda run: ties(*run.weights),
    "DARE": lambda run: dare(*run.weights),
}
