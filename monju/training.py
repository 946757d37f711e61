"""Training: a configuration → a finished run, told as it goes.

`train` reads top to bottom: the source, the clusters, one model after another, the evaluation.
It is a generator: it works while it is read and yields what a terminal or a page can show.
It knows nothing of either.
"""

import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np

from monju import backbones, clusterers, evaluate, sources
from monju.clustering import Clustering
from monju.ensemble import Monju, expert_names, model_key
from monju.errors import MonjuError
from monju.experts import Expert, Step
from monju.gates import subsets
from monju.predictions import save_predictions
from monju.run import Run, refuse_taken

HELD_OUT_CHECKS = 10  # points on a model's held-out curve
HELD_OUT_SENTENCES = 512  # at most, for that curve; the table is drawn from all of them


@dataclass(frozen=True)
class Stage:
    """A sentence on what happens now."""

    text: str


@dataclass(frozen=True)
class Progress:
    """One report of one model, and of the whole run: `done` is its share of all tokens, `left` the seconds to go."""

    model: str
    step: Step
    held_out: float | None
    sentences_per_s: float
    done: float
    left: float


@dataclass(frozen=True)
class Job:
    """One model to fine-tune: where it goes, the training rows it sees, its seed and number of steps."""

    kind: str
    name: str
    rows: np.ndarray
    seed: int
    steps: int
    tokens: int

    @property
    def key(self):
        return model_key(self.kind, self.name)


def train(config, out, resume=False):
    """Train a whole run into the folder `out`: a generator of Stage and Progress.

    With `resume`, the configuration is the unfinished run's own (`config` is not asked), and models
    that are complete are kept. Raises MonjuError for input that cannot be trained on, before anything
    is written.
    """
    if resume:
        run = Run.open(out)
        if run.finished:
            yield Stage(f"{out} is already finished.")
            return
        config = run.config
    else:
        refuse_taken(out)

    # 1. the sentences
    data = sources.load(config.data, text_column=config.text_column, label_column=config.label_column,
                        label_names=config.label_names, keep_overlap=config.keep_overlap,
                        sample=config.sample, seed=config.seed)
    yield from map(Stage, data.notes)
    if resume and run.manifest["data"]["fingerprint"] != data.fingerprint:
        raise MonjuError(f"{config.data} no longer holds the sentences that {out} was started on: "
                         "bring the same data back, or train a new run")
    device = backbones.pick_device(config.device)
    tokenizer = backbones.tokenizer(config.backbone)

    # 2. the clusters
    if resume and (run.path / "clustering").exists():
        clustering = Clustering.load(run.path / "clustering", config)
    else:
        yield Stage(f"Placing {len(data.train.texts):,} sentences with {config.embedder}, then {config.clusterer} clusters.")
        clustering = Clustering(config).fit(data.train.texts)
    sizes = dict(zip(clusterers.names(config.k), np.bincount(clustering.labels_, minlength=config.k).tolist()))
    refuse_one_sided(config, clustering.labels_, data)
    yield Stage("Clusters: " + ", ".join(f"{name} {size:,}" for name, size in sizes.items()) + " sentences.")

    # 3. the models
    tokens = backbones.encode(tokenizer, data.train.texts, config.max_tokens)
    held_out = backbones.encode(tokenizer, data.validation.texts, config.max_tokens)
    jobs = plan(config, clustering.labels_, np.array([len(sentence) for sentence in tokens]))
    if not resume:
        run = Run.create(out, config)
    run.update(status="training", versions=versions(), machine=machine(device), clusters=sizes, data=facts(data),
               models={kind: [job.name for job in jobs if job.kind == kind] for kind in ("experts", "baseline", "equal-cost")})
    try:
        if not (run.path / "clustering").exists():
            with run.folder("clustering") as folder:
                clustering.save(folder)
        complete = {job.key for job in jobs if (run.path / job.kind / job.name).exists()}
        run.keep_history_of(complete)
        yield from fit_all(run, config, jobs, complete, tokens, held_out, data, tokenizer, device)

        # 4. what they are worth
        yield Stage(f"Reading {len(data.validation.texts):,} held-out sentences with every model.")
        run.finish()  # the models, so that they can be loaded as anyone would
        votes = Monju.load(run.path, config.device, controls=True).votes(data.validation.texts)
        save_predictions(run, votes, data.validation.labels)
        run.write_json("metrics.json", evaluate.table(votes.decide_as(config), data.validation.labels, cost(run, jobs)))
        run.finish()
    except BaseException as error:
        status = "interrupted" if isinstance(error, (KeyboardInterrupt, GeneratorExit)) else "failed"
        if run.path.exists():
            run.update(status=status, reason="" if status == "interrupted" else str(error))
        raise


def plan(config, clusters, lengths):
    """The run's jobs in their order: experts, baselines, equal-cost controls.

    Every expert has the same seed, so that all start from one head; member i of a baseline has its own.
    """
    everything = np.arange(len(clusters))

    def job(kind, name, rows, seed, steps=None):
        steps = steps or max(1, round(config.epochs * -(-len(rows) // config.batch_size)))
        return Job(kind, name, rows, seed, steps, round(steps * config.batch_size * lengths[rows].mean()))

    first = config.seed * 1000  # leaves every run seeds of its own
    experts = [job("experts", name, everything[np.isin(clusters, subset)], first)
               for name, subset in zip(expert_names(config), subsets(config.k, config.subset_size))]
    numbers = range(len(experts))
    baseline = [job("baseline", f"seed{i}", everything, first + i) for i in numbers if config.baselines]
    control = [job("equal-cost", f"seed{i}", everything, first + i, experts[i].steps) for i in numbers if config.equal_cost]
    return experts + baseline + control


def fit_all(run, config, jobs, complete, tokens, held_out, data, tokenizer, device):
    """Fine-tune the jobs that are not complete, one after another, writing history.jsonl and each model's folder."""
    checked = held_out[:HELD_OUT_SENTENCES]
    truth = data.validation.labels[: len(checked)]
    total = sum(job.tokens for job in jobs)
    before = sum(job.tokens for job in jobs if job.key in complete)
    began, fitted = time.perf_counter(), 0
    for job in jobs:
        if job.key in complete:
            yield Stage(f"{job.key} is complete.")
            continue
        expert = Expert.start(config, len(data.labels), tokenizer.pad_token_id, job.seed, device)
        next_check = 0
        for step in expert.fit(config, [tokens[row] for row in job.rows], data.train.labels[job.rows], job.seed, job.steps):
            accuracy = None
            if step.step * HELD_OUT_CHECKS >= next_check * step.steps:
                accuracy = float((expert.logits(checked).argmax(axis=1) == truth).mean())
                next_check = step.step * HELD_OUT_CHECKS // step.steps + 1
            run.append_history({"model": job.key, **asdict(step), "held_out_accuracy": accuracy})
            spent, done = time.perf_counter() - began, fitted + job.tokens * step.step / job.steps
            yield Progress(job.key, step, accuracy, step.sentences / step.seconds, (before + done) / total,
                           spent / done * (total - before - done))
        fitted += job.tokens
        with run.folder(f"{job.kind}/{job.name}") as folder:
            expert.save(folder, tokenizer)


def refuse_one_sided(config, clusters, data):
    """Raise MonjuError where an expert would see one class only: it could learn nothing."""
    for name, subset in zip(expert_names(config), subsets(config.k, config.subset_size)):
        classes = np.unique(data.train.labels[np.isin(clusters, subset)])
        if len(classes) < 2:
            raise MonjuError(f"expert {name} would see only sentences labelled {data.label_names[classes[0]]!r}: "
                             "choose a smaller --k, a larger --subset-size, or more data")


def cost(run, jobs):
    """What each model's training took, from its last line in history.jsonl."""
    last = {line["model"]: line for line in run.history()}
    return {job.key: {"sentences": len(job.rows), "tokens": last[job.key]["tokens"],
                      "steps": last[job.key]["step"], "seconds": round(last[job.key]["seconds"], 1)} for job in jobs}


def facts(data):
    """What the manifest keeps of the data: numbers and names, no sentence."""
    return {"fingerprint": data.fingerprint, "train": len(data.train.texts), "validation": len(data.validation.texts),
            "labels": data.labels, "label_names": data.label_names, "overlap": data.overlap, "notes": data.notes}


def versions():
    """The versions that a reader needs to reproduce the run."""
    packages = ("torch", "transformers", "peft", "scikit-learn", "numpy")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def machine(device):
    """What the run was trained on."""
    import torch

    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(), "bf16": torch.cuda.is_bf16_supported()}
    return {"device": "cpu", "threads": torch.get_num_threads(), "system": platform.machine()}
