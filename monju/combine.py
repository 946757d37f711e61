"""Ways to make one answer of the experts' votes without training them again: gates, weights, selections, controls.

A way takes Votes of n sentences (and what it may learn from: see `Known`) and gives fused logits [n, labels]. It knows
nothing of texts or files. A new way is one function here and one line in TABLE; `compare` draws it from there, with the
first line of its docstring.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from monju import fusion, gates
from monju.errors import MonjuError

NO_MIXTURE = "needs a Gaussian mixture: train the run with --clusterer gmm"
NEIGHBOURS = 7  # of the dynamic selections (Ko, Sabourin & Britto 2008)


@dataclass(frozen=True)
class Known:
    """What a way may use beside the votes: the run's settings and centres, and the votes and labels of the sentences
    that were kept aside from training, if there are any."""

    config: object
    centres: np.ndarray
    tuning: tuple | None

    def aside(self):
        """Votes and labels of the sentences kept aside. Raises MonjuError where the run has none."""
        if self.tuning is None:
            raise MonjuError("needs sentences kept aside from training: train the run with --tuning-size 2000")
        return self.tuning


def fuse(votes, alpha, mix=fusion.mix_logits):
    """α [n, experts] → fused logits [n, labels] of the experts."""
    return mix(votes.of(votes.experts), alpha)


def right(votes, labels):
    """Which expert is right on which sentence: [n, experts]."""
    return votes.of(votes.experts).argmax(axis=2) == np.asarray(labels)[:, None]


# ---- gates ------------------------------------------------------------------------------------------------------


def gated(votes, known, mix=None, **settings):
    """The run's gate under these settings."""
    config = replace(known.config, **settings)
    return fuse(votes, gates.make(config)(votes.distances, votes.subsets, votes.posterior), fusion.TABLE[mix or config.fusion])


def posterior(votes, known):
    """The Gaussian mixture's own posterior."""
    if votes.posterior is None:
        raise MonjuError(NO_MIXTURE)
    return gated(votes, known, gate="posterior")


def cbtm(votes, known):
    """c-BTM proper (Gururangan et al. 2023): an expert a cluster, softmax(−d²/T), probabilities mixed."""
    if known.config.subset_size != 1:
        raise MonjuError("needs an expert for each single cluster: train the run with --subset-size 1")
    return gated(votes, known, gate="membership", mix="probabilities")


def running_prior(votes, known):
    """BTM's posterior with a running prior (Li et al. 2022, section 2.3): the mean posterior of the sentences so far."""
    if votes.posterior is None:
        raise MonjuError(NO_MIXTURE)
    k, seen = votes.posterior.shape[1], []
    prior = np.full(k, 1 / k)
    for likelihood in votes.posterior:  # the mixture's own weights are flat enough to stand for a likelihood
        posterior = likelihood * prior
        seen.append(posterior / posterior.sum())
        prior = 0.99 * prior + 0.01 * seen[-1]
    return fuse(votes, gates.share(np.array(seen), votes.subsets))


def parent(votes, known, hidden=0):
    """A mixture of experts' parent gate (Jacobs et al. 1991), linear, from c-BTM's weights; experts frozen."""
    tuning, labels = known.aside()
    q = fit_parent(tuning, labels, known, hidden)
    return fuse(votes, gates.share(q(votes.vectors), votes.subsets), fusion.mix_probabilities)


def fit_parent(tuning, labels, known, hidden=0, steps=300, decay=1e-2):
    """Learn the gate on sentences kept aside by −log Σ α_S p_S(y|x); returns vectors [n, d] → memberships q [n, k].

    It starts where q = softmax(−‖h − c‖²/T), which is linear in h but for a term common to all clusters. With `hidden`,
    a small network adds to the linear part, from zero. `decay` pulls towards the start.
    """
    import torch

    torch.manual_seed(0)
    centres = torch.tensor(known.centres, dtype=torch.float64)
    start = torch.cat([2 * centres.T, -(centres**2).sum(1)[None]]) / known.config.temperature  # (d + 1, k)
    change = torch.zeros_like(start, requires_grad=True)
    parts = [change]
    if hidden:
        into = torch.randn(centres.shape[1], hidden, dtype=torch.float64) / centres.shape[1] ** 0.5
        out = torch.zeros(hidden, len(centres), dtype=torch.float64)
        parts += [into.requires_grad_(), out.requires_grad_()]

    def membership(vectors):
        h = torch.tensor(np.asarray(vectors), dtype=torch.float64)
        energy = torch.cat([h, torch.ones(len(h), 1, dtype=torch.float64)], dim=1) @ (start + change)
        if hidden:
            energy = energy + torch.tanh(h @ parts[1]) @ parts[2]
        return energy.softmax(dim=1)

    # p of the right label, by each expert (n, experts)
    sure = np.take_along_axis(softmax(tuning.of(tuning.experts), axis=2), np.asarray(labels)[:, None, None], axis=2)[..., 0]
    sure, belongs = torch.tensor(sure, dtype=torch.float64), torch.tensor(gates.membership(tuning.subsets, len(centres)))
    optimizer = torch.optim.Adam(parts, lr=0.02)
    for _ in range(steps):
        alpha = membership(tuning.vectors) @ belongs.T / belongs[:, 0].sum()
        loss = -(alpha * sure).sum(1).log().mean() + decay * sum((part**2).sum() for part in (change, *parts[2:])) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return lambda vectors: membership(vectors).detach().numpy()


# ---- one weight for all sentences, and selections ---------------------------------------------------------------


def uniform(votes, known):
    """Equal weights: what a gate is measured against."""
    return fuse(votes, gates.Distance(sharpness=0)(votes.distances, votes.subsets))


def stacked(votes, known):
    """One weight for each expert, on the simplex, fitted to the sentences kept aside (stacking, Wolpert 1992)."""
    tuning, labels = known.aside()
    logits, rows = tuning.of(tuning.experts), np.arange(len(labels))

    def loss(free):
        return -log_softmax(np.einsum("e,nel->nl", softmax(free), logits), axis=1)[rows, labels].mean()

    weights = softmax(minimize(loss, np.zeros(logits.shape[1]), method="BFGS").x)
    return fuse(votes, np.broadcast_to(weights, (len(votes.logits), len(weights))))


def best_single(votes, known):
    """The expert that is right most often on the sentences kept aside, alone."""
    tuning, labels = known.aside()
    return votes.of([tuning.experts[int(right(tuning, labels).mean(axis=0).argmax())]])[:, 0]


def product(votes, known):
    """Product of experts (Hinton 2002): probabilities multiplied, normalised."""
    return log_softmax(log_softmax(votes.of(votes.experts), axis=2).sum(axis=1), axis=1)


def knora_u(votes, known):
    """KNORA-U (Ko et al. 2008): an expert weighs as many as it gets right of the 7 nearest sentences kept aside."""
    return fuse(votes, shares(local(votes, known)), fusion.mix_probabilities)


def ola(votes, known):
    """Overall local accuracy (Woods et al. 1997): the experts best on the 7 nearest sentences kept aside, alone."""
    found = local(votes, known)
    return fuse(votes, shares((found == found.max(axis=1, keepdims=True)).astype(float)), fusion.mix_probabilities)


def local(votes, known):
    """How many of its nearest sentences kept aside each expert gets right: [n, experts]."""
    from sklearn.neighbors import NearestNeighbors

    tuning, labels = known.aside()
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(labels))).fit(tuning.vectors).kneighbors(votes.vectors)[1]
    return right(tuning, labels)[near].sum(axis=1).astype(float)


def shares(counts):
    """Counts [n, experts] → weights that sum to one; equal weights where every count is zero."""
    counts = np.where(counts.sum(axis=1, keepdims=True) > 0, counts, 1.0)
    return counts / counts.sum(axis=1, keepdims=True)


# ---- controls ---------------------------------------------------------------------------------------------------


def permuted(votes, known, seed=0):
    """α of another sentence: what remains of the gate once it no longer knows where a sentence lies."""
    alpha = gates.make(known.config)(votes.distances, votes.subsets, votes.posterior)
    return fuse(votes, np.random.default_rng(seed).permutation(alpha), fusion.TABLE[known.config.fusion])


def oracle(votes, known, labels):
    """The ceiling of every gate: an expert that is right, where there is one; it looks at the answer."""
    logits, hit = votes.of(votes.experts), right(votes, labels)
    return np.where(hit.any(axis=1)[:, None], logits[np.arange(len(labels)), hit.argmax(axis=1)], logits.mean(axis=1))


SHARPNESSES, POWERS = (2.0, 4.0, 8.0), (2.0, 4.0)
TABLE = {
    "monju": ("gate", gated),
    **{f"distance p={p:g}": ("gate", partial(gated, gate="distance", sharpness=p)) for p in SHARPNESSES},
    **{f"membership d^{power:g}": ("gate", partial(gated, gate="membership", power=power)) for power in POWERS},
    "membership top-1": ("gate", partial(gated, gate="membership", top_k=1)),
    "posterior": ("gate", posterior),
    "posterior, running prior": ("gate", running_prior),
    "c-BTM": ("gate", cbtm),
    "MoE linear": ("gate", parent),
    "MoE network": ("gate", partial(parent, hidden=16)),
    "stacking": ("weights", stacked),
    "product of experts": ("weights", product),
    "best single expert": ("selection", best_single),
    "KNORA-U": ("selection", knora_u),
    "OLA": ("selection", ola),
    "uniform": ("control", uniform),
    "α permuted": ("control", permuted),
    "oracle": ("control", oracle),
}
