"""Combiners: ways to weigh trained experts (gates, learned weights, selections, controls), and their table.

A combiner gives α [n, experts] for the `ModelOutputs` of n sentences, and may learn from a `FitContext`.
Knows nothing of texts. A new combiner is one function here and one line in TABLE; every gate is one, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import comb
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax, softmax

from monju.config import SETTINGS, Config, group
from monju.ensemble import fusion, gates, subsets
from monju.ensemble.outputs import ModelOutputs, Predictions
from monju.errors import MonjuError
from monju.evaluation import metrics, out_of_scope
from monju.evaluation.cluster_map import ClusterMap
from monju.evaluation.out_of_fold import Folds, fit_temperatures
from monju.evaluation.selections import best_single, knora_u, ola, right, shares
from monju.runs.prediction_store import load_predictions

if TYPE_CHECKING:
    from monju.inference.reader import SentenceReader

GateMaker = Callable[[Any], gates.Gate]  # config → gate
LACKS = {  # what a combiner may need → what to do where a run lacks it
    "tuning": "needs a tuning split: train the run with --tuning-size 2000",
    "mixture": "needs a Gaussian mixture: train the run with --clusterer gmm",
    "singles": "needs an expert for each single cluster: train the run with --subset-size 1",
    "vectors": "needs the sentences' vectors, which were not stored with this run's predictions",
    "labels": "uses the right labels",
    "folds": "needs the map, drawn by `python -m monju map`, of a run with --rounds 1",
    "pairs": "needs two experts that have not seen a sentence's cluster: train the run with --subset-size 1",
}


@dataclass(frozen=True)
class FitContext:
    """What a combiner may use beside the outputs.

    Parameters
    ----------
    config : Config
        The run's settings.
    centres : ndarray [k, dim]
        The clusters' centres.
    tuning : tuple of ModelOutputs and ndarray, optional
        Outputs and labels of the tuning split.
    labels : ndarray [n], optional
        The right labels, for the oracle alone.
    learned : dict
        A cache of what combiners learned.
    folds : Folds, optional
        Outputs, labels and clusters of training sentences, of which each is new to some experts.
    """

    config: Config
    centres: np.ndarray
    tuning: Any = None
    labels: np.ndarray | None = None
    learned: dict = field(default_factory=dict)
    folds: Any = None

    def once(self, key: Any, learn: Callable[[], Any]) -> Any:
        """Return what `learn()` returns, called once per key."""
        if key not in self.learned:
            self.learned[key] = learn()
        return self.learned[key]


def fit_context(monju: SentenceReader) -> FitContext:
    """Return the context of a loaded run. Raises MonjuError where its stored predictions are damaged."""
    tuning = load_predictions(monju.run, "tuning") if monju.run.manifest["data"].get("tuning") else None
    folds = None
    if monju.config.rounds == 1:  # later rounds start from the average of all experts, which saw everything
        with suppress(MonjuError):
            sample = ClusterMap.load(monju.run)
            folds = Folds(sample.outputs(monju), sample.labels, sample.clusters)
    return FitContext(monju.config, monju.clustering.clusterer.centres_, tuning, folds=folds)


@dataclass(frozen=True)
class Combiner:
    """One way to weigh the experts.

    Parameters
    ----------
    kind : str
        "gate", "calibration", "weights", "selection" or "control".
    alpha : callable
        (ModelOutputs, FitContext) → α [n, experts].
    mix : callable, optional
        The fusion, where it is part of the combiner; by default the run's.
    needs : tuple of str
        Keys of LACKS.
    gate : callable, optional
        config → the gate that gives α, where one does.
    temperature : callable, optional
        (ModelOutputs, FitContext) → T [n, experts], by which the experts' logits are divided before fusion.
    """

    kind: str
    alpha: Callable[..., np.ndarray]
    mix: fusion.Fusion | None = None
    needs: tuple[str, ...] = ()
    gate: GateMaker | None = None
    temperature: Callable[..., np.ndarray] | None = None

    def lack(self, outputs: ModelOutputs, context: FitContext) -> str | None:
        """Return what a run lacks for this combiner, in words, or None."""
        available = {"tuning": context.tuning, "mixture": outputs.posterior, "vectors": outputs.vectors,
                     "labels": context.labels, "singles": True if context.config.subset_size == 1 else None,
                     "folds": context.folds,
                     "pairs": True if comb(context.config.k - 1, context.config.subset_size) > 1 else None}
        return next((LACKS[need] for need in self.needs if available[need] is None), None)

    def decide(self, outputs: ModelOutputs, context: FitContext) -> Predictions:
        """Return the predictions. Raises MonjuError where the run lacks what the combiner needs."""
        if why := self.lack(outputs, context):
            raise MonjuError(f"this combiner {why}")
        alpha, mix = self.alpha(outputs, context), self.mix or fusion.TABLE[context.config.fusion]
        fused = outputs.decide(lambda *_: alpha, mix)
        if self.temperature is None:
            return fused
        scaled = outputs.of(outputs.experts) / self.temperature(outputs, context)[:, :, None]
        return replace(fused, monju=mix(scaled, alpha))


# Gates


def gated(outputs: ModelOutputs, context: FitContext, gate: GateMaker = gates.make) -> np.ndarray:
    """Return α of a gate, by default the run's own."""
    return gate(context.config)(outputs.distances, outputs.subsets, outputs.posterior)


def named(name: str, **settings: Any) -> GateMaker:
    """Return the maker of a named gate at the schema's defaults but for these, whatever the run's are.

    The temperature alone is the run's, since it depends on the scale of the run's vectors.
    """
    values = {setting: SETTINGS[setting].default for setting in SETTINGS if group(setting) == "fusion"}
    values |= {**settings, "gate": name}

    def make(config: Config) -> gates.Gate:
        return gates.make(SimpleNamespace(**values | {"temperature": config.temperature}))

    return make


def through(gate: GateMaker, mix: fusion.Fusion | None = None, needs: tuple[str, ...] = ()) -> Combiner:
    """Return the combiner of a gate."""
    return Combiner("gate", partial(gated, gate=gate), mix, needs, gate)


def running_prior(outputs: ModelOutputs, context: FitContext) -> np.ndarray:
    """Return BTM's posterior with the mean posterior so far as its prior (Li et al. 2022, sec. 2.3)."""
    likelihoods = np.asarray(outputs.posterior)  # the mixture's own weights are nearly equal
    prior, posteriors = np.full(likelihoods.shape[1], 1 / likelihoods.shape[1]), []
    for likelihood in likelihoods:
        posterior = likelihood * prior
        posteriors.append(posterior / posterior.sum())
        prior = 0.99 * prior + 0.01 * posteriors[-1]
    return gates.share(np.array(posteriors), outputs.subsets)


def parent(outputs: ModelOutputs, context: FitContext, hidden: int = 0,
           out_of_fold: bool = False) -> np.ndarray:
    """Return α of a mixture-of-experts gate over frozen experts, learned from c-BTM's weights on.

    Jacobs et al. 1991. It learns on the tuning split, or `out_of_fold`: on all training sentences of the map,
    at each of which only the experts that did not learn its cluster are compared.
    """
    folds = context.folds
    tuning, labels = (folds.outputs, folds.labels) if out_of_fold else context.tuning
    heard = folds.unseen if out_of_fold else None
    q = context.once(("parent", hidden, out_of_fold, context.config.temperature),
                     lambda: fit_parent(tuning, labels, context, hidden, heard=heard))
    return gates.share(q(outputs.vectors), outputs.subsets)


def fit_parent(tuning: ModelOutputs, labels: np.ndarray, context: FitContext, hidden: int = 0,
               steps: int = 300, decay: float = 1e-2,
               heard: np.ndarray | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Learn a gate by −log Σ α_S p_S(y|x); return vectors [n, dim] → q [n, k].

    With `heard` [n, experts] the sum is over those alone, their α renormalised. It starts at
    q = softmax(−‖h − c‖²/T), which is linear in h but for a term common to all clusters. With `hidden`, a
    network of that many units adds to the linear part, starting from zero. `decay` is the L2 penalty on the
    change.
    """
    import torch

    generator = torch.Generator().manual_seed(0)  # its own: several gates may be learned at once
    centres = torch.tensor(context.centres, dtype=torch.float64)
    # initial weights (d + 1, k)
    initial = torch.cat([2 * centres.T, -(centres**2).sum(1)[None]]) / context.config.temperature
    delta = torch.zeros_like(initial, requires_grad=True)
    parts = [delta]
    if hidden:
        dim = centres.shape[1]
        w_in = torch.randn(dim, hidden, dtype=torch.float64, generator=generator) / dim**0.5
        w_out = torch.zeros(hidden, len(centres), dtype=torch.float64)
        parts += [w_in.requires_grad_(), w_out.requires_grad_()]

    def membership(vectors: np.ndarray) -> torch.Tensor:
        h = torch.tensor(np.asarray(vectors), dtype=torch.float64)
        energy = torch.cat([h, torch.ones(len(h), 1, dtype=torch.float64)], dim=1) @ (initial + delta)
        if hidden:
            energy = energy + torch.tanh(h @ parts[1]) @ parts[2]
        return energy.softmax(dim=1)

    # p of the right label, by each expert (n, experts)
    p = softmax(tuning.of(tuning.experts), axis=2)
    p_right = torch.tensor(np.take_along_axis(p, np.asarray(labels)[:, None, None], axis=2)[..., 0],
                           dtype=torch.float64)
    belongs = torch.tensor(subsets.membership(tuning.subsets, len(centres)))
    counts = torch.ones_like(p_right) if heard is None else torch.tensor(heard, dtype=torch.float64)
    vectors, optimizer = np.asarray(tuning.vectors), torch.optim.Adam(parts, lr=0.02)
    for _ in range(steps):
        alpha = membership(vectors) @ belongs.T / belongs[:, 0].sum()
        penalty = sum((part**2).sum() for part in (delta, *parts[2:]))
        fitted = (alpha * counts * p_right).sum(1).log() - (alpha * counts).sum(1).log()
        loss = decay * penalty / 2 - fitted.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return lambda vectors: membership(vectors).detach().numpy()


def calibrated(outputs: ModelOutputs, context: FitContext) -> np.ndarray:
    """Return each expert's temperature [n, experts], fitted on the clusters that it never saw."""
    return context.once("temperatures", lambda: fit_temperatures(context.folds))(outputs)


# One weight for all sentences


def uniform(outputs: ModelOutputs, context: FitContext) -> np.ndarray:
    """Return equal weights: what a gate is measured against."""
    return np.full((len(outputs.logits), len(outputs.experts)), 1 / len(outputs.experts))


def stacked(outputs: ModelOutputs, context: FitContext) -> np.ndarray:
    """Return one weight per expert, on the simplex, fitted on the tuning split (stacking, Wolpert 1992)."""
    name, (tuning, labels) = context.config.fusion, context.tuning
    weights = context.once(("stacked", name), lambda: fit_weights(tuning, labels, fusion.TABLE[name]))
    return np.broadcast_to(weights, (len(outputs.logits), len(weights)))


def fit_weights(tuning: ModelOutputs, labels: np.ndarray, mix: fusion.Fusion) -> np.ndarray:
    """Return the weights [experts] on the simplex with the least mean −log p of the labels under a fusion."""
    from scipy.optimize import minimize

    logits, rows = tuning.of(tuning.experts), np.arange(len(labels))

    def loss(free: np.ndarray) -> float:
        mixed = mix(logits, np.broadcast_to(softmax(free), logits.shape[:2]))
        return -log_softmax(mixed, axis=1)[rows, labels].mean()

    return softmax(minimize(loss, np.zeros(logits.shape[1]), method="BFGS").x)


# Controls


def permuted(outputs: ModelOutputs, context: FitContext, seed: int = 0) -> np.ndarray:
    """Return α of another sentence: the gate without knowledge of the sentence's position."""
    return np.random.default_rng(seed).permutation(gated(outputs, context))


def oracle(outputs: ModelOutputs, context: FitContext) -> np.ndarray:
    """Return equal weights for the experts that are right, where there are any: the ceiling of every gate.

    It uses the right labels.
    """
    return shares(right(outputs, np.asarray(context.labels)).astype(float))


LEARNED = ("tuning", "vectors")
TABLE = {
    # at equal weights the temperatures alone are the gate: unsure logits are small
    "calibrated, equal weights": Combiner("calibration", uniform, None, ("folds",), None, calibrated),
    "calibrated, gate": Combiner("calibration", gated, None, ("folds",), None, calibrated),
    # c-BTM proper (Gururangan et al. 2023): an expert a cluster, softmax(−d²/T), probabilities mixed
    "c-BTM": through(named("membership"), fusion.mix_probabilities, ("singles",)),
    "posterior, running prior": Combiner("gate", running_prior, None, ("mixture",)),
    "MoE linear": Combiner("gate", parent, fusion.mix_probabilities, LEARNED),
    "MoE network": Combiner("gate", partial(parent, hidden=16), fusion.mix_probabilities, LEARNED),
    "MoE out of fold": Combiner("gate", partial(parent, out_of_fold=True), fusion.mix_probabilities,
                                ("pairs", "folds", "vectors")),
    "stacking": Combiner("weights", stacked, None, ("tuning",)),
    "product of experts": Combiner("weights", uniform, fusion.mix_product),
    "best single expert": Combiner("selection", best_single, None, ("tuning",)),
    "KNORA-U": Combiner("selection", knora_u, fusion.mix_probabilities, LEARNED),
    "OLA": Combiner("selection", ola, fusion.mix_probabilities, LEARNED),
    "uniform": Combiner("control", uniform),
    "α permuted": Combiner("control", permuted),
    "oracle": Combiner("control", oracle, None, ("labels",)),
}
GATE_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {  # gates at other settings
    **{f"distance p={p:g}": ("distance", {"sharpness": p}) for p in (2.0, 4.0, 8.0)},
    "membership d^4": ("membership", {"power": 4.0}),
    "membership top-1": ("membership", {"top_k": 1}),
}


def all_combiners() -> dict[str, Combiner]:
    """Return all combiners by name: the run's gate, each gate at its defaults, GATE_VARIANTS, TABLE."""
    defaults = {name: through(named(name), needs=("mixture",) if name == "posterior" else ())
                for name in gates.TABLE}
    variants = {name: through(named(gate, **settings)) for name, (gate, settings) in GATE_VARIANTS.items()}
    return {"monju": through(gates.make), **defaults, **variants, **TABLE}


# A run under another gate, fusion or combiner


def view(reader: SentenceReader, gate: Any = None, **settings: Any) -> SentenceReader:
    """Return the run under another gate and fusion; `gate` may also be a name of TABLE.

    Raises MonjuError for settings that cannot be.
    """
    if not isinstance(gate, str) or gate in gates.TABLE or gate not in TABLE:
        return reader.under(**settings, **({} if gate is None else {"gate": gate}))
    if fusion_name := next((name for name, mix in fusion.TABLE.items() if mix is TABLE[gate].mix), None):
        settings["fusion"] = fusion_name
    config = reader.under(**settings).config

    def decide(outputs: ModelOutputs) -> Predictions:
        return reader.call("monju.evaluation.combiners:decide_by", gate, config, outputs)

    return reader.under((gate, decide), **settings)


def decide_by(monju: SentenceReader, name: str, config: Config, outputs: ModelOutputs) -> Predictions:
    """Return predictions by a combiner of TABLE, in the models' process, since some learn with torch."""
    context = monju.memo("fit context", lambda: fit_context(monju))
    return TABLE[name].decide(outputs, replace(context, config=config))


def held_out_alpha(reader: SentenceReader, **settings: Any) -> np.ndarray | None:
    """Return α [n, experts] of the stored held-out sentences under these settings; None without any."""
    try:
        return reader.memo(("alpha", *sorted(settings.items())),
                           lambda: view(reader, **settings).decide(reader.held_out()[0]).alpha)
    except MonjuError:
        return None


def unsure_below(reader: SentenceReader, **settings: Any) -> float | None:
    """Return `out_of_scope.unsure_below` of the stored held-out sentences under these settings.

    None without any.
    """
    try:
        return reader.memo(("unsure", *sorted(settings.items())), lambda: out_of_scope.unsure_below(
            view(reader, **settings).decide(reader.held_out()[0])))
    except MonjuError:
        return None


def effect(reader: SentenceReader, **settings: Any) -> dict[str, Any]:
    """Return what these settings change against the run's own on the stored held-out sentences.

    {"n", "before", "after" (accuracies), "own" (whether nothing is changed), and the entries of
    `metrics.compare_pair`}. Raises MonjuError where none are stored, and for settings that cannot be.
    """
    (outputs, labels), changed = reader.held_out(), view(reader, **settings)
    before, after = (run.decide(outputs).monju.argmax(axis=1) for run in (reader, changed))
    return {"n": len(labels), "before": float((before == labels).mean()),
            "after": float((after == labels).mean()),
            "own": changed.combiner is None and changed.config == reader.config,
            **metrics.compare_pair(after, before, labels)}


def offered(reader: SentenceReader) -> list[str]:
    """Return the names of gates and combiners that this run supports, whose weights alone tell the verdict.

    Controls are left out, and so are calibrations.
    """
    return reader.memo("offered", lambda: _offered(reader))


def _offered(reader: SentenceReader) -> list[str]:
    """Return the names for `offered`, computed."""
    context = reader.memo("fit context", lambda: fit_context(reader))
    try:
        outputs = reader.outputs(["ready"])
    except MonjuError:  # its models cannot be loaded here: what is stored is weighed all the same
        outputs = reader.held_out()[0]
    return [name for name, combiner in all_combiners().items() if not combiner.lack(outputs, context)
            and (name in gates.TABLE or name in TABLE and combiner.kind not in ("calibration", "control"))]
