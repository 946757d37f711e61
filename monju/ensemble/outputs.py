"""Outputs: what the models answer to n sentences, what the ensembles make of it, and one sentence's reading.

`Reading` is the one object that crosses from the core to the web app, the command line and the tests.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monju.ensemble import fusion, gates
from monju.ensemble.subsets import Subsets


@dataclass(frozen=True, eq=False, repr=False)
class Verdict:
    """One ensemble's answer to one sentence. Verdicts are equal where all their values are.

    Parameters
    ----------
    logits, probabilities : ndarray [labels]
        Fused logits and their softmax.
    label : int or str
        The most probable label, as it stands in the data.
    name : str
        Its readable name.
    """

    logits: np.ndarray
    probabilities: np.ndarray
    label: int | str
    name: str

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON holds them."""
        return {"logits": self.logits.tolist(), "probabilities": self.probabilities.tolist(),
                "label": self.label, "name": self.name}

    def __eq__(self, other: object) -> bool:
        return self.to_json() == other.to_json() if isinstance(other, Verdict) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.label, self.name))

    def __repr__(self) -> str:
        return f"Verdict({self.name!r}, {self.probabilities.max():.1%})"


@dataclass(frozen=True, eq=False, repr=False)
class Reading:
    """Everything that is known of one sentence. Readings are equal where all their values are.

    Parameters
    ----------
    text : str
        The sentence as the models saw it.
    vector : ndarray [dim]
        Its embedding.
    distances : dict of str to float
        Euclidean distance to each cluster's centre.
    alpha : dict of str to float
        Each expert's weight; they sum to 1.
    logits : dict of str to ndarray [labels]
        Every model's logits, the experts first.
    monju, baseline : Verdict
        The ensembles' answers; `baseline` is None in a run that trained none.
    notes : tuple
        What of the sentence the models did not see.
    """

    text: str
    vector: np.ndarray
    distances: dict[str, float]
    alpha: dict[str, float]
    logits: dict[str, np.ndarray]
    monju: Verdict
    baseline: Verdict | None
    notes: tuple = ()

    def to_json(self) -> dict[str, Any]:
        """Return all but the vector as JSON holds it."""
        return {"text": self.text, "distances": self.distances, "alpha": self.alpha,
                "logits": {model: logits.tolist() for model, logits in self.logits.items()},
                "monju": self.monju.to_json(), "baseline": self.baseline and self.baseline.to_json(),
                "notes": [note.to_json() for note in self.notes]}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reading):
            return NotImplemented
        return self.to_json() == other.to_json() and np.array_equal(self.vector, other.vector)

    def __hash__(self) -> int:
        return hash((self.text, self.monju))

    def __repr__(self) -> str:
        return f"Reading({reprlib.repr(self.text)}, monju={self.monju}, baseline={self.baseline})"


@dataclass(frozen=True, eq=False, repr=False)  # large arrays: equal to itself alone
class ModelOutputs:
    """What the models and the clusters say of n sentences, before any gate: a gate can be changed later.

    Parameters
    ----------
    clusters : list of str [k]
        The clusters' names.
    subsets : list of tuple of int [experts]
        The clusters that each expert learned.
    experts, members, equal_cost : list of str
        The models' names: experts, the baseline's members, the equal-cost control's.
    vectors : ndarray [n, dim] or None
        Embeddings; stored predictions may lack them.
    distances : ndarray [n, k]
        Euclidean distance to each cluster's centre.
    posterior : ndarray [n, k] or None
        P(cluster | sentence), where the clusterer is a mixture.
    logits : ndarray [n, models, labels]
        Every model's logits, in the order of `models`.
    notes : sequence [n] of tuple, optional
        What the models do not see of each sentence.

    Examples
    --------
    >>> outputs = ModelOutputs(["A", "B"], [(0,), (1,)], ["A", "B"], [], [], vectors=None, posterior=None,
    ...                        distances=np.array([[1.0, 3.0]]), logits=np.array([[[2.0, 0], [0, 2.0]]]))
    >>> predictions = outputs.decide(gates.Distance(sharpness=1))
    >>> predictions.alpha.tolist(), predictions.monju.tolist(), predictions.uniform.tolist()
    ([[0.75, 0.25]], [[1.5, 0.5]], [[1.0, 1.0]])
    """

    clusters: list[str]
    subsets: Subsets
    experts: list[str]
    members: list[str]
    equal_cost: list[str]
    vectors: np.ndarray | None
    distances: np.ndarray
    posterior: np.ndarray | None
    logits: np.ndarray
    notes: Sequence[tuple] | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        n, models, labels = self.logits.shape
        return f"{type(self).__name__}({n:,} sentences, {models} models, {labels} labels)"

    @property
    def models(self) -> list[str]:
        """All models' names: experts, baseline, equal-cost control."""
        return self.experts + self.members + self.equal_cost

    def of(self, models: Sequence[str]) -> np.ndarray:
        """Return the logits of the named models, [n, len(models), labels]."""
        return self.logits[:, [self.models.index(model) for model in models]]

    def by_model(self) -> dict[str, np.ndarray]:
        """Return each model's logits [n, labels] under its name."""
        return {model: self.logits[:, i] for i, model in enumerate(self.models)}

    def decide(self, gate: gates.Gate, mix: fusion.Fusion = fusion.mix_logits) -> Predictions:
        """Return the ensembles' predictions under a gate and a fusion. Raises MonjuError as the gate does."""
        alpha = gate(self.distances, self.subsets, self.posterior)
        return Predictions(**vars(self), alpha=alpha, monju=mix(self.of(self.experts), alpha),
                           uniform=self._mean(self.experts, mix), baseline=self._mean(self.members, mix),
                           equal_cost_ensemble=self._mean(self.equal_cost, mix))

    def decide_as(self, config: Any) -> Predictions:
        """Return `decide` with the gate and the fusion of a configuration."""
        return self.decide(gates.make(config), fusion.TABLE[config.fusion])

    def _mean(self, models: Sequence[str], mix: fusion.Fusion) -> Any:
        """The named models mixed with equal weights [n, labels]; None where there are none."""
        if not models:
            return None
        return mix(self.of(models), np.full((len(self.logits), len(models)), 1 / len(models)))


@dataclass(frozen=True, eq=False, repr=False)
class Predictions(ModelOutputs):
    """The models' outputs and what the ensembles make of them.

    Parameters
    ----------
    alpha : ndarray [n, experts]
        Each expert's weight.
    monju, uniform : ndarray [n, labels]
        Fused logits of the experts: under α, and with equal weights (what the gate is measured against).
    baseline, equal_cost_ensemble : ndarray [n, labels] or None
        Fused logits of the baseline's and the control's members, with equal weights.
    """

    alpha: np.ndarray
    monju: np.ndarray
    uniform: np.ndarray
    baseline: np.ndarray | None
    equal_cost_ensemble: np.ndarray | None

    def __getitem__(self, name: str) -> Any:
        """Return an array by its name."""
        return getattr(self, name)
