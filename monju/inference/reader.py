"""From what a run's models say of sentences to readings, under any gate and fusion; who asks the models is a
subclass's.

Knows nothing of torch, processes or pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any

import numpy as np
from scipy.special import softmax

from monju.clustering.cluster_model import Clustering
from monju.data.inputs import sentences
from monju.data.rows import UNPRINTABLE
from monju.ensemble import subsets
from monju.ensemble.outputs import ModelOutputs, Predictions, Reading, Verdict
from monju.errors import MonjuError
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run
from monju.utils.cache import Cache

Decide = Callable[[ModelOutputs], Predictions]


class SentenceReader:
    """A finished run that reads sentences: `read`, `predict`, and `under` another gate or fusion.

    A subclass says where the models are, in `outputs`.
    """

    def __init__(self, run: Run, clustering: Clustering):
        self.run, self.config, self.clustering = run, run.config, clustering
        self.labels, self.label_names = run.manifest["data"]["labels"], run.manifest["data"]["label_names"]
        self.clusters = subsets.cluster_names(self.config.k)
        self.subsets = subsets.expert_subsets(self.config.k, self.config.subset_size)
        self.experts, self.members = subsets.expert_names(
            self.config), list(run.manifest["models"]["baseline"])
        self.combiner: tuple[str, Decide] | None = None
        self._memo = Cache(64)

    def outputs(self, texts: Iterable[str]) -> ModelOutputs:
        """What the models and clusters say of texts [n], before any gate. Raises MonjuError for an empty
        sentence."""
        raise NotImplementedError

    def call(self, function: str, *arguments: Any) -> Any:
        """`function(monju, *arguments)` where the models are; it is named "module:function", since another
        process imports it."""
        return resolve_name(function)(self, *arguments)

    def held_out(self) -> tuple[ModelOutputs, np.ndarray]:
        """The stored held-out predictions and their labels [n]. Raises MonjuError for a damaged file."""
        return self.memo("held out", lambda: load_predictions(self.run))

    def predict(self, texts: Iterable[str]) -> Predictions:
        """Read sentences as arrays.

        Parameters
        ----------
        texts : n sentences, any iterable of strings.

        Returns
        -------
        Predictions
            distances [n, k], alpha [n, experts], logits [n, models, labels], monju [n, labels], baseline [n,
            labels] (fused logits), and more.

        Raises
        ------
        MonjuError
            for no sentence, an empty one, and a bare string.
        """
        return self.decide(self.outputs(texts))

    def read(self, texts: Iterable[str]) -> list[Reading]:
        """Read sentences: a Reading for each, in their order.

        Parameters
        ----------
        texts : any iterable of strings; none gives an empty list.

        Raises
        ------
        MonjuError
            for an empty sentence, and for a bare string.
        """
        texts = sentences(texts)
        return self.readings(texts, self.outputs(texts)) if texts else []

    def decide(self, outputs: ModelOutputs) -> Predictions:
        """Apply the run's gate and fusion, or what `under` put in their place."""
        return outputs.decide_as(self.config) if self.combiner is None else self.combiner[1](outputs)

    def readings(self, texts: Iterable[str], outputs: ModelOutputs) -> list[Reading]:
        """The Readings of n texts whose outputs are known already; no model is asked."""
        texts = [check_text(text) for text in sentences(texts)]
        if len(texts) != len(outputs.logits):
            raise MonjuError(f"there are {len(texts):,} sentences and outputs for {len(outputs.logits):,}: "
                             "give as many of each")
        found, vectors = self.decide(outputs), np.asarray(outputs.vectors)
        return [
            Reading(
                text=text,
                vector=vectors[i],
                distances=dict(zip(found.clusters, found.distances[i].tolist())),
                alpha=dict(zip(found.experts, found.alpha[i].tolist())),
                logits=dict(zip(found.models, found.logits[i])),
                monju=self.verdict(found.monju[i]),
                baseline=None if found.baseline is None else self.verdict(found.baseline[i]),
                notes=found.notes[i] if found.notes else (),
            )
            for i, text in enumerate(texts)
        ]

    def verdict(self, logits: np.ndarray) -> Verdict:
        """Fused logits [labels] → the answer."""
        best = int(logits.argmax())
        return Verdict(logits, softmax(logits), self.labels[best], self.label_names[best])

    def under(self, combiner: tuple[str, Decide] | None = None, **settings: Any) -> SentenceReader:
        """The same models under another gate or fusion.

        Parameters
        ----------
        combiner : the name of what decides in a gate's place, and its function (see `evaluation.combiners`).
        settings : gate, sharpness, temperature, power, top_k, fusion; those not given are the run's.

        Raises
        ------
        MonjuError
            for a setting that cannot be, such as a gate that the run does not feed.
        """
        other = copy(self)
        other.config, other.combiner = replace(self.config, **settings), combiner
        return other

    @property
    def gate(self) -> str:
        """The name of what decides: the gate's, or that of the combiner in its place."""
        return self.config.gate if self.combiner is None else self.combiner[0]

    def memo(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make()` gives, worked out once for this run and key."""
        return self._memo.get(key, make)


def check_text(text: Any) -> str:
    """The sentence as a training source would have cleaned it, or a MonjuError where nothing is left."""
    cleaned = UNPRINTABLE.sub(" ", text).strip() if isinstance(text, str) else ""
    if not cleaned:
        raise MonjuError("a sentence is empty: type at least one word")
    return cleaned
