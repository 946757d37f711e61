"""Ways to weigh the experts' votes without training them again: gates, learned weights, selections, controls.

A way gives α [n, experts] for Votes of n sentences, and may learn from what is `Known` beside them; it knows nothing of
texts or files. A new way is one function here and one line in TABLE; every gate of `gates.TABLE` is a way, too. `compare`
and the page's choices draw them from here, with the first line of the docstring.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from monju.ensemble import fusion, gates, subsets
from monju.errors import MonjuError
from monju.evaluation import metrics
from monju.runs.prediction_store import load_predictions

NEIGHBOURS = 7  # of the dynamic selections (Ko, Sabourin & Britto 2008)
LACKS = {  # what a way may need → what to do where a run lacks it
    "tuning": "needs sentences kept aside from training: train the run with --tuning-size 2000",
    "mixture": "needs a Gaussian mixture: train the run with --clusterer gmm",
    "singles": "needs an expert for each single cluster: train the run with --subset-size 1",
    "vectors": "needs the sentences' vectors, which were not stored with this run's predictions",
    "labels": "looks at the answers",
}


@dataclass(frozen=True)
class FitContext:
    """What a way may use beside the votes: the run's settings and centres, the votes and labels of the sentences that were
    kept aside from training, if there are any, and, for the oracle alone, the labels of the sentences asked about."""

    config: object
    centres: np.ndarray
    tuning: tuple | None = None
    labels: np.ndarray | None = None
    learned: dict = field(default_factory=dict)

    def once(self, key, learn):
        """What `learn()` gives, learned once."""
        if key not in self.learned:
            self.learned[key] = learn()
        return self.learned[key]


def fit_context(monju):
    """What a loaded run knows. Raises MonjuError where its stored predictions are damaged."""
    tuning = load_predictions(monju.run, "tuning") if monju.run.manifest["data"].get("tuning") else None
    return FitContext(monju.config, monju.clustering.clusterer.centres_, tuning)


@dataclass(frozen=True)
class Combiner:
    """One way: α(votes, known) → [n, experts], how the experts are mixed where that is part of it, and what it needs.

    `gate`: config → the gate of `gates.TABLE` that gives α, where one does.
    """

    kind: str
    alpha: Callable
    mix: Callable | None = None
    needs: tuple[str, ...] = ()
    gate: Callable | None = None

    def lack(self, votes, known):
        """Why a run cannot be asked this way, or None."""
        there = {"tuning": known.tuning, "mixture": votes.posterior, "vectors": votes.vectors, "labels": known.labels,
                 "singles": True if known.config.subset_size == 1 else None}
        return next((LACKS[need] for need in self.needs if there[need] is None), None)

    def decide(self, votes, known):
        """Predictions of the sentences. Raises MonjuError where the run lacks what the way needs."""
        if why := self.lack(votes, known):
            raise MonjuError(f"this way to decide {why}")
        alpha = self.alpha(votes, known)
        return votes.decide(lambda *_: alpha, self.mix or fusion.TABLE[known.config.fusion])


def right(votes, labels):
    """Which expert is right on which sentence: [n, experts]."""
    return votes.of(votes.experts).argmax(axis=2) == np.asarray(labels)[:, None]


# ---- gates ------------------------------------------------------------------------------------------------------


def gated(votes, known, gate=gates.make):
    """α of a gate, config → gate: the run's own unless another is given."""
    return gate(known.config)(votes.distances, votes.subsets, votes.posterior)


def named(name, **settings):
    """The gate of that name, config → gate: at its own settings but for these, whatever the run's are. The temperature alone
    is the run's, since it goes with the scale of the run's vectors."""
    gate = gates.TABLE[name]
    of_run = {"temperature"} & gate.__dataclass_fields__.keys()
    return lambda config: gate(**settings, **{field: getattr(config, field) for field in of_run})


def through(gate, mix=None, needs=()):
    """The Way of a gate, config → gate."""
    return Combiner("gate", partial(gated, gate=gate), mix, needs, gate)


def running_prior(votes, known):
    """BTM's posterior with a running prior (Li et al. 2022, section 2.3): the mean posterior of the sentences so far."""
    k, seen = votes.posterior.shape[1], []
    prior = np.full(k, 1 / k)
    for likelihood in votes.posterior:  # the mixture's own weights are flat enough to stand for a likelihood
        posterior = likelihood * prior
        seen.append(posterior / posterior.sum())
        prior = 0.99 * prior + 0.01 * seen[-1]
    return gates.share(np.array(seen), votes.subsets)


def parent(votes, known, hidden=0):
    """A mixture of experts' parent gate (Jacobs et al. 1991), linear, from c-BTM's weights; experts frozen."""
    q = known.once(("parent", hidden, known.config.temperature), lambda: fit_parent(*known.tuning, known, hidden))
    return gates.share(q(votes.vectors), votes.subsets)


def fit_parent(tuning, labels, known, hidden=0, steps=300, decay=1e-2):
    """Learn the gate on sentences kept aside by −log Σ α_S p_S(y|x); returns vectors [n, d] → memberships q [n, k].

    It starts where q = softmax(−‖h − c‖²/T), which is linear in h but for a term common to all clusters. With `hidden`,
    a small network adds to the linear part, from zero. `decay` pulls towards the start.
    """
    import torch

    random = torch.Generator().manual_seed(0)  # its own: several gates may be learned at the same moment
    centres = torch.tensor(known.centres, dtype=torch.float64)
    start = torch.cat([2 * centres.T, -(centres**2).sum(1)[None]]) / known.config.temperature  # (d + 1, k)
    change = torch.zeros_like(start, requires_grad=True)
    parts = [change]
    if hidden:
        into = torch.randn(centres.shape[1], hidden, dtype=torch.float64, generator=random) / centres.shape[1] ** 0.5
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
    sure, belongs = torch.tensor(sure, dtype=torch.float64), torch.tensor(subsets.membership(tuning.subsets, len(centres)))
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
    return np.full((len(votes.logits), len(votes.experts)), 1 / len(votes.experts))


def stacked(votes, known):
    """One weight for each expert, on the simplex, fitted to the sentences kept aside (stacking, Wolpert 1992)."""
    name = known.config.fusion
    weights = known.once(("stacked", name), lambda: fit_weights(*known.tuning, fusion.TABLE[name]))
    return np.broadcast_to(weights, (len(votes.logits), len(weights)))


def fit_weights(tuning, labels, mix):
    """The weights [experts] on the simplex under which the experts, mixed in this way, give the labels the least −log p."""
    logits, rows = tuning.of(tuning.experts), np.arange(len(labels))

    def loss(free):
        mixed = mix(logits, np.broadcast_to(softmax(free), logits.shape[:2]))
        return -log_softmax(mixed, axis=1)[rows, labels].mean()

    return softmax(minimize(loss, np.zeros(logits.shape[1]), method="BFGS").x)


def best_single(votes, known):
    """The expert that is right most often on the sentences kept aside, alone."""
    best = right(*known.tuning).mean(axis=0).argmax()
    return np.broadcast_to(np.eye(len(votes.experts))[best], (len(votes.logits), len(votes.experts)))


def knora_u(votes, known):
    """KNORA-U (Ko et al. 2008): an expert weighs as many as it gets right of the 7 nearest sentences kept aside."""
    return shares(local(votes, known))


def ola(votes, known):
    """Overall local accuracy (Woods et al. 1997): the experts best on the 7 nearest sentences kept aside, alone."""
    found = local(votes, known)
    return shares((found == found.max(axis=1, keepdims=True)).astype(float))


def local(votes, known):
    """How many of its nearest sentences kept aside each expert gets right: [n, experts]."""
    from sklearn.neighbors import NearestNeighbors

    tuning, labels = known.tuning
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(labels))).fit(tuning.vectors).kneighbors(votes.vectors)[1]
    return right(tuning, labels)[near].sum(axis=1).astype(float)


def shares(counts):
    """Counts [n, experts] → weights that sum to one; equal weights where every count is zero."""
    counts = np.where(counts.sum(axis=1, keepdims=True) > 0, counts, 1.0)
    return counts / counts.sum(axis=1, keepdims=True)


# ---- controls ---------------------------------------------------------------------------------------------------


def permuted(votes, known, seed=0):
    """α of another sentence: what remains of the gate once it no longer knows where a sentence lies."""
    return np.random.default_rng(seed).permutation(gated(votes, known))


def oracle(votes, known):
    """The ceiling of every gate: the experts that are right, where there are any; it looks at the answer."""
    return shares(right(votes, known.labels).astype(float))


LEARNED = ("tuning", "vectors")
TABLE = {
    # c-BTM proper (Gururangan et al. 2023): an expert a cluster, softmax(−d²/T), probabilities mixed
    "c-BTM": through(named("membership"), fusion.mix_probabilities, ("singles",)),
    "posterior, running prior": Combiner("gate", running_prior, None, ("mixture",)),
    "MoE linear": Combiner("gate", parent, fusion.mix_probabilities, LEARNED),
    "MoE network": Combiner("gate", partial(parent, hidden=16), fusion.mix_probabilities, LEARNED),
    "stacking": Combiner("weights", stacked, None, ("tuning",)),
    "product of experts": Combiner("weights", uniform, fusion.mix_product),
    "best single expert": Combiner("selection", best_single, None, ("tuning",)),
    "KNORA-U": Combiner("selection", knora_u, fusion.mix_probabilities, LEARNED),
    "OLA": Combiner("selection", ola, fusion.mix_probabilities, LEARNED),
    "uniform": Combiner("control", uniform),
    "α permuted": Combiner("control", permuted),
    "oracle": Combiner("control", oracle, None, ("labels",)),
}
GATE_VARIANTS = {  # the same gates, turned: what the playground has sliders for
    **{f"distance p={p:g}": ("distance", {"sharpness": p}) for p in (2.0, 4.0, 8.0)},
    "membership d^4": ("membership", {"power": 4.0}),
    "membership top-1": ("membership", {"top_k": 1}),
}


def all_combiners():
    """All ways by name: the run's own gate first, each gate of `gates.TABLE` at its own settings, the gates turned, and TABLE."""
    offered = {name: through(named(name), needs=("mixture",) if name == "posterior" else ()) for name in gates.TABLE}
    turned = {name: through(named(gate, **settings)) for name, (gate, settings) in GATE_VARIANTS.items()}
    return {"monju": through(gates.make), **offered, **turned, **TABLE}


# ---- a run under one of these -----------------------------------------------------------------------------------


def view(reader, gate=None, **settings):
    """The run under another gate and fusion; `gate` may also be a name of TABLE.

    Raises MonjuError for what cannot be.
    """
    if not isinstance(gate, str) or gate in gates.TABLE or gate not in TABLE:
        return reader.under(**settings, **({} if gate is None else {"gate": gate}))
    if own := next((name for name, mix in fusion.TABLE.items() if mix is TABLE[gate].mix), None):
        settings["fusion"] = own
    config = reader.under(**settings).config
    return reader.under((gate, lambda outputs: reader.call("monju.evaluation.combiners:decide_by", gate, config, outputs)), **settings)


def decide_by(monju, name, config, outputs):
    """Predictions by a combiner of TABLE under these settings; called where the models are, since some learn with torch."""
    return TABLE[name].decide(outputs, replace(monju.memo("fit context", lambda: fit_context(monju)), config=config))


def held_out_alpha(reader, **settings):
    """α [n, experts] of the stored held-out sentences under these settings, or None where none are stored."""
    try:
        return reader.memo(("alpha", *sorted(settings.items())),
                           lambda: view(reader, **settings).decide(reader.held_out()[0]).alpha)
    except MonjuError:
        return None


def effect(reader, **settings):
    """What these settings change against the run's own on the stored held-out sentences.

    {"n", "before", "after" (accuracies), "own" (whether nothing is changed), and what `metrics.compare_pair` says}. Raises
    MonjuError where none are stored, and for settings that cannot be.
    """
    (outputs, labels), turned = reader.held_out(), view(reader, **settings)
    before, after = (one.decide(outputs).monju.argmax(axis=1) for one in (reader, turned))
    return {"n": len(labels), "before": float((before == labels).mean()), "after": float((after == labels).mean()),
            "own": turned.combiner is None and turned.config == reader.config, **metrics.compare_pair(after, before, labels)}


def offered(reader):
    """Names by which this run can be decided: gates, and combiners that it can learn; no controls."""
    return reader.memo("offered", lambda: _offered(reader))


def _offered(reader):
    context, outputs = reader.memo("fit context", lambda: fit_context(reader)), reader.outputs(["ready"])
    return [name for name, combiner in all_combiners().items() if not combiner.lack(outputs, context)
            and (name in gates.TABLE or name in TABLE and combiner.kind != "control")]
