"""Training: a configuration → a finished run, with progress reports.

`train` reads top to bottom: the source, the clusters, one model after another, the evaluation.
It is a generator: it works while it is read and yields what a terminal or a page can show.
It knows nothing of either.
"""

import errno
import os
import platform
import shutil
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from monju.clustering.cluster_model import Clustering
from monju.data import sources
from monju.ensemble import subsets
from monju.errors import MonjuError
from monju.models import backbones
from monju.runs.run import Run, command, refuse_taken
from monju.training import btm, engines
from monju.training.fit_jobs import checkpoints, fit_all
from monju.training.language import LanguageModelling
from monju.training.plan import cost_summary, plan
from monju.training.progress import Phase, Progress, Stage, Work
from monju.training.tasks import Classification
from monju.utils import locks

TASKS = {"classify": Classification, "lm": LanguageModelling}
__all__ = ["Phase", "Progress", "Stage", "machine", "train", "versions"]


def train(config, out, resume=False, siblings=(), watch=None, engine=None):
    """Train a whole run into the folder `out`.

    Parameters
    ----------
    config : Config or None
        The settings; with `resume`, the unfinished run's own are used instead.
    out : path
        The run's folder.
    resume : bool
        Continue an unfinished run: models that are complete are kept.
    siblings : sequence of path
        Finished runs: models that one of them has trained in exactly the same way are copied from there.
    watch : Watch, optional
        Is told of the clusters, and names the file of the pinned sentences.
    engine : Engine, optional
        Where the models are trained, from `engines.make`; by default this machine.

    Yields
    ------
    Stage or Progress

    Raises
    ------
    MonjuError
        For input that cannot be trained on, before anything is written.
    """
    if resume:
        run = Run.open(out)
        if run.finished:
            yield Stage(f"{out} is already finished.")
            return
        config = run.config
    else:
        refuse_taken(out)
    engine = engine or engines.make()
    engine.refuse(config)

    # 1. the sentences
    data = sources.load_for(config)
    yield from (Stage(note.text()) for note in data.notes)
    task = TASKS[config.task](config, data, watch)
    if resume and run.manifest["data"]["fingerprint"] != data.fingerprint:
        raise MonjuError(f"{config.data} no longer holds the sentences that {out} was started on: "
                         "bring the same data back, or train a new run")
    device = backbones.pick_device(config.device)
    yield from task.read()

    # 2. the clusters
    if resume and (run.path / "clustering").exists():
        clustering = Clustering.load(run.intact().path / "clustering", config)
    else:
        yield Stage(f"Placing {len(task.texts):,} {task.called} with {config.embedder}, then "
                    f"{config.clusterer} clusters.")
        clustering = Clustering(config).fit(task.texts, task.domains)
    sizes = dict(zip(subsets.cluster_names(config.k),
                     np.bincount(clustering.labels_, minlength=config.k).tolist()))
    task.encode(clustering)
    yield Stage("Clusters: " + ", ".join(f"{name} {size:,}" for name, size in sizes.items())
                + f" {task.called}.")

    # 3. the models
    jobs = plan(config, clustering.labels_, task.lengths)
    yield Stage(cost_summary(config, jobs))
    models = {kind: [job.name for job in jobs if job.kind == kind]
              for kind in dict.fromkeys(("experts", "baseline", "equal-cost", *(job.kind for job in jobs)))}
    manifest = {"versions": versions(), "machine": machine(device), "data": facts(data), "clusters": sizes,
                "models": models,
                "signatures": {job.key: job.signature(config, data.fingerprint, clustering.labels_)
                               for job in jobs}, **task.facts()}
    if hasattr(clustering.clusterer, "domains_"):
        manifest["domains"] = clustering.clusterer.domains_
    if not resume:
        run = Run.create(out, config, **manifest)
    with locks.holding(run.path, MonjuError(f"{out} is being trained by another process: wait for it, or "
                                            "stop it first")):
        # another process resumed it while this one read the sentences
        if resume and (run := Run.open(out)).finished:
            yield Stage(f"{out} is already finished.")
            return
        yield from fill(run, task, manifest, clustering, jobs, engine, siblings)


def fill(run, task, manifest, clustering, jobs, engine, siblings=()):
    """Train what the run folder lacks, evaluate and seal it: a generator of Stage and Progress.

    Whatever ends it early is kept in the manifest as its status and reason.
    """
    run.update(status="training", **manifest)
    try:
        if not (run.path / "clustering").exists():
            with run.folder("clustering") as folder:
                clustering.save(folder)
        run.update(files=run.listed("clustering"))  # what all else follows from: looked at before a resume
        adopt(run, jobs, manifest["signatures"], siblings)
        # a kill may come between a folder and its last line
        last_steps = {line["model"]: line["step"] for line in run.history()}
        rounds_curve = btm.measured(run)
        complete = {job.key for job in jobs if last_steps.get(job.key) == job.steps
                    and ((run.path / job.kind / job.name).exists() or rounds_curve and job.model != job.key)}
        run.sweep()
        run.keep_history({job.key: job.steps if job.key in complete else checkpoints(run, job).facts["step"]
                          for job in jobs})
        for job in jobs:
            if checkpoints(run, job).damaged:
                yield Stage(f"The checkpoint of {job.key} is damaged: {job.key} starts again.")
        fitting = yield from task.fitting(run, clustering)
        work = Work.of(task.config, task.data, jobs, task.lengths)
        speed = yield from fit_all(fitting, jobs, complete, work, engine)

        shutil.rmtree(run.path / "checkpoints", ignore_errors=True)

        # 4. what they are worth
        yield Phase(f"Reading {len(task.data.validation.texts):,} held-out {task.held_out} with every model.",
                    "evaluation", *work.standing(work.models, speed))
        yield from task.evaluate(run, cost(run, jobs))
        yield Phase("Drawing the map.", "map", *work.standing(work.models + work.evaluation, speed))
        task.draw_map(run)
        run.finish()
    except BaseException as error:
        explained = failure(run, error)
        status = "interrupted" if isinstance(error, (KeyboardInterrupt, GeneratorExit)) else "failed"
        with suppress(OSError):  # on a full disk; the run then counts as one whose process died
            if (run.path / "run.json").exists():
                run.update(status=status, reason="" if status == "interrupted" else str(explained))
        if explained is error:
            raise
        raise explained from error


def failure(run, error):
    """Return the error, or for a failure of the machine the MonjuError that explains it and how to go on."""
    message, remedy = str(error), f"continue with `{command(run.path)} --resume`"
    if isinstance(error, Exception) and not (run.path / "run.json").exists():
        return MonjuError(f"the run folder {run.path} is gone, deleted or moved while it was being trained: "
                          "train a new run")
    if isinstance(error, MonjuError) or not isinstance(error, Exception):
        return error
    if any(os.strerror(number) in message for number in (errno.ENOSPC, errno.EDQUOT)):
        return MonjuError(f"the disk that holds {run.path} is full: make room, then {remedy}")
    if isinstance(error, torch.OutOfMemoryError) or "CUDA out of memory" in message:
        return MonjuError("the GPU's memory does not do for this model: choose --finetuning lora, a smaller "
                          "--max-tokens or a smaller "
                          f"--backbone; if something else filled it, {remedy}")
    return error


def adopt(run, jobs, signatures, siblings):
    """Copy the models that finished sibling runs have trained in exactly the same way, with their history."""
    for path in siblings:
        other = Run.open(path)
        for job in jobs:
            there = other.path / job.kind / job.name
            here = run.path / job.kind / job.name
            if here.exists() or job.start or not there.is_dir() or not other.finished:
                continue
            if other.manifest.get("signatures", {}).get(job.key) == signatures[job.key]:
                with run.folder(f"{job.kind}/{job.name}") as folder:
                    shutil.copytree(there, folder, dirs_exist_ok=True)
                for line in other.history():
                    if line["model"] == job.key:
                        run.append_history(line)


def cost(run, jobs):
    """Return each model's training cost in all its rounds, from their last lines in history.jsonl."""
    last = {line["model"]: line for line in run.history()}
    costs = {}
    for job in jobs:
        lines = [last[other.key] for other in jobs if other.model == job.model]
        costs[job.model] = {"sentences": len(job.rows), "tokens": sum(line["tokens"] for line in lines),
                            "steps": sum(line["step"] for line in lines),
                            "seconds": round(sum(line["seconds"] for line in lines), 1)}
    return costs


def facts(data):
    """Return what the manifest keeps of the data: numbers and names, no sentence."""
    return {"fingerprint": data.fingerprint, "train": len(data.train.texts),
            "validation": len(data.validation.texts),
            "tuning": len(data.tuning.texts) if data.tuning else 0,
            "labels": data.labels, "label_names": data.label_names, "overlap": data.overlap,
            "notes": [note.to_json() for note in data.notes]}


def versions():
    """Return the versions that a reader needs to reproduce the run."""
    packages = ("torch", "transformers", "peft", "scikit-learn", "numpy")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def machine(device):
    """Return what the run was trained on, or a benchmark measured on."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(), "bf16": torch.cuda.is_bf16_supported()}
    description = {"device": "cpu", "threads": torch.get_num_threads(), "system": platform.machine()}
    with suppress(OSError, StopIteration):  # Linux alone names it there
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        description["processor"] = next(line.split(":", 1)[1].strip() for line in lines
                                        if line.startswith("model name"))
    return description
