"""Outputs: what the models say of sentences, what the ensembles make of it, and the reading of one sentence.

`Reading` is the one object that crosses from the core to the page, the command line and the tests.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from monju.ensemble import fusion, gates


@dataclass(frozen=True, eq=False, repr=False)
class Verdict:
    """One answer: fused logits [labels], their softmax, the label as it stands in the data and its readable name."""

    logits: np.ndarray
    probabilities: np.ndarray
    label: int | str
    name: str

    def to_json(self):
        return {"logits": self.logits.tolist(), "probabilities": self.probabilities.tolist(),
                "label": self.label, "name": self.name}

    def __eq__(self, other):
        return self.to_json() == other.to_json() if isinstance(other, Verdict) else NotImplemented

    def __hash__(self):
        return hash((self.label, self.name))

    def __repr__(self):
        return f"Verdict({self.name!r}, {self.probabilities.max():.1%})"


@dataclass(frozen=True, eq=False, repr=False)
class Reading:
    """Everything that was thought about one sentence. `logits` has every model, the experts first; `notes` say what of the
    sentence the models did not see. Readings are equal where all their values are."""

    text: str
    vector: np.ndarray
    distances: dict[str, float]
    alpha: dict[str, float]
    logits: dict[str, np.ndarray]
    monju: Verdict
    baseline: Verdict | None
    notes: tuple = ()

    def to_json(self):
        return {"text": self.text, "distances": self.distances, "alpha": self.alpha,
                "logits": {model: values.tolist() for model, values in self.logits.items()},
                "monju": self.monju.to_json(), "baseline": self.baseline and self.baseline.to_json(),
                "notes": [note.to_json() for note in self.notes]}

    def __eq__(self, other):
        if not isinstance(other, Reading):
            return NotImplemented
        return self.to_json() == other.to_json() and np.array_equal(self.vector, other.vector)

    def __hash__(self):
        return hash((self.text, self.monju))

    def __repr__(self):
        return f"Reading({reprlib.repr(self.text)}, monju={self.monju}, baseline={self.baseline})"


@dataclass(frozen=True, eq=False, repr=False)  # large arrays: equal to itself alone
class ModelOutputs:
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
    notes: Sequence[tuple] | None = field(default=None, kw_only=True)  # [n]: what the models do not see of each sentence

    def __repr__(self):
        n, models, labels = self.logits.shape
        return f"{type(self).__name__}({n:,} sentences, {models} models, {labels} labels)"

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


@dataclass(frozen=True, eq=False, repr=False)
class Predictions(ModelOutputs):
    """Votes and what the ensembles make of them: α [n, experts]; fused logits [n, labels] of each ensemble."""

    alpha: np.ndarray
    monju: np.ndarray
    uniform: np.ndarray  # the experts weighed alike: what the gate is measured against
    baseline: np.ndarray | None
    equal_cost_ensemble: np.ndarray | None

    def __getitem__(self, name):
        return getattr(self, name)
