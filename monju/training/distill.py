"""Distillation: one student model learns the ensemble's outputs (Hinton, Vinyals & Dean 2015).

An expert has memorised the labels of its own training sentences: its output on them is no second opinion.
So the targets are out-of-fold: on each training sentence only those experts are used that have not seen its
cluster. In-sample targets, of all experts, and hard labels alone stand beside them as contrasts.
Students lie in the run's folder students/.
"""

import time
from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from monju.config import Config
from monju.data import sources
from monju.ensemble import fusion, subsets
from monju.errors import MonjuError
from monju.inference.pipeline import Monju
from monju.models import backbones
from monju.models.classifier import Expert
from monju.runs.run import Run
from monju.runs.run_data import load_run_data, read_again
from monju.training import trainer
from monju.training.progress import Progress, Stage

TEMPERATURES, MIXINGS = (1.0, 4.0), (0.5, 1.0)  # the best pair is chosen on the tuning split
TRIED_ON = 1000  # training sentences at most, drawn, read once for each try
CHUNK = 512  # sentences read by the teacher between two reports


def out_of_fold(outputs, alpha, clusters):
    """Return α [n, experts] of the experts that have not learned the sentence's cluster [n], renormalised.

    They weigh the same where the gate gives them nothing.
    """
    unseen = 1 - subsets.membership(outputs.subsets, len(outputs.clusters)).T[clusters]  # [n, experts]
    left = alpha * unseen
    left = np.where(left.sum(axis=1, keepdims=True) > 0, left, unseen)
    return left / left.sum(axis=1, keepdims=True)


def in_sample(outputs, alpha, clusters):
    """Return α as it is: also of experts that have learned this very sentence."""
    return alpha


TARGETS = {"out-of-fold": out_of_fold, "in-sample": in_sample, "hard-labels": None}
# every layer of the backbone, or every second, as DistilBERT starts (Sanh et al. 2019)
SIZES = {"same": 1, "half": 2}


def loss(student, teacher, labels, temperature, mixing):
    """Return the distillation loss: (1 − λ) · −log p(label) + λ T² KL(teacher ‖ student), softened by T.

    Hinton, Vinyals & Dean 2015, section 2.

    Parameters
    ----------
    student, teacher : Tensor [n, labels]
        Logits.
    labels : Tensor of int [n]
        The right labels.
    temperature : float
        T > 0.
    mixing : float
        λ, 0 to 1.

    Returns
    -------
    Tensor [n]
        Each sentence's loss.
    """
    soft = kl_div(log_softmax(student / temperature, -1), log_softmax(teacher / temperature, -1),
                  log_target=True, reduction="none").sum(-1)
    hard = cross_entropy(student, labels, reduction="none")
    return (1 - mixing) * hard + mixing * temperature**2 * soft


def distill(path, sizes=("same",), targets=tuple(TARGETS), sample=None, epochs=None, temperature=None,
            mixing=None, device="auto", source=None):
    """Train students of a finished run into its folder.

    Parameters
    ----------
    path : path
        The run's folder.
    sizes : sequence of str
        Keys of SIZES.
    targets : sequence of str
        Keys of TARGETS.
    sample : int, optional
        Number of training sentences at most.
    epochs : float, optional
        Passes over the sentences; by default the run's.
    temperature, mixing : float, optional
        T and λ of `loss`, given together; by default both are chosen on the tuning split.
    device : str
        "auto", "cpu" or "cuda".
    source : str, optional
        Where the run's own sentences are now, if not where they were.

    Yields
    ------
    Stage or Progress

    Raises
    ------
    MonjuError
        Before anything is written, where the run cannot teach.
    """
    run = Run.open(path).check()
    run.refuse_task("classify")
    config = run.config
    if unknown := [name for name in (*sizes, *targets) if name not in {**SIZES, **TARGETS}]:
        raise MonjuError(f"there is no student {unknown[0]!r}; the sizes are {', '.join(SIZES)}, the targets "
                         f"{', '.join(TARGETS)}")
    if "out-of-fold" in targets and config.rounds > 1:
        raise MonjuError("after --rounds no expert is out of fold any more: distil with --targets in-sample "
                         "hard-labels")
    if (temperature is None) != (mixing is None):
        raise MonjuError("--temperature and --mixing are given together or chosen together")
    if (temperature is not None and temperature <= 0) or (mixing is not None and not 0 <= mixing <= 1):
        raise MonjuError("--temperature must be more than 0, and --mixing between 0 and 1")
    data = load_run_data(run) if source is None else read_again(run, run.manifest["data"]["fingerprint"],
                                                                source)
    if temperature is None and data.tuning is None:
        raise MonjuError("the run has no tuning split to choose on: give --temperature 2 --mixing 0.5, "
                         "or train the run with --tuning-size 2000")
    with Run.changing(path) as run:
        yield from teach(run, data, sizes, targets, sample, epochs, (temperature, mixing), device)


def teach(run, data, sizes, targets, sample, epochs, fixed, device):
    """Compute the teacher's logits, choose T and λ, train each student and add it to the run."""
    monju = Monju.of(run, device)
    student_trainer = DistillTrainer.of(monju, data, sample, epochs)
    yield Stage(f"The experts read {len(student_trainer.labels):,} training sentences.")
    yield from student_trainer.compute_logits(monju, monju.clustering.labels_)
    chosen = {}
    for target in targets:
        if TARGETS[target] and fixed[0] is None:
            yield Stage(f"Choosing temperature and mixing weight for {target} targets on "
                        f"{len(data.tuning.texts):,} tuning sentences.")
            chosen[target] = student_trainer.choose(target, data.tuning)
        else:
            chosen[target] = fixed if TARGETS[target] else (1.0, 0.0)
    for size in sizes:
        for target in targets:
            name, began = f"{size}-{target}", time.perf_counter()
            temperature, mixing = chosen[target]
            yield Stage(f"Student {name}" + (f": T = {temperature:g}, λ = {mixing:g}." if TARGETS[target]
                                             else "."))
            student = student_trainer.start(size)
            for step in student_trainer.fit(student, target, temperature, mixing):
                spent = time.perf_counter() - began
                yield Progress(name, step, step.sentences / step.seconds, step.step / step.steps,
                               spent / step.step * (step.steps - step.step))
            entry = {"temperature": temperature, "mixing": mixing, "sentences": len(student_trainer.labels),
                     "tokens": step.tokens, "steps": step.step, "seconds": round(step.seconds, 1)}
            with run.replacing() as new:
                with new.folder(f"students/{name}") as folder:
                    student.save(folder, monju.tokenizer)
                new.manifest["students"] = {**run.manifest.get("students", {}), name: entry}


class DistillTrainer:
    """The training sentences, the teachers' logits on them, and the recipe that all students share."""

    def __init__(self, config, label_names, tokenizer, tokens, texts, labels, rows, device):
        self.config, self.label_names, self.tokenizer, self.device = config, label_names, tokenizer, device
        self.tokens, self.texts, self.labels, self.rows, self.logits = tokens, texts, labels, rows, {}

    @classmethod
    def of(cls, monju, data, sample, epochs):
        """Return the trainer for a loaded run, on all its training sentences or a stratified sample."""
        config = monju.config
        rows = np.arange(len(data.train.texts))
        if sample is not None:
            if sample < len(data.label_names):
                raise MonjuError(f"--sample {sample} is too small: give at least a sentence for each label")
            rows = np.sort(sources.stratified(data.train.labels, min(sample, len(rows)), config.seed))
        texts = [data.train.texts[row] for row in rows]
        # a student is a whole model, so that half a backbone can be one; adapters learn at higher rates
        rate = config.learning_rate if config.finetuning == "full" else Config().learning_rate
        config = replace(config, finetuning="full", frozen_layers=0, learning_rate=rate, epochs=epochs
                         or config.epochs, backbone=config.backbone_of(0))
        return cls(config, monju.label_names, monju.tokenizer,
                   backbones.encode(monju.tokenizer, texts, config.max_tokens), texts,
                   data.train.labels[rows], rows, backbones.pick_device(config.device))

    def compute_logits(self, monju, clusters):
        """Compute every teacher's logits [n, labels] on the training sentences, yielding Stages.

        `clusters` [all] are the clusters of all the run's training sentences.
        """
        logits = {name: [] for name, weigh in TARGETS.items() if weigh}
        for start in range(0, len(self.texts), CHUNK):
            outputs = monju.outputs(self.texts[start : start + CHUNK])
            chunk_clusters = clusters[self.rows[start : start + CHUNK]]
            alpha = monju.decide(outputs).alpha
            for name in logits:
                weights = TARGETS[name](outputs, alpha, chunk_clusters)
                logits[name].append(fusion.TABLE[monju.config.fusion](outputs.of(outputs.experts), weights))
            if start and start % (CHUNK * 20) == 0:
                yield Stage(f"{start:,} of {len(self.texts):,} read.")
        self.logits = {name: np.concatenate(parts) for name, parts in logits.items()}

    def start(self, size):
        """Return an untrained student."""
        student = Expert.start(self.config, self.label_names, self.tokenizer.pad_token_id,
                               self.config.seed * 1000, self.device)
        if size != "same":
            encoder = getattr(student.model.base_model, "encoder", None)
            if not hasattr(encoder, "layer"):
                raise MonjuError("this backbone's layers cannot be halved: distil with --students same")
            encoder.layer = torch.nn.ModuleList(list(encoder.layer)[:: SIZES[size]])
            student.model.config.num_hidden_layers = len(encoder.layer)
        return student

    def fit(self, student, target, temperature, mixing, config=None, rows=None):
        """Train a student on the sentences: a generator of Steps.

        `config` takes the place of the run's configuration, and `rows` [m] choose some of the sentences.
        """
        config = config or self.config
        rows = np.arange(len(self.labels)) if rows is None else rows
        labels, tokens = self.labels[rows], [self.tokens[row] for row in rows]
        if TARGETS[target] is None:
            return trainer.fit(student, config, tokens, labels, config.seed)
        teacher = torch.as_tensor(self.logits[target][rows], dtype=torch.float32, device=self.device)
        truth = torch.as_tensor(labels, device=self.device)
        return trainer.fit(student, config, tokens, labels, config.seed,
                           loss_of=lambda logits, batch: loss(logits, teacher[batch], truth[batch],
                                                              temperature, mixing))

    def choose(self, target, tuning):
        """Return the (temperature, mixing) with the least −log p on the tuning split.

        Each pair is tried on a student trained on a few sentences.
        """
        tokens = backbones.encode(self.tokenizer, tuning.texts, self.config.max_tokens)
        rows, losses = sources.stratified(self.labels, TRIED_ON, self.config.seed), {}
        for temperature in TEMPERATURES:
            for mixing in MIXINGS:
                student = self.start("same")
                for _ in self.fit(student, target, temperature, mixing, replace(self.config, epochs=1.0),
                                  rows):
                    pass
                losses[temperature, mixing] = float(student.losses(tokens, tuning.labels).mean())
        return min(losses, key=losses.get)


