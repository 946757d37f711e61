"""Reader: a run's model outputs on sentences → readings, under any gate and fusion.

A subclass runs the models. Knows nothing of torch, processes or pages.
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

    Parameters
    ----------
    run : Run
        The run.
    clustering : Clustering
        Its fitted clustering.
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
        """Return the outputs of models and clusters on texts [n], before any gate.

        Raises MonjuError for an empty sentence.
        """
        raise NotImplementedError

    def call(self, function: str, *arguments: Any) -> Any:
        """Return `function(monju, *arguments)`, computed where the models are.

        It is named "module:function", since another process imports it.
        """
        return resolve_name(function)(self, *arguments)

    def held_out(self) -> tuple[ModelOutputs, np.ndarray]:
        """Return the stored held-out outputs and their labels [n]. Raises MonjuError for a damaged file."""
        return self.memo("held out", lambda: load_predictions(self.run))

    def predict(self, texts: Iterable[str]) -> Predictions:
        """Read sentences as arrays.

        Parameters
        ----------
        texts : iterable of str
            n sentences.

        Returns
        -------
        Predictions
            distances [n, k], alpha [n, experts], logits [n, models, labels], monju [n, labels], baseline [n,
            labels] (fused logits), and more.

        Raises
        ------
        MonjuError
            For no sentence, an empty one, and a bare string.
        """
        return self.decide(self.outputs(texts))

    def read(self, texts: Iterable[str]) -> list[Reading]:
        """Read sentences: a Reading for each, in their order.

        Parameters
        ----------
        texts : iterable of str
            n sentences; none gives an empty list.

        Returns
        -------
        list of Reading [n]

        Raises
        ------
        MonjuError
            For an empty sentence, and for a bare string.
        """
        texts = sentences(texts)
        return self.readings(texts, self.outputs(texts)) if texts else []

    def decide(self, outputs: ModelOutputs) -> Predictions:
        """Return predictions by the run's gate and fusion, or by what `under` put in their place."""
        return outputs.decide_as(self.config) if self.combiner is None else self.combiner[1](outputs)

    def readings(self, texts: Iterable[str], outputs: ModelOutputs) -> list[Reading]:
        """Return the Readings of n texts whose outputs are known already; no model is run."""
        texts = [check_text(text) for text in sentences(texts)]
        if len(texts) != len(outputs.logits):
            raise MonjuError(f"there are {len(texts):,} sentences and outputs for {len(outputs.logits):,}: "
                             "give as many of each")
        predictions, vectors = self.decide(outputs), np.asarray(outputs.vectors)
        return [
            Reading(
                text=text,
                vector=vectors[i],
                distances=dict(zip(predictions.clusters, predictions.distances[i].tolist())),
                alpha=dict(zip(predictions.experts, predictions.alpha[i].tolist())),
                logits=dict(zip(predictions.models, predictions.logits[i])),
                monju=self.verdict(predictions.monju[i]),
                baseline=None if predictions.baseline is None else self.verdict(predictions.baseline[i]),
                notes=predictions.notes[i] if predictions.notes else (),
            )
            for i, text in enumerate(texts)
        ]

    def verdict(self, logits: np.ndarray) -> Verdict:
        """Return the verdict of fused logits [labels]."""
        best = int(logits.argmax())
        return Verdict(logits, softmax(logits), self.labels[best], self.label_names[best])

    def under(self, combiner: tuple[str, Decide] | None = None, **settings: Any) -> SentenceReader:
        """Return the same models under another gate or fusion.

        Parameters
        ----------
        combiner : tuple of str and callable, optional
            The name of the combiner in the gate's place, and its function (see `evaluation.combiners`).
        settings : dict
            gate, sharpness, temperature, power, top_k, fusion; those not given are the run's.

        Returns
        -------
        SentenceReader

        Raises
        ------
        MonjuError
            For a setting that cannot be, such as a gate that needs what the run lacks.
        """
        other = copy(self)
        other.config, other.combiner = replace(self.config, **settings), combiner
        return other

    @property
    def gate(self) -> str:
        """The name of the gate, or of the combiner in its place."""
        return self.config.gate if self.combiner is None else self.combiner[0]

    def memo(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what `make()` gives, computed once for this run and key."""
        return self._memo.get(key, make)


def check_text(text: Any) -> str:
    """Return the sentence, cleaned as in training. Raises MonjuError where nothing is left of it."""
    cleaned = UNPRINTABLE.sub(" ", text).strip() if isinstance(text, str) else ""
    if not cleaned:
        raise MonjuError("a sentence is empty: type at least one word")
    return cleaned
