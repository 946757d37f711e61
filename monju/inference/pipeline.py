"""Monju: a finished run with its models loaded; sentences in, readings out.

A sentence passes through: embedding → distances → α (gate) → every model's logits → fusion → verdict.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from monju.clustering.cluster_model import Clustering
from monju.data.inputs import sentences
from monju.data.notes import Note
from monju.ensemble.outputs import ModelOutputs, Predictions
from monju.ensemble.subsets import model_key
from monju.errors import MonjuError
from monju.inference.reader import SentenceReader, check_text
from monju.models import backbones
from monju.models.classifier import Expert
from monju.models.members import FEW, Members
from monju.runs.run import Run

TIE = 0.2  # more than bfloat16 moves one logit against another (docs/performance.md)


class Group(NamedTuple):
    """The models on one backbone."""

    places: list[int]  # among all models of the run
    tokenizer: Any
    members: Members


class Monju(SentenceReader):
    """A loaded run: `read` and `predict` sentences with it.

    `Monju.load` makes one from a run's folder.

    Examples
    --------
    >>> monju = Monju.load("trained/sst2-minilm")           # doctest: +SKIP
    >>> monju.read(["a quiet triumph"])[0].monju.name       # doctest: +SKIP
    'positive'
    """

    def __init__(self, run: Run, clustering: Clustering, groups: list[Group], equal_cost: Iterable[str] = (),
                 bf16: bool = False):
        super().__init__(run, clustering)
        self.groups, self.equal_cost, self.bf16 = groups, list(equal_cost), bf16

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", controls: bool = False,
             bf16: bool = False) -> Monju:
        """Open a finished run and load its models.

        Parameters
        ----------
        path : str or Path
            The run's folder.
        device : str
            "auto" (the GPU where there is one), "cpu" or "cuda".
        controls : bool
            Also load the equal-cost models, which no verdict needs.
        bf16 : bool
            Read many sentences in bfloat16 where the processor computes in it (see `outputs`).

        Returns
        -------
        Monju

        Raises
        ------
        MonjuError
            For a folder that is no run, unfinished, damaged or not wholly there.
        """
        return cls.of(Run.open(path).check(), device, controls, bf16)

    @classmethod
    def of(cls, run: Run, device: str = "auto", controls: bool = False, bf16: bool = False) -> Monju:
        """Return a run's loaded models as `load` does, also for a run that is not sealed yet."""
        run.refuse_task("classify")
        torch_device = backbones.pick_device(device)
        bf16 = bf16 and torch_device.type == "cpu" and backbones.computes_in_bf16(torch_device)
        # here, not where it was trained
        config = replace(run.config, device="cuda" if torch_device.type == "cuda" else "cpu")
        kinds = {"experts": run.manifest["models"]["experts"], "baseline": run.manifest["models"]["baseline"],
                 "equal-cost": run.manifest["models"]["equal-cost"] if controls else []}
        folders = [(config.backbone_of(number), run.path / kind / name)
                   for kind, names in kinds.items() for number, name in enumerate(names)]
        clustering = Clustering.load(run.path / "clustering", config)
        embedder_name = backbones.hub_name(getattr(clustering.embedder, "name", ""))
        groups: list[Group] = []
        for backbone in dict.fromkeys(backbone for backbone, _ in folders):
            tokenizer = backbones.tokenizer(backbone)
            places = [i for i, (other, _) in enumerate(folders) if other == backbone]
            experts = [Expert.load(folders[i][1], len(run.manifest["data"]["labels"]),
                                   tokenizer.pad_token_id, torch_device)
                       for i in places]
            encoder = clustering.embedder.encoder() if not groups and backbones.hub_name(
                backbone) == embedder_name else None
            groups.append(Group(places, tokenizer, Members(experts, encoder, bf16)))
        return cls(run, clustering, groups, [model_key("equal-cost", name) for name in kinds["equal-cost"]],
                   bf16)

    @property
    def tokenizer(self) -> Any:
        """The first expert's tokenizer; every model's in a run of one backbone."""
        return self.groups[0].tokenizer

    def outputs(self, texts: Iterable[str]) -> ModelOutputs:
        """Return the outputs of models and clusters on texts, before any gate.

        Of a run loaded with bf16, more than a few sentences are read in bfloat16. Those on which Monju or the
        baseline is near a tie are then read again in full precision: both verdicts are the same under the
        run's own gate and fusion. A single model near a tie may turn.

        Parameters
        ----------
        texts : iterable of str
            n sentences.

        Returns
        -------
        ModelOutputs

        Raises
        ------
        MonjuError
            For no sentence or an empty one.
        """
        texts = [check_text(text) for text in sentences(texts)]
        if not texts:
            raise MonjuError("there is no sentence to read: give at least one")
        rough = self.bf16 and len(texts) > FEW
        outputs = self._outputs(texts, rough)
        if rough and len(rows := np.flatnonzero(near_a_tie(self.decide(outputs)))):
            exact = self._outputs([texts[row] for row in rows], rough=False)
            for name in ("vectors", "distances", "posterior", "logits"):
                if (part := getattr(outputs, name)) is not None:
                    part[rows] = getattr(exact, name)
        return outputs

    def _outputs(self, texts: list[str], rough: bool) -> ModelOutputs:
        placement, parts = None, []
        for group in self.groups:
            tokens = backbones.encode(group.tokenizer, texts, self.config.max_tokens)
            # no sentence was cut: the embedder reads the same tokens
            uncut = max(map(len, tokens)) < self.config.max_tokens
            pool = self.clustering.embedder.pool if group.members.has_encoder and uncut else None
            logits, vectors = group.members.read(tokens, pool, rough)
            parts.append(logits)
            if vectors is not None:
                placement = self.clustering.place_vectors(vectors)
        vectors, distances, posterior = placement or self.clustering.place(texts)
        logits = np.zeros((len(texts), sum(len(group.places) for group in self.groups), len(self.labels)),
                          np.float32)
        for group, part in zip(self.groups, parts, strict=True):
            logits[:, group.places] = part
        return ModelOutputs(self.clusters, self.subsets, self.experts, self.members, self.equal_cost,
                            vectors, distances, posterior, logits, notes=self._notes(texts))

    def _notes(self, texts: list[str]) -> list[tuple[Note, ...]]:
        """Return notes on what the models do not read of each of texts [n].

        Of several backbones, the one that reads the least counts.
        """
        counts = [(bare(name), group.tokenizer,
                   *backbones.token_counts(group.tokenizer, texts, self.config.max_tokens))
                  for name, group in zip(self.config.all_backbones, self.groups)]
        notes = []
        for i, text in enumerate(texts):
            cut, limit, n = max((int(total[i] - read[i]), int(read[i]), int(total[i]))
                                for _, _, total, read, _ in counts)
            _, unknown, tokens, backbone = max((unknown[i] / max(1, read[i]), int(unknown[i]), int(read[i]),
                                                name)
                                               for name, _, _, read, unknown in counts)
            text_notes = []
            if any(backbones.is_clipped(tokenizer, text, self.config.max_tokens)
                   for _, tokenizer, *_ in counts):
                text_notes.append(Note("sentence_cut_far", {"limit": limit}))
            elif cut:
                text_notes.append(Note("sentence_cut", {"limit": limit, "n": n}))
            if unknown:
                text_notes.append(Note("sentence_unknown",
                                       {"n": unknown, "tokens": tokens, "backbone": backbone}))
            notes.append(tuple(text_notes))
        return notes


def near_a_tie(predictions: Predictions) -> Any:
    """Return whether Monju or the baseline is near a tie: bool [n].

    That is, of its two best labels neither is ahead by `TIE`.
    """
    fused = [predictions.monju] if predictions.baseline is None else [predictions.monju, predictions.baseline]
    best = np.partition(np.stack(fused, axis=1), -2)  # [n, ensembles, labels]
    return (best[..., -1] - best[..., -2] < TIE).any(axis=1)


def bare(backbone: str) -> str:
    """Return a backbone's name for people: of a folder its own name, without the path."""
    return os.path.basename(os.path.abspath(backbone)) if os.path.isdir(backbone) else backbone
