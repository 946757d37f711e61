"""Merges: the weights of many models → one model, which answers in a single forward pass.

A merge works on plain dictionaries of tensors, `start` (what every expert was before it was fine-tuned) and `experts`
(each after), and gives such a dictionary. Adapters count as what they add to their backbone, exactly. It knows nothing of
texts. A new merge is one function here and one line in TABLE, which says what of a `Merger` it takes.
"""

import torch


def uniform_soup(experts):
    """The mean of the experts' weights (Wortsman et al. 2022, uniform soup)."""
    return {name: torch.stack([expert[name] for expert in experts]).mean(0) for name in experts[0]}


def greedy_soup(experts, score):
    """The best expert, then each other in the order of its score, kept where the mean does not fall (Wortsman et al. 2022,
    recipe 1). `score(weights)` is the accuracy on sentences that no expert has seen."""
    scores = [score(expert) for expert in experts]
    order = sorted(range(len(experts)), key=lambda i: -scores[i])
    kept, best = [experts[order[0]]], scores[order[0]]
    for i in order[1:]:
        reached = score(uniform_soup([*kept, experts[i]]))
        if reached >= best:
            kept, best = [*kept, experts[i]], reached
    return uniform_soup(kept)


def task_arithmetic(start, experts, scale=None):
    """θ₀ + λ Σ τ_i with τ_i = θ_i − θ₀ (Ilharco et al. 2023, eq. 1); at λ = 1 / experts it is the uniform soup.

    λ = `scale`, or 1.5 / experts: θ₀ and 1.5 times the mean τ, however many experts there are. The paper chooses λ on validation
    data; 1.5 is this project's choice (λ = 0.5 for three experts).
    """
    scale = 1.5 / len(experts) if scale is None else scale
    return {name: start[name] + scale * sum(expert[name] - start[name] for expert in experts) for name in start}


def ties(start, experts, density=0.2, scale=1.0):
    """TIES (Yadav et al. 2023): keep each task vector's largest `density`, elect a sign, average what agrees with it."""
    trimmed = [trim(flat(start, expert), density) for expert in experts]
    tau = torch.stack(trimmed)  # (experts, weights)
    sign = tau.sum(0).sign()  # the sign with the larger total mass
    agrees = (tau.sign() == sign) & (tau != 0)
    merged = (tau * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    return unflat(start, scale * merged)


def dare(start, experts, density=0.5, scale=None, seed=0):
    """DARE (Yu et al. 2024): drop each task vector's weights at random, rescale what is left by 1 / density, and add them up,
    each times `scale`: 1 / experts unless given, so that on average it is the uniform soup."""
    scale = 1 / len(experts) if scale is None else scale
    random = torch.Generator().manual_seed(seed)
    merged = 0
    for expert in experts:
        tau = flat(start, expert)
        merged = merged + tau * (torch.rand(tau.shape, generator=random) < density) / density
    return unflat(start, scale * merged)


def fisher(experts, fishers, floor=1e-10):
    """Each weight's mean over experts, weighted by its Fisher information (Matena & Raffel 2022, eq. 3)."""
    merged = {}
    for name in experts[0]:
        weights = torch.stack([known[name] for known in fishers]) + floor  # where nobody knows, all count alike
        merged[name] = (weights * torch.stack([expert[name] for expert in experts])).sum(0) / weights.sum(0)
    return merged


def by_alpha(experts):
    """A function α [experts] → Σ α_i θ_i: one sentence's own model, in views of one long tensor, written into `room` where it
    is given (fresh pages for every sentence's model would take as long as the product)."""
    stacked = torch.stack([torch.cat([weight.flatten() for weight in expert.values()]) for expert in experts])
    return lambda alpha, room=None: views(experts[0], torch.mv(stacked.T, alpha, out=room))


def flat(start, expert):
    """A task vector θ − θ₀ as one long tensor."""
    return torch.cat([(expert[name] - start[name]).flatten() for name in start])


def unflat(start, vector):
    """θ₀ plus a long task vector, as a dictionary."""
    return {name: start[name] + part for name, part in views(start, vector).items()}


def views(like, vector):
    """A long tensor cut into the shapes of a dictionary's."""
    parts = vector.split([weight.numel() for weight in like.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(like.items(), parts)}


def trim(tau, density):
    """The `density` largest entries of a task vector by magnitude; the others zero."""
    keep = max(1, int(density * tau.numel()))
    threshold = tau.abs().kthvalue(tau.numel() - keep + 1).values
    return torch.where(tau.abs() >= threshold, tau, 0.0)


TABLE = {
    "uniform soup": lambda run: uniform_soup(run.weights[1]),
    "greedy soup": lambda run: greedy_soup(run.weights[1], run.score),
    "Fisher": lambda run: fisher(run.weights[1], run.fishers),
    "task arithmetic": lambda run: task_arithmetic(*run.weights),
    "TIES": lambda run: ties(*run.weights),
    "DARE": lambda run: dare(*run.weights),
}
