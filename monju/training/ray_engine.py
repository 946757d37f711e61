"""Ray engine: every group of models is a task of a Ray cluster, with a GPU or CPUs of its own.

The machines share no disk. A task gets the files that its models start from and trains in a folder of its
own machine; between its reports it sends checkpoints and finished models, which this process puts in the
run's folder as if they had been trained here. A group whose process or machine is lost is started again,
from the last checkpoints that came.
"""

import json
import os
import signal
import socket
import tempfile
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import replace

import torch

from monju.errors import MonjuError
from monju.runs.run import Run, command
from monju.training import from_scratch
from monju.training.fit_jobs import checkpoints
from monju.training.progress import Stage
from monju.utils.files import ROOT, write
from monju.utils.quiet import quiet

LOSSES = 3  # of a group in a row, with no checkpoint between them, until it is given up
PATIENCE = 30  # seconds that a group waits for its place until that is told


class RayEngine:
    """Trains on a Ray cluster: see `engines.Engine`.

    Parameters
    ----------
    address : str, optional
        HOST:PORT of the cluster's head. By default what Ray finds: $RAY_ADDRESS, else the cluster that this
        machine is a node of, else this machine alone until the process ends.

    Raises
    ------
    MonjuError
        Where Ray is not installed, and where no cluster is reached.
    """

    def __init__(self, address=None):
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when Ray is imported
        try:
            import ray
        except ImportError:
            raise MonjuError("--engine ray needs Ray: install it with `pip install -r "
                             "docs/requirements-cluster.txt`, or leave --engine out") from None
        self.ray = ray
        if not ray.is_initialized():
            connect(ray, address)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self.gpus = int(sum(node["Resources"].get("GPU", 0) for node in nodes))
        # of each node that computes, as it is now: the last bits should not depend on a node that is lost
        self.cores = [cores for node in nodes if (cores := int(node["Resources"].get("CPU", 0)))]
        self.numbers = {node["NodeID"]: number for number, node in enumerate(nodes, 1)}

    def refuse(self, config):
        """Raise MonjuError for language models that need what lies in this machine's cache."""
        named = [f"--backbone {from_scratch.NAME}"] * (config.backbone == from_scratch.NAME)
        named += ["--finetuning last-state"] * (config.finetuning == "last-state")
        if config.task == "lm" and named:
            raise MonjuError(f"{named[0]} keeps files in the cache of one machine: train with --engine local")

    def places(self, config, jobs):
        """Return a device for each of the jobs that run at the same time.

        With --device auto these are GPUs where the cluster has any.
        """
        on_gpus = config.device == "cuda" or config.device == "auto" and self.gpus > 0
        most = max(1, self.gpus if on_gpus else sum(self.cores))
        return [torch.device("cuda" if on_gpus else "cpu")] * min(config.workers or most, most, max(1, jobs))

    def run(self, task, groups, places):
        """Run every group of a `fit_jobs.FitTask`: see `engines.Engine`.

        Raises
        ------
        MonjuError or RuntimeError
            Where a group failed for good, after all others have ended.
        """
        ray, shared = self.ray, self.ray.put(task)
        threads = max(1, min(self.cores, default=1) // -(-len(places) // max(1, len(self.cores))))
        needs = {"num_gpus": 1} if places[0].type == "cuda" else {"num_cpus": threads}
        remote = ray.remote(_fit).options(num_returns="streaming", max_retries=0, **needs)
        waiting = deque(Group(task.run, number, jobs, self.numbers) for number, jobs in enumerate(groups))
        running, failed = [], []
        try:
            while waiting or running:
                while waiting and len(running) < len(places):
                    running.append(waiting.popleft())
                    running[-1].start(remote.remote, shared, places[0], threads, os.getcwd())
                for group in running:
                    if group.is_late():
                        yield group.number, Stage(f"{group.names}: waiting for a free place in the cluster, "
                                                  f"with {of(needs)}.")
                ready, _ = ray.wait([group.stream for group in running], timeout=1)
                for group in [group for group in running if group.stream in ready]:
                    try:
                        kind, told = ray.get(next(group.stream))
                        for report in group.take(kind, told):
                            yield group.number, report
                        if kind != "failed":
                            continue
                        failed.append(told)
                    except StopIteration:
                        pass
                    except ray.exceptions.RayError as error:  # its process or machine is gone
                        group.losses += 1
                        text = f"{group.names}: lost at {group.place} ({type(error).__name__})"
                        if group.losses > LOSSES:
                            failed.append(MonjuError(f"{text} {group.losses} times, perhaps for want of "
                                                     "memory"))
                        elif group.left():
                            waiting.append(group)
                            yield group.number, Stage(f"{text}, started again from its last checkpoint.")
                    running.remove(group)
        finally:
            for group in running:
                ray.cancel(group.stream, force=True)
        if failed:
            kind = MonjuError if all(isinstance(error, MonjuError) for error in failed) else RuntimeError
            raise kind("; ".join(map(str, failed)) + ". All other models are kept: continue with "
                       f"`{command(task.run.path)} --resume`")


class Group:
    """A group of jobs, the task that fits it, and what came of it."""

    def __init__(self, run, number, jobs, numbers):
        self.run, self.number, self.jobs = run, number, jobs
        self.numbers = numbers  # of the nodes: a public page names no address
        self.losses, self.reached = 0, Counter()  # {member: its last step that was passed on}

    def left(self):
        """Return the numbers of the jobs whose models are not here yet."""
        return [member for member, job in enumerate(self.jobs) if not folder(self.run, job).exists()]

    def start(self, submit, task, device, threads, where):
        """Submit the task that fits what is left."""
        self.members, self.began = self.left(), time.monotonic()
        self.place, self.told = "no node yet", False
        jobs = [self.jobs[member] for member in self.members]
        self.names = ", ".join(job.key for job in jobs)
        self.stream = submit(task, jobs, inputs(self.run, jobs), device, threads, where)

    def is_late(self):
        """Return whether the task has waited long for its place, once."""
        late = not self.told and time.monotonic() > self.began + PATIENCE
        self.told = self.told or late
        return late

    def take(self, kind, told):
        """Yield what is to be passed on of a message of the task, and keep the files that it brings."""
        if kind == "place":
            node, address, device = told
            number = self.numbers.setdefault(node, len(self.numbers) + 1)
            self.place, self.told = f"node {number}, {device}", True
            yield Stage(f"{self.names}: on {self.place}, at {address}.")
        elif kind == "report":
            member, step = self.members[told[0]], told[1]
            if step.step > self.reached[member]:  # else it was told before the process was lost
                self.reached[member] = step.step
                yield member, replace(step, place=self.place)
        elif kind != "failed":
            member, files = told
            job = self.jobs[self.members[member]]
            if kind == "checkpoint":
                checkpoints(self.run, job).put(files)
                self.losses = 0
            else:
                with self.run.folder(f"{job.kind}/{job.name}") as model:
                    for name, content in files.items():
                        write(model / name, content)


def connect(ray, address):
    """Join the cluster, and take this code there."""
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address not in ("auto", "local"):  # Ray itself would try for a minute
        try:
            host, port = address.rsplit(":", 1)
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, ValueError, OverflowError):
            raise MonjuError(f"no Ray cluster answers at {address}: give the HOST:PORT that `ray start "
                             "--head` printed, or start a cluster first") from None
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR",
                 runtime_env={"py_modules": [str(ROOT / "monju")],
                              "env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}})
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise MonjuError(f"the Ray cluster cannot be joined ({reason}): bring its token here and train on "
                         "one of its machines, as docs/cluster.md says") from None
    with suppress(ValueError):  # not the main thread: Ray has set nothing
        signal.signal(signal.SIGTERM, before)


def of(needs):
    """Return what a task needs, in words."""
    [(name, count)] = needs.items()
    return f"{count} {name.removeprefix('num_')[:-1].upper()}{'s' if count > 1 else ''}"


def folder(run, job):
    """Return the folder of a job's finished model."""
    return run.path / job.kind / job.name


def inputs(run, jobs):
    """Return the files of the run that jobs start from, {path in the run: content}."""
    found = {}
    for job in jobs:
        kept = checkpoints(run, job)
        at = kept.folder.relative_to(run.path).as_posix()
        found |= {f"{at}/{name}": content for name, content in kept.files().items()}
    for start in {job.start for job in jobs if job.start}:
        found |= {f"{start}/{name}": content for name, content in contents(run.path / start).items()}
    return found


def contents(place):
    """Return the files below a folder, {path in it: content}."""
    return {path.relative_to(place).as_posix(): path.read_bytes()
            for path in place.rglob("*") if path.is_file()}


# ---- on a node of the cluster


def _fit(task, jobs, given, device, threads, where):
    """Fit jobs in a folder of this machine: a generator of (kind, what is told), read by `Group.take`."""
    import ray

    quiet()
    torch.set_num_threads(threads)
    with suppress(OSError):  # where names of files in the settings begin, if this machine has it
        os.chdir(where)
    yield "place", (ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(),
                    torch.cuda.get_device_name() if device.type == "cuda" else of({"num_cpus": threads}))
    with tempfile.TemporaryDirectory(prefix="monju-") as here:
        run = Run(here, task.run.manifest)
        for name, content in given.items():
            (run.path / name).parent.mkdir(parents=True, exist_ok=True)
            write(run.path / name, content)
        sent, failure = {job.key: checkpoints(run, job).facts["step"] for job in jobs}, None
        try:
            for report in replace(task, run=run).fit(jobs, device):
                yield from _news(run, jobs, sent)
                yield "report", report
        except MonjuError as error:
            failure = error
        except Exception as error:  # told by the driver, where someone listens
            failure = RuntimeError(f"{type(error).__name__}: {error}")
        yield from _news(run, jobs, sent)  # also of those that ended well
        if failure is not None:
            yield "failed", failure


def _news(run, jobs, sent):
    """Yield the checkpoints and models that are not sent yet; `sent` is {model: its last step that is}."""
    for member, job in enumerate(jobs):
        if sent[job.key] == job.steps:
            continue
        if folder(run, job).exists():
            sent[job.key] = job.steps
            yield "model", (member, contents(folder(run, job)))
        elif files := checkpoints(run, job).files(after=sent[job.key]):
            sent[job.key] = json.loads(files["checkpoint.json"])["step"]
            yield "checkpoint", (member, files)
