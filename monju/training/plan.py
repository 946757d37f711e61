"""Plan: which models a run trains, on which rows, from what, and what that costs. Trains nothing itself."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from monju.ensemble import subsets
from monju.ensemble.subsets import expert_names, model_key
from monju.errors import MonjuError
from monju.models import backbones
from monju.training import btm

RECIPE = ("finetuning", "lora_rank", "frozen_layers", "batch_size", "learning_rate", "warmup",
          "weight_decay", "max_tokens", "precision",
          # the settings that a model's weights follow from, beside its job
          "compile", "seed", "tuning_size", "label_names")


@dataclass(frozen=True)
class FineTuneJob:
    """One model to fine-tune: where it goes, the training rows it sees, its seed and number of steps, and the
    folder of the experts from whose average it starts (None: from the backbone)."""

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
        return model_key(self.kind, self.name)

    @property
    def model(self):
        """The model of the finished run that it is, or of which it is an earlier round."""
        return self.name if self.kind.startswith("rounds/") else self.key

    def signature(self, config, fingerprint, clusters):
        """A digest of all that the trained weights follow from, but for what it starts from: jobs of one
        signature make one model."""
        said = [fingerprint, self.rows.tolist(), self.seed, self.steps, self.backbone, self.order,
                *(getattr(config, name) for name in RECIPE)]
        said += [clusters[self.rows].tolist()] if self.order == "by-cluster" else []
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


@dataclass(frozen=True)
class Encoded:
    """A run's sentences as one backbone's tokenizer reads them: lists of token ids."""

    tokenizer: object
    train: list
    held_out: list

    @classmethod
    def by(cls, backbone, data, max_tokens):
        tokenizer = backbones.tokenizer(backbone)
        return cls(tokenizer,
                   *(backbones.encode(tokenizer, part.texts, max_tokens)
                     for part in (data.train, data.validation)))

    @property
    def lengths(self):
        return np.array([len(sentence) for sentence in self.train])


def plan(config, clusters, lengths):
    """The run's jobs in their order: experts (round by round), baselines, equal-cost controls.

    Every expert has the same seed, so that all start from one head; member i of a baseline has its own. An
    equal-cost control has the steps of an expert in all its rounds.
    """
    everything = np.arange(len(clusters))

    def steps_of(rows):
        return max(1, round(config.epochs * -(-len(rows) // config.batch_size)))

    def job(kind, name, number, rows, seed, steps=None, start=None):
        steps = steps or steps_of(rows)
        return FineTuneJob(kind, name, rows, seed, steps,
                           round(steps * config.batch_size * lengths[rows].mean()),
                   config.backbone_of(number), config.order_of(number), start)

    first = config.seed * 1000  # leaves every run seeds of its own
    seen = {name: everything[np.isin(clusters, subset)]
            for name, subset in zip(expert_names(config),
                                    subsets.expert_subsets(config.k, config.subset_size))}
    steps = {name: btm.split_steps(steps_of(rows), config.rounds) for name, rows in seen.items()}
    places = [btm.folder(number, config.rounds) for number in range(1, config.rounds + 1)]
    experts = [job(place, name, i, rows, first + 100 * number, steps[name][number], places[number - 1]
                   if number else None)
               for number, place in enumerate(places) for i, (name, rows) in enumerate(seen.items())]
    baseline = [job("baseline", f"seed{i}", i, everything, first + i) for i in range(len(seen))
                if config.baselines]
    control = [job("equal-cost", f"seed{i}", i, everything, first + i, sum(steps[name]))
               for i, name in enumerate(seen) if config.equal_cost]
    return experts + baseline + control


def cost_summary(config, jobs):
    """What is about to be trained, and what it costs beside the baseline."""
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
            raise MonjuError(f"expert {name} would see only sentences labelled "
                             f"{data.label_names[classes[0]]!r}: "
                             "choose a smaller --k, a larger --subset-size, or more data")
