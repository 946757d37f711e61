"""Plan: which models a run trains, on which rows, from what, and what that costs. Trains nothing itself."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from monju.data.notes import refusal
from monju.ensemble import subsets
from monju.ensemble.subsets import expert_names, model_key
from monju.models import backbones
from monju.training import btm

RECIPE = ("finetuning", "lora_rank", "frozen_layers", "batch_size", "learning_rate", "warmup",
          "weight_decay", "max_tokens", "precision",
          # the settings that a model's weights follow from, beside its job
          "seed", "tuning_size", "label_names")


@dataclass(frozen=True)
class FineTuneJob:
    """One model to fine-tune.

    Parameters
    ----------
    kind, name : str
        Where it goes in the run's folder: KIND/NAME.
    rows : ndarray of int
        The training rows it sees.
    seed, steps : int
        Its seed and number of optimizer steps.
    tokens : int
        About how many tokens it is trained on.
    backbone, order : str
        The backbone's name and the sampler's.
    start : str, optional
        The folder of the experts from whose average it starts; by default it starts from the backbone.
    """

    kind: str
    name: str
    rows: np.ndarray
    seed: int
    steps: int
    tokens: int
    backbone: str
    order: str
    start: str | None = None

    @property
    def key(self):
        """The model's name in the run's history and tables."""
        return model_key(self.kind, self.name)

    @property
    def model(self):
        """The model of the finished run that it is, or of which it is an earlier round."""
        return self.name if self.kind.startswith("rounds/") else self.key

    def signature(self, config, fingerprint, clusters):
        """Return a digest of all that the trained weights follow from, but for what it starts from.

        Jobs of one signature make one model.
        """
        inputs = [fingerprint, self.rows.tolist(), self.seed, self.steps, self.backbone, self.order,
                  *(getattr(config, name) for name in RECIPE)]
        inputs += [clusters[self.rows].tolist()] if self.order == "by-cluster" else []
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


@dataclass(frozen=True)
class Encoded:
    """A run's sentences as token ids of one backbone's tokenizer: n lists for each split."""

    tokenizer: object
    train: list
    held_out: list

    @classmethod
    def by(cls, backbone, data, max_tokens):
        """Return the data's training and held-out sentences, encoded by a backbone's tokenizer."""
        tokenizer = backbones.tokenizer(backbone)
        return cls(tokenizer,
                   *(backbones.encode(tokenizer, part.texts, max_tokens)
                     for part in (data.train, data.validation)))

    @property
    def lengths(self):
        """Lengths of the training sentences in tokens, ndarray of int [n]."""
        return np.array([len(sentence) for sentence in self.train])


def plan(config, clusters, lengths):
    """Return the run's jobs in their order: experts (round by round), baselines, equal-cost controls.

    Every expert has the same seed, so that all start from one head; member i of a baseline has its own. An
    equal-cost control has the steps of an expert in all its rounds.

    Parameters
    ----------
    config : Config
        The run's settings.
    clusters : ndarray of int [n]
        Cluster of each training sentence.
    lengths : ndarray of int [n]
        Their lengths in tokens.

    Returns
    -------
    list of FineTuneJob
    """
    all_rows = np.arange(len(clusters))

    def steps_of(rows):
        return max(1, round(config.epochs * -(-len(rows) // config.batch_size)))

    def job(kind, name, number, rows, seed, steps=None, start=None):
        steps = steps or steps_of(rows)
        return FineTuneJob(kind, name, rows, seed, steps,
                           round(steps * config.batch_size * lengths[rows].mean()),
                           config.backbone_of(number), config.order_of(number), start)

    first_seed = config.seed * 1000  # leaves every run seeds of its own
    rows_of = {name: all_rows[np.isin(clusters, subset)]
               for name, subset in zip(expert_names(config),
                                       subsets.expert_subsets(config.k, config.subset_size))}
    steps = {name: btm.split_steps(steps_of(rows), config.rounds) for name, rows in rows_of.items()}
    folders = [btm.folder(number, config.rounds) for number in range(1, config.rounds + 1)]
    experts = [job(folder, name, i, rows, first_seed + 100 * number, steps[name][number], folders[number - 1]
                   if number else None)
               for number, folder in enumerate(folders) for i, (name, rows) in enumerate(rows_of.items())]
    baseline = [job("baseline", f"seed{i}", i, all_rows, first_seed + i) for i in range(len(rows_of))
                if config.baselines]
    control = [job("equal-cost", f"seed{i}", i, all_rows, first_seed + i, sum(steps[name]))
               for i, name in enumerate(rows_of) if config.equal_cost]
    return experts + baseline + control


def in_groups(jobs, devices):
    """Return lists of the jobs that are trained in lockstep, each list on one device at a time.

    On a GPU those that share a backbone: there the number of kernels that a step launches costs most, and one
    step of all models launches as many as one step of one. They are dealt out to the GPUs, the longest first.
    On the CPU each job is alone.
    """
    if devices[0].type == "cpu":
        return [[job] for job in jobs]
    alike = {}
    for job in jobs:
        alike.setdefault(job.backbone, []).append(job)
    groups = []
    for some in alike.values():
        longest_first = sorted(some, key=lambda job: -job.tokens)
        groups += [longest_first[first :: len(devices)] for first in range(min(len(devices), len(some)))]
    return groups


def cost_summary(config, jobs):
    """Return one sentence on what is about to be trained, and what it costs beside the baseline."""
    experts = sum(job.tokens for job in jobs if job.kind not in ("baseline", "equal-cost"))
    baseline = sum(job.tokens for job in jobs if job.kind == "baseline")
    beside = f", {experts / baseline:.0%} of the baseline's {baseline:,}" if baseline else ""
    return (f"C({config.k}, {config.subset_size}) = {len(expert_names(config))} experts, each on "
            f"{config.subset_size} of {config.k} clusters: "
            f"about {experts:,} tokens{beside}.")


def refuse_one_sided(config, clusters, data):
    """Raise MonjuError where an expert would see one class only: it could learn nothing."""
    for name, subset in zip(expert_names(config), subsets.expert_subsets(config.k, config.subset_size)):
        classes = np.unique(data.train.labels[np.isin(clusters, subset)])
        if len(classes) < 2:
            raise refusal("one_sided", name=name, label=data.label_names[classes[0]])
