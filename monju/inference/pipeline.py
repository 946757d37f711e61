"""Monju: a finished run, loaded; sentences in, readings out.

The way of a sentence: embed → distances → α (gate) → every model's logits → fusion → verdict.
`Reading` is the one object that crosses from here to the page, the command line and the tests.
"""

import os
from copy import copy
from dataclasses import replace

import numpy as np
from scipy.special import softmax

from monju.clustering.cluster_model import Clustering
from monju.data.inputs import sentences
from monju.data.notes import Note
from monju.data.rows import UNPRINTABLE
from monju.ensemble import subsets
from monju.ensemble.outputs import ModelOutputs, Reading, Verdict
from monju.ensemble.subsets import expert_names, model_key
from monju.errors import MonjuError
from monju.models import backbones
from monju.models.batched import BatchedModels
from monju.models.classifier import Expert
from monju.runs.run import Run
from monju.utils.cache import once

TIE = 0.2  # more than bf16 moves one logit against another: 0.13 at most in the 29,232 answers measured (docs/performance.md)


class Monju:
    """A loaded run: `read` and `predict` sentences with it.

    >>> monju = Monju.load("trained/sst2-minilm")           # doctest: +SKIP
    >>> monju.read(["a quiet triumph"])[0].monju.name       # doctest: +SKIP
    'positive'
    """

    def __init__(self, run, clustering, tokenizers, models, members, equal_cost=(), bf16=False):
        self.run, self.config, self.clustering, self.tokenizers, self.models = run, run.config, clustering, tokenizers, models
        self.labels, self.label_names = run.manifest["data"]["labels"], run.manifest["data"]["label_names"]
        self.subsets = subsets.expert_subsets(self.config.k, self.config.subset_size)
        self.clusters = subsets.cluster_names(self.config.k)
        self.experts = expert_names(self.config)
        self.members, self.equal_cost = list(members), list(equal_cost)
        self.way, self.bf16 = None, bf16

    @property
    def tokenizer(self):
        """The first expert's tokenizer; every model's in a run of one backbone."""
        return self.tokenizers[self.config.backbone_of(0)]

    @once
    def stacks(self):
        """For each backbone, the first expert's first: (its models' places among all, its tokenizer, its models as one Stack);
        the embedder's encoder is among the first's models where it is their own backbone."""
        return self._stacked(bf16=False)

    @once
    def rough(self):
        """The same, working in bf16."""
        return self._stacked(bf16=True)

    def _stacked(self, bf16):
        groups = self.experts, self.members, self.equal_cost
        of = [self.config.backbone_of(number) for group in groups for number in range(len(group))]
        embeds = backbones.hub_name(getattr(self.clustering.embedder, "name", ""))
        found = []
        for backbone in dict.fromkeys(of):
            places = [place for place, name in enumerate(of) if name == backbone]
            asked = [self.models[sum(groups, [])[place]] for place in places]
            guest = self.clustering.embedder.encoder() if not found and backbones.hub_name(backbone) == embeds else None
            tokenizer = self.tokenizers[backbone]
            found.append((places, tokenizer, BatchedModels([(expert.model, expert.low_rank) for expert in asked], tokenizer.pad_token_id,
                                                   asked[0].device, guest, bf16)))
        return found

    @property
    def stack(self):
        """The models on the first expert's backbone as one; all models in a run of one backbone."""
        return self.stacks[0][2]

    @property
    def pays_in_bf16(self):
        """Whether many sentences are read faster in bf16: by a processor that computes in it (not measured on a GPU)."""
        return self.stack.device.type == "cpu" and backbones.computes_in_bf16(self.stack.device)

    @classmethod
    def load(cls, path, device="auto", controls=False, bf16=False):
        """Open a finished run. `controls` also loads the equal-cost models, which no verdict needs; with `bf16` sentences
        are read in that precision (see `votes`).

        Raises MonjuError for a folder that is no run, unfinished, damaged or not wholly there.
        """
        return cls.of(Run.open(path).check(), device, controls, bf16)

    @classmethod
    def of(cls, run, device="auto", controls=False, bf16=False):
        """As `load`, for a run whose models are there but which is not sealed yet."""
        device = backbones.pick_device(device)
        config, models = replace(run.config, device=device.type), run.manifest["models"]  # here, not where it was trained
        names = {"experts": models["experts"], "baseline": models["baseline"],
                 "equal-cost": models["equal-cost"] if controls else []}
        tokenizers = {backbone: backbones.tokenizer(backbone) for backbone in config.all_backbones}
        labels = len(run.manifest["data"]["labels"])
        loaded = {model_key(kind, name): Expert.load(run.path / kind / name, labels,
                                                     tokenizers[config.backbone_of(number)].pad_token_id, device)
                  for kind, members in names.items() for number, name in enumerate(members)}
        clustering = Clustering.load(run.path / "clustering", config)
        opened = cls(run, clustering, tokenizers, loaded, names["baseline"],
                     [model_key("equal-cost", name) for name in names["equal-cost"]], bf16)
        _ = opened.stacks, bf16 and opened.rough  # now, not when the first sentence comes
        return opened

    def votes(self, texts):
        """texts [n], any iterable of strings → Votes, read in bf16 or not, as the run was loaded.

        Raises MonjuError for an empty sentence, and for what holds no strings (`inputs.sentences`).

        In bf16 logits are rough; a model near to a tie on a sentence reads it again in full precision, and where an ensemble is
        near to one all do, so that labels are those of full precision under the run's own gate and fusion (`under` others an
        ensemble that is near to a tie decides on rough logits).
        """
        texts = [check_text(text) for text in sentences(texts)]
        if not texts:
            raise MonjuError("there is no sentence to read: give at least one")
        if not self.bf16:
            return self._votes(texts, self.stacks)
        found = self._votes(texts, self.rough)
        models, ensembles = near_a_tie(self.decide(found))
        if len(rows := np.flatnonzero(ensembles)):
            again = self._votes([texts[row] for row in rows], self.stacks)
            for name in ("vectors", "distances", "posterior", "logits"):
                if (part := getattr(found, name)) is not None:
                    part[rows] = getattr(again, name)
        models[rows] = False
        for places, tokenizer, stack in self.stacks:
            if len(rows := np.flatnonzero(models[:, places].any(axis=1))):
                at, wanted = np.ix_(rows, places), models[rows][:, places]
                again = stack.some_logits(backbones.encode(tokenizer, [texts[row] for row in rows], self.config.max_tokens), wanted)
                found.logits[at] = np.where(wanted[..., None], again, found.logits[at])
        return found

    def _votes(self, texts, stacks):
        (places, tokenizer, stack), *others = stacks
        tokens, embedder = backbones.encode(tokenizer, texts, self.config.max_tokens), self.clustering.embedder
        if stack.guest and max(map(len, tokens)) < self.config.max_tokens:  # no sentence was cut
            logits, vectors = stack.logits_and_vectors(tokens, embedder.pool)
            vectors, distances, posterior = self.clustering.place_vectors(vectors)
        else:
            logits, (vectors, distances, posterior) = stack.logits(tokens, beside=lambda: self.clustering.place(texts))
        if others:
            found, logits = logits, np.zeros((len(texts), len(self.models), stack.labels), np.float32)
            logits[:, places] = found
            for places, tokenizer, stack in others:
                logits[:, places], _ = stack.logits(backbones.encode(tokenizer, texts, self.config.max_tokens))
        return ModelOutputs(self.clusters, self.subsets, self.experts, self.members, self.equal_cost,
                     vectors, distances, posterior, logits)

    def predict(self, texts):
        """texts [n] → Predictions: arrays distances [n,k], alpha [n,experts], logits [n,models,labels],
        monju [n,labels] and baseline [n,labels] (fused logits)."""
        return self.decide(self.votes(texts))

    def decide(self, votes):
        """Votes → Predictions, by the run's gate and fusion, or what `under` put in their place."""
        return votes.decide_as(self.config) if self.way is None else self.way[1](votes)

    def read(self, texts):
        """texts [n], any iterable of strings → a list of n Readings, each with its own text."""
        texts = sentences(texts)
        return self.readings(texts, self.votes(texts)) if texts else []

    def readings(self, texts, votes):
        """The Readings [n] of texts [n] whose votes are known already: the gate's and the fusion's part alone."""
        texts = [check_text(text) for text in sentences(texts)]
        if len(texts) != len(votes.logits):
            raise MonjuError(f"there are {len(texts):,} sentences and the votes on {len(votes.logits):,}: "
                             "give as many of each")
        found = self.decide(votes)
        return [Reading(text=text, vector=found.vectors[i],
                        distances=dict(zip(found.clusters, found.distances[i].tolist())),
                        alpha=dict(zip(found.experts, found.alpha[i].tolist())),
                        logits=dict(zip(found.models, found.logits[i])),
                        monju=self.verdict(found.monju[i]),
                        baseline=None if found.baseline is None else self.verdict(found.baseline[i]),
                        notes=notes)
                for i, (text, notes) in enumerate(zip(texts, self._notes(texts)))]

    def _notes(self, texts):
        """What the run's models do not see of each of texts [n]: a list of tuples of Notes.

        Of several backbones the one that sees the least is told.
        """
        counts = [(bare(name), tokenizer, *backbones.token_counts(tokenizer, texts, self.config.max_tokens))
                  for name, tokenizer in self.tokenizers.items()]
        found = []
        for i, text in enumerate(texts):
            lost, limit, n = max((int(there[i] - read[i]), int(read[i]), int(there[i])) for _, _, there, read, _ in counts)
            notes = []
            if any(backbones.is_clipped(tokenizer, text, self.config.max_tokens) for _, tokenizer, *_ in counts):
                notes.append(Note("sentence_cut_far", {"limit": limit}))
            elif lost:
                notes.append(Note("sentence_cut", {"limit": limit, "n": n}))
            _, unknown, tokens, backbone = max((unknown[i] / max(1, read[i]), int(unknown[i]), int(read[i]), name)
                                               for name, _, _, read, unknown in counts)
            if unknown:
                notes.append(Note("sentence_unknown", {"n": unknown, "tokens": tokens, "backbone": backbone}))
            found.append(tuple(notes))
        return found

    def under(self, way=None, **settings):
        """The same models under another gate or fusion (gate, sharpness, temperature, power, top_k, fusion), or deciding in
        another `way`: its name and a function Votes → Predictions (see `combiners`).

        Raises MonjuError for a setting that cannot be, such as a gate that the run does not feed.
        """
        other = copy(self)
        other.config, other.way = replace(self.config, **settings), way
        return other

    @property
    def gate(self):
        """The name of what decides: the gate's, or the way's in its place."""
        return self.config.gate if self.way is None else self.way[0]

    def verdict(self, logits):
        """Fused logits [labels] → Verdict."""
        best = int(logits.argmax())
        return Verdict(logits, softmax(logits), self.labels[best], self.label_names[best])


def bare(backbone):
    """A backbone's name for people: of a folder its own name, without the way to it."""
    return os.path.basename(os.path.abspath(backbone)) if os.path.isdir(backbone) else backbone


def near_a_tie(found):
    """Predictions on n sentences → bool [n, models] and [n]: whether of a model's two best labels, and of an ensemble's, neither
    is ahead by `TIE`."""
    def near(answers):
        best = np.partition(answers, -2)
        return best[..., -1] - best[..., -2] < TIE

    return near(found.logits), near(found.monju) | (False if found.baseline is None else near(found.baseline))


def check_text(text):
    """The sentence as a training source would have cleaned it, or a MonjuError where nothing is left."""
    cleaned = UNPRINTABLE.sub(" ", text).strip() if isinstance(text, str) else ""
    if not cleaned:
        raise MonjuError("a sentence is empty: type at least one word")
    return cleaned
