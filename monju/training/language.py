"""Language: what training does for running text; `tasks` has the same for labels of sentences.

Documents become passages, which are what is clustered and learned. With --finetuning last-state the decoder
reads each passage once, for all models and all epochs.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from monju.config import Config
from monju.data.rows import Split
from monju.errors import MonjuError
from monju.evaluation import cluster_map, perplexity
from monju.inference.language import LanguageRun
from monju.models import backbones
from monju.models.causal import CausalExpert, edges, passages
from monju.models.last_state import CUT, Adapter, LastStateExpert, Shared
from monju.models.trunk import StateCache, Trunk, words_in_use
from monju.runs.run import Run
from monju.training import from_scratch
from monju.training.fit_jobs import FitTask, checkpoints
from monju.training.lockstep import TokenStore
from monju.training.member import Training
from monju.training.progress import Phase, Stage
from monju.training.text_stores import StateStore, TextStore


@dataclass(frozen=True)
class LanguageTask(FitTask):
    """What every job of a run of language models needs."""

    run: Run
    config: Config
    tokens: list[list[int]]
    clusters: np.ndarray
    start_token: int
    store_of: ClassVar[type[TokenStore]] = TextStore

    def trainings(self, jobs, device):
        """Return what each job's model is trained on, and the model as it starts."""
        return [self.training(self.expert(job, device), job) for job in jobs]

    def expert(self, job, device):
        """Return a job's model before training."""
        return CausalExpert.start(self.config, self.start_token, job.seed, device)

    def training(self, expert, job):
        """Return what a model is trained on: a row's label is its number in the corpus."""
        return Training(expert, [self.tokens[row] for row in job.rows], np.asarray(job.rows), job.seed,
                        job.steps, job.order, self.clusters[job.rows],
                        checkpoints=checkpoints(self.run, job), name=job.key)

    def tokenizer(self, job):
        """Return the decoder's tokenizer."""
        return backbones.tokenizer(self.config.backbone)


@dataclass(frozen=True)
class LastStateTask(LanguageTask):
    """The same where all models share the decoder: its states of the corpus lie in the cache."""

    words: np.ndarray
    head: np.ndarray  # [cut, width]
    bias: np.ndarray | None
    vocabulary: int
    states: StateCache
    store_of: ClassVar[type[TokenStore]] = StateStore

    def trainings(self, jobs, device):
        """Return what each job's model is trained on, and the model as it starts."""
        places = np.full(self.vocabulary, -1, np.int64)
        places[self.words] = np.arange(len(self.words))
        head = torch.from_numpy(self.head).clone().to(device)  # torch aligns its own
        bias = None if self.bias is None else torch.from_numpy(self.bias).to(device)
        shared = Shared(self.words, head, bias, self.states.load(), places)

        def expert(job):
            adapter = Adapter(head.shape[1], len(head), self.config.lora_rank, job.seed)
            return LastStateExpert(adapter, shared, self.start_token, device)

        return [self.training(expert(job), job) for job in jobs]

    def tokenizer(self, job):
        """Return None: nothing of the decoder's is saved beside an adapter."""


class LanguageModelling:
    """Running text.

    Attributes
    ----------
    texts, domains : list [n]
        The passages, which are clustered, and their documents' domains where there are several sources.
    lengths : ndarray of int [n]
        Their lengths in tokens.
    """

    called, held_out = "passages", "documents"

    def __init__(self, config, data, watch=None):  # of sentences alone
        self.config, self.data = config, data

    def read(self):
        """Cut the documents into passages: a generator of Stage. A decoder that cannot be had is told."""
        config, data = self.config, self.data
        if config.backbone == from_scratch.NAME:
            folder = yield from from_scratch.decoder(config, data)
            self.own_decoder, self.decoder = folder, replace(config, backbone=str(folder))
        else:
            self.own_decoder, self.decoder = None, config
        self.tokenizer = backbones.tokenizer(self.decoder.backbone)
        self.rows = passages(self.tokenizer, data.train.texts, config.max_tokens)
        self.texts = self.rows.texts
        self.domains = data.train.domains and [data.train.domains[number] for number in self.rows.documents]
        self.lengths = np.array([len(row) for row in self.rows.tokens])
        n = int(self.lengths.sum())
        yield Stage(f"{len(data.train.texts):,} documents are {len(self.rows.tokens):,} passages of at most "
                    f"{config.max_tokens} tokens, {n:,} tokens in all.")
        if len(self.rows.tokens) < config.batch_size:
            raise MonjuError(f"{n:,} tokens in {len(self.rows.tokens)} passages are fewer than one batch of "
                             f"--batch-size {config.batch_size}: bring more text, or choose a smaller one")

    def encode(self, clustering):
        """Do nothing: passages are tokens already."""

    def facts(self):
        """Return what the manifest keeps beside the data's own facts."""
        return {"passages": len(self.rows.tokens), "tokens": int(self.lengths.sum())}

    def fitting(self, run, clustering):
        """Return what fits the jobs: a generator of Stage and Phase that returns it."""
        if self.own_decoder and not (run.path / "decoder").exists():
            with run.folder("decoder") as folder:
                shutil.copytree(self.own_decoder, folder, dirs_exist_ok=True)
        start, _ = edges(self.tokenizer)
        given = run, self.decoder, self.rows.tokens, clustering.labels_, start
        if self.config.finetuning != "last-state":
            return LanguageTask(*given)
        trunk = Trunk(self.decoder.backbone, backbones.pick_device(self.config.device))
        words = words_in_use(self.rows.tokens, CUT)
        held_out = passages(self.tokenizer, self.data.validation.texts, self.config.max_tokens, ends=False)
        states, others = (StateCache(trunk, rows.tokens, words) for rows in (self.rows, held_out))
        total = int(self.lengths.sum()) + sum(map(len, held_out.tokens))
        share = int(self.lengths.sum()) / total
        yield Stage(f"The decoder reads {total:,} tokens once, for all models.")
        for part, before, of in ((states, 0.0, share), (others, share, 1 - share)):
            for done in part.fill():
                yield Phase(f"The decoder has read {before + of * done:.0%}.", "states", 0.0, None)
        run.update(decoder=trunk.fingerprint())
        buffer = io.BytesIO()
        np.save(buffer, words.astype(np.int32), allow_pickle=False)
        run.write_bytes("words.npy", buffer.getvalue())
        at = torch.from_numpy(words).to(trunk.device)
        bias = None if trunk.bias is None else trunk.bias[at].float().cpu().numpy()
        return LastStateTask(*given, words, trunk.head[at].float().cpu().numpy(), bias, trunk.vocabulary,
                             states.without_trunk())

    def evaluate(self, run, cost):
        """Write the run's table: a generator of Stage. `cost` is by model."""
        yield from ()
        self.language = LanguageRun.of(run, self.config.device, controls=True)
        table = perplexity.table(self.language, self.data.validation, cost,
                                 unigrams(self.rows.tokens, len(self.tokenizer)))
        run.write_json("metrics.json", table)

    def draw_map(self, run):
        """Draw the map of the passages."""
        split = Split(self.texts, np.zeros(len(self.texts), np.int64))
        _, held_out, _ = self.language.clustering.place(self.data.validation.texts)
        cluster_map.build(run, self.language, split, self.config.map_size, held_out)


def unigrams(tokens: Sequence[list[int]], vocabulary: int) -> np.ndarray:
    """Return each token's log-probability in a text, whatever stands before it, one added to each count."""
    counts = np.bincount(np.concatenate([np.array(row) for row in tokens]), minlength=vocabulary) + 1.0
    return np.log(counts / counts.sum())
