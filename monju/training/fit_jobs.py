"""Fits the jobs of a plan, several at a time, and writes their folders, history and checkpoints."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from monju.config import Config
from monju.data import sources, splits
from monju.ensemble.subsets import expert_names
from monju.models import backbones
from monju.models.classifier import Expert
from monju.runs.checkpoints import Checkpoints
from monju.runs.run import Run
from monju.training import btm, trainer, watch
from monju.training.lockstep import TokenStore
from monju.training.member import Training
from monju.training.plan import in_groups
from monju.training.progress import Progress, Stage

HELD_OUT_SENTENCES = 256  # at most, drawn for a model's curve; the table comes from all of them


class FitTask:
    """What fits jobs; sent once to each worker. A subclass says what a job's model is, and what it learns."""

    run: Run
    config: Config
    store_of: ClassVar[type[TokenStore]] = TokenStore

    def fit(self, jobs, device):
        """Fine-tune jobs in lockstep and write their folders.

        A generator of (job's number, Step).
        """
        trainings = self.trainings(jobs, device)
        for number, step in trainer.fit_in_lockstep(trainings, self.config, held_out=self.checks(jobs),
                                                    store_of=self.store_of, pinned=self.pinned(jobs)):
            yield number, step
            if step.step == step.steps:  # after the last report: a whole folder has a whole history
                with self.run.folder(f"{jobs[number].kind}/{jobs[number].name}") as folder:
                    trainings[number].expert.save(folder, self.tokenizer(jobs[number]))

    def trainings(self, jobs, device):
        """Return what each job's model is trained on, and the model as it starts."""
        raise NotImplementedError

    def checks(self, jobs):
        """Return the held-out sentences on which the models' curves are measured, or None."""
        return None

    def pinned(self, jobs):
        """Return what gives {text: token ids} of the sentences that are pinned now, or None."""
        return None

    def tokenizer(self, job):
        """Return the tokenizer that is saved beside a model of its own."""
        return backbones.tokenizer(job.backbone)


@dataclass(frozen=True)
class TrainTask(FitTask):
    """What every job of a run of classifiers needs."""

    run: Run
    config: Config
    encoded: dict  # backbone → Encoded
    labels: np.ndarray
    clusters: np.ndarray
    held_out: np.ndarray  # the held-out rows that the curves are read from
    held_out_labels: np.ndarray  # of all held-out sentences
    label_names: list[str]
    alpha: np.ndarray | None  # [training sentences, experts]; None where no expert starts from others
    pins: Path | None = None  # the file of the pinned sentences

    def checks(self, jobs):
        """Return token ids and labels of the held-out sentences of the curves."""
        encoded = self.encoded[jobs[0].backbone]
        return [encoded.held_out[row] for row in self.held_out], self.held_out_labels[self.held_out]

    def tokenizer(self, job):
        """Return the tokenizer of a job's backbone."""
        return self.encoded[job.backbone].tokenizer

    def trainings(self, jobs, device):
        """Return what each job's model is trained on, and the model as it starts."""
        return [self.training(job, self.encoded[job.backbone], device) for job in jobs]

    def pinned(self, jobs):
        """Return what gives {text: token ids} of the sentences that are pinned now, or None."""
        if self.pins is None:
            return None
        tokenizer = self.tokenizer(jobs[0])

        def read():
            texts = watch.pinned(self.pins)
            encoded = backbones.encode(tokenizer, texts, self.config.max_tokens) if texts else []
            return dict(zip(texts, encoded))

        return read

    def training(self, job, encoded, device):
        """Return what a job's model is trained on, and the model as it starts."""
        expert = Expert.start(replace(self.config, backbone=job.backbone), self.label_names,
                              encoded.tokenizer.pad_token_id, job.seed, device)
        if job.start:
            folders = [self.run.path / job.start / name for name in expert_names(self.config)]
            btm.init_from_average(expert, folders, self.alpha[job.rows].mean(axis=0))
        return Training(expert, [encoded.train[row] for row in job.rows], self.labels[job.rows], job.seed,
                        job.steps, job.order, self.clusters[job.rows],
                        checkpoints=checkpoints(self.run, job), name=job.key)


def curve_rows(labels):
    """Return the held-out rows that a model's curve is measured on.

    Every class in its proportion, whatever their order. The same for every run on the same sentences.
    """
    return sources.stratified(labels, HELD_OUT_SENTENCES, splits.SPLIT_SEED)


def fit_all(task, jobs, complete, work, engine):
    """Fine-tune the jobs that are not complete, writing history.jsonl: a generator of Stage and Progress.

    Returns the last speed in tokens/s, None where all are complete.
    """
    for job in jobs:
        if job.key in complete:
            yield Stage(f"{job.key} is complete.")
    steps_done = {job.key: job.steps if job.key in complete else checkpoints(task.run, job).facts["step"]
                  for job in jobs}
    tokens_done = {job.key: job.tokens * steps_done[job.key] / job.steps for job in jobs}
    n_parallel = len(engine.places(task.config, len(jobs)))
    parts, untidied, speeds, speed, notes = dict.fromkeys(tokens_done, 1), [], {}, None, []
    for job, step in in_rounds(task, jobs, complete, engine):
        if isinstance(step, Stage):
            yield step
            continue
        line = {"model": job.key, **asdict(replace(step, check=None))}
        del line["check"]
        if not step.place:  # on this machine
            del line["place"]
        if (note := line.pop("note")) and note not in notes:
            notes.append(note)
            yield Stage(note)
        task.run.append_history(line)
        if step.parts > parts[job.key]:
            parts[job.key] = step.parts
            yield Stage(f"The GPU's memory does not do for a whole batch: {job.key} reads it in {step.parts} "
                        "parts, to the same result.")
        tokens_done[job.key] = job.tokens * step.step / job.steps
        # by the models' own clocks: neither a pause nor the start of a process counts
        speeds[job.key] = step.tokens / step.seconds
        open_jobs = sum(tokens_done[other.key] < other.tokens for other in jobs)
        speed = float(np.mean(list(speeds.values()))) * max(1, min(n_parallel, open_jobs))
        yield Progress(job.key, step, step.sentences / step.seconds,
                       *work.standing(sum(tokens_done.values()), speed))
        # not before the model's folder is there with its whole history: until then a kill needs it
        untidied += [job] * (step.step == job.steps)
        untidied = [other for other in untidied if not tidied(task.run, other)]
    return speed and float(np.mean(list(speeds.values()))) * n_parallel


def in_rounds(task, jobs, complete, engine):
    """Yield (job, Step) or (None, Stage), as the engine reports on the jobs that are not complete.

    Jobs that others start from come first.
    """
    for start in dict.fromkeys(job.start for job in jobs):
        group = [job for job in jobs if job.start == start]
        places = engine.places(task.config, len(group))
        waiting = in_groups([job for job in group if job.key not in complete], places)
        for number, report in engine.run(task, waiting, places) if waiting else ():
            if isinstance(report, Stage):
                yield None, report
            else:
                member, step = report
                yield waiting[number][member], step


def checkpoints(run, job):
    """Return the checkpoints of a model in training."""
    return Checkpoints(run.path / "checkpoints" / job.key)


def tidied(run, job):
    """Remove the checkpoint of a model whose folder is there; return whether it is."""
    exists = (run.path / job.kind / job.name).exists()
    if exists:
        checkpoints(run, job).clear()
    return exists
