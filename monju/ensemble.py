"""Monju: a finished run, loaded; sentences in, readings out.

The way of a sentence: embed → distances → α (gate) → every model's logits → fusion → verdict.
`Reading` is the one object that crosses from here to the page, the command line and the tests.
"""

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import softmax

from monju import backbones, clusterers, fusion, gates
from monju.clustering import Clustering
from monju.errors import MonjuError
from monju.experts import Expert
from monju.run import Run
from monju.sources import UNPRINTABLE
from monju.stack import BATCH, Stack


@dataclass(frozen=True)
class Verdict:
    """One answer: fused logits [labels], their softmax, the label as it stands in the data and its readable name."""

    logits: np.ndarray
    probabilities: np.ndarray
    label: int | str
    name: str

    def to_json(self):
        return {"logits": self.logits.tolist(), "probabilities": self.probabilities.tolist(),
                "label": self.label, "name": self.name}


@dataclass(frozen=True)
class Reading:
    """Everything that was thought about one sentence. `logits` has every model, the experts first."""

    text: str
    vector: np.ndarray
    distances: dict[str, float]
    alpha: dict[str, float]
    logits: dict[str, np.ndarray]
    monju: Verdict
    baseline: Verdict | None

    def to_json(self):
        return {"text": self.text, "distances": self.distances, "alpha": self.alpha,
                "logits": {model: values.tolist() for model, values in self.logits.items()},
                "monju": self.monju.to_json(), "baseline": self.baseline and self.baseline.to_json()}


@dataclass(frozen=True)
class Votes:
    """What the models and the clusters say of n sentences, before any gate: the gate can be changed later.

    `logits` [n, models, labels]: the experts first, then the baseline, then the equal-cost control.
    """

    clusters: list[str]
    subsets: list[tuple[int, ...]]
    experts: list[str]
    members: list[str]
    equal_cost: list[str]
    vectors: np.ndarray | None  # the stored held-out predictions of a run have none
    distances: np.ndarray
    posterior: np.ndarray | None
    logits: np.ndarray

    @property
    def models(self):
        return self.experts + self.members + self.equal_cost

    def of(self, models):
        """The logits of the named models, [n, len(models), labels]."""
        return self.logits[:, [self.models.index(model) for model in models]]

    def by_model(self):
        """Each model's logits [n, labels] under its name."""
        return {model: self.logits[:, i] for i, model in enumerate(self.models)}

    def decide(self, gate, mix=fusion.mix_logits):
        """The ensembles' predictions under a gate and a fusion."""
        alpha = gate(self.distances, self.subsets, self.posterior)
        return Predictions(**vars(self), alpha=alpha, monju=mix(self.of(self.experts), alpha),
                           uniform=self._equally(self.experts, mix), baseline=self._equally(self.members, mix),
                           equal_cost_ensemble=self._equally(self.equal_cost, mix))

    def decide_as(self, config):
        """`decide` with the gate and the fusion of a configuration."""
        return self.decide(gates.make(config), fusion.TABLE[config.fusion])

    def _equally(self, models, mix):
        if not models:
            return None
        return mix(self.of(models), np.full((len(self.logits), len(models)), 1 / len(models)))


@dataclass(frozen=True)
class Predictions(Votes):
    """Votes and what the ensembles make of them: α [n, experts]; fused logits [n, labels] of each ensemble."""

    alpha: np.ndarray
    monju: np.ndarray
    uniform: np.ndarray  # the experts weighed alike: what the gate is measured against
    baseline: np.ndarray | None
    equal_cost_ensemble: np.ndarray | None

    def __getitem__(self, name):
        return getattr(self, name)


class Monju:
    """A loaded run: `read` and `predict` sentences with it.

    >>> monju = Monju.load("trained/sst2-minilm")           # doctest: +SKIP
    >>> monju.read(["a quiet triumph"])[0].monju.name       # doctest: +SKIP
    'positive'
    """

    def __init__(self, run, clustering, tokenizer, models, members, equal_cost=()):
        self.run, self.config, self.clustering, self.tokenizer, self.models = run, run.config, clustering, tokenizer, models
        self.labels, self.label_names = run.manifest["data"]["labels"], run.manifest["data"]["label_names"]
        self.subsets = gates.subsets(self.config.k, self.config.subset_size)
        self.clusters = clusterers.names(self.config.k)
        self.experts = expert_names(self.config)
        self.members, self.equal_cost = list(members), list(equal_cost)

    @cached_property
    def stack(self):
        """All models as one, and the embedder's encoder among them where it is the models' own backbone."""
        asked = [self.models[name] for name in self.experts + self.members + self.equal_cost]
        same = backbones.hub_name(getattr(self.clustering.embedder, "name", "")) == backbones.hub_name(self.config.backbone)
        return Stack([(expert.model, expert.low_rank) for expert in asked], self.tokenizer.pad_token_id, asked[0].device,
                     self.clustering.embedder.encoder() if same else None)

    @classmethod
    def load(cls, path, device="auto", controls=False):
        """Open a finished run. `controls` also loads the equal-cost models, which no verdict needs.

        Raises MonjuError for a folder that is no run, unfinished, damaged or not wholly there.
        """
        return cls.of(Run.open(path).check(), device, controls)

    @classmethod
    def of(cls, run, device="auto", controls=False):
        """As `load`, for a run whose models are there but which is not sealed yet."""
        device = backbones.pick_device(device)
        config, models = replace(run.config, device=device.type), run.manifest["models"]  # here, not where it was trained
        names = {"experts": models["experts"], "baseline": models["baseline"],
                 "equal-cost": models["equal-cost"] if controls else []}
        tokenizer = backbones.tokenizer(config.backbone)
        labels = len(run.manifest["data"]["labels"])
        loaded = {model_key(kind, name): Expert.load(run.path / kind / name, labels, tokenizer.pad_token_id, device)
                  for kind, members in names.items() for name in members}
        clustering = Clustering.load(run.path / "clustering", config)
        opened = cls(run, clustering, tokenizer, loaded, names["baseline"],
                     [model_key("equal-cost", name) for name in names["equal-cost"]])
        opened.stack  # now, not when the first sentence comes
        return opened

    def votes(self, texts):
        """texts [n] → Votes. Raises MonjuError for an empty sentence."""
        texts = [check_text(text) for text in texts]
        if not texts:
            raise MonjuError("there is no sentence to read: give at least one")
        tokens = backbones.encode(self.tokenizer, texts, self.config.max_tokens)
        if self.stack.guest and len(texts) <= BATCH and max(map(len, tokens)) < self.config.max_tokens:  # no sentence was cut
            logits, *states = self.stack.logits_and_states(tokens)
            vectors, distances, posterior = self.clustering.place_vectors(self.clustering.embedder.pool(*states))
        else:
            logits, (vectors, distances, posterior) = self.stack.logits(tokens, beside=lambda: self.clustering.place(texts))
        return Votes(self.clusters, self.subsets, self.experts, self.members, self.equal_cost,
                     vectors, distances, posterior, logits)

    def predict(self, texts):
        """texts [n] → Predictions: arrays distances [n,k], alpha [n,experts], logits [n,models,labels],
        monju [n,labels] and baseline [n,labels] (fused logits)."""
        return self.votes(texts).decide_as(self.config)

    def read(self, texts):
        """texts [n] → a list of n Readings."""
        return self.readings(texts, self.votes(texts)) if len(texts) else []

    def readings(self, texts, votes):
        """The Readings [n] of texts [n] whose votes are known already: the gate's and the fusion's part alone."""
        found = votes.decide_as(self.config)
        return [Reading(text=check_text(texts[i]), vector=found.vectors[i],
                        distances=dict(zip(found.clusters, found.distances[i].tolist())),
                        alpha=dict(zip(found.experts, found.alpha[i].tolist())),
                        logits=dict(zip(found.models, found.logits[i])),
                        monju=self.verdict(found.monju[i]),
                        baseline=None if found.baseline is None else self.verdict(found.baseline[i]))
                for i in range(len(texts))]

    def under(self, **settings):
        """The same models under another gate or fusion (gate, sharpness, temperature, power, top_k, fusion).

        Raises MonjuError for a setting that cannot be, such as a gate that the run does not feed.
        """
        other = copy(self)
        other.config = replace(self.config, **settings)
        return other

    def verdict(self, logits):
        """Fused logits [labels] → Verdict."""
        best = int(logits.argmax())
        return Verdict(logits, softmax(logits), self.labels[best], self.label_names[best])


def expert_names(config):
    """The experts' names, AB, BC, CA for k = 3, m = 2."""
    clusters = clusterers.names(config.k)
    return ["".join(clusters[c] for c in subset) for subset in gates.subsets(config.k, config.subset_size)]


def model_key(kind, name):
    """A model's name among all of a run's: only the control's and an earlier round's need their folder to be told apart."""
    return name if kind in ("experts", "baseline") else f"{kind}/{name}"


def check_text(text):
    """The sentence as a training source would have cleaned it, or a MonjuError where nothing is left."""
    cleaned = UNPRINTABLE.sub(" ", text).strip() if isinstance(text, str) else ""
    if not cleaned:
        raise MonjuError("a sentence is empty: type at least one word")
    return cleaned
