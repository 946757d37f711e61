"""Local engine: several models trained at the same time, one process each.

A small encoder cannot keep two cores busy with one sentence batch (its threads mostly wait for
each other), but as many models as cores can; several GPUs take a model each in the same way.
Knows nothing of what is trained: it runs generators elsewhere and passes on what they yield.
"""

import multiprocessing
import signal
from contextlib import contextmanager, suppress
from itertools import repeat
from multiprocessing import connection, resource_tracker

import torch

from monju.errors import MonjuError
from monju.models import backbones
from monju.utils.process import end_with_parent
from monju.utils.quiet import quiet


def places(device, jobs, most=None):
    """Return the device of each of the jobs that run at the same time, at most `most`.

    One job a GPU. On the CPU one a core, and a few more where the last jobs would otherwise leave most cores
    idle: three jobs on two cores run at once, sharing them.
    """
    if device.type == "cuda":
        devices = [torch.device(f"cuda:{number}") for number in range(torch.cuda.device_count())]
    else:
        cores = torch.get_num_threads()
        turns, left = divmod(jobs, cores)
        devices = [device] * (-(-jobs // turns) if turns and 0 < left <= cores / 2 else cores)
    return devices[: min(most or len(devices), max(1, jobs))]


class LocalEngine:
    """Trains on this machine: see `engines.Engine`."""

    def refuse(self, config):
        """Refuse nothing."""

    def places(self, config, jobs):
        """Return the device of each of the jobs that run at the same time: see `places`."""
        return places(backbones.pick_device(config.device), jobs, config.workers)

    def run(self, task, groups, places):
        """Run every group: see `run_all`."""
        return run_all(task, groups, places[: len(groups)], cores_each(places))


def cores_each(places):
    """Return how many cores a job gets on so many devices.

    It follows from the whole plan: a sum's last bits depend on it, and a resumed run should not.
    """
    return max(1, torch.get_num_threads() // len(places))


def run_all(task, jobs, devices, threads=None):
    """Run task.fit(job, device) for every job, as many at a time as there are devices.

    Parameters
    ----------
    task : object
        Can be sent to another process; its `fit` is a generator.
    jobs : iterable
        The jobs.
    devices : list of torch.device
        One for each job that runs at the same time. With one device everything happens in this process.
    threads : int, optional
        Cores of each job; by default `cores_each` of the devices.

    Yields
    ------
    tuple of int and object
        (job number, report), as reports come. Closing the generator ends the workers at once.

    Raises
    ------
    Exception
        A job's error, raised here. From another process only a MonjuError keeps its type; any other is a
        RuntimeError.
    """
    jobs = list(jobs)
    threads = threads or cores_each(devices)
    if len(devices) == 1:
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            for number, job in enumerate(jobs):
                yield from zip(repeat(number), task.fit(job, devices[0]))
        finally:
            torch.set_num_threads(before)
        return
    with processes(_work, [(task, device, threads) for device in devices]) as lines:
        waiting, busy = iter(enumerate(jobs)), list(lines)
        while busy:
            for line in connection.wait(busy):
                report = received(line)
                if report is not None:
                    yield report
                    continue
                job = next(waiting, None)  # it is free
                with suppress(OSError):  # it died: `received` raises next
                    line.send(job)
                if job is None:
                    busy.remove(line)


def _work(line, task, device, threads):
    """Ask for a job, fit it and report, until there is none left: what a worker process does."""
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # whose streams are recorded, and whose random state is kept
    line.send(None)
    while (item := line.recv()) is not None:
        number, job = item
        for report in task.fit(job, device):
            line.send((number, report))
        line.send(None)


def in_a_process(work, *arguments, limit=None):
    """Return work(*arguments), computed in a process with its own memory and threads.

    Raises as `run_all`, and TimeoutError where it takes longer than `limit` seconds.
    """
    with processes(_answer, [(work, arguments)]) as [line]:
        if not line.poll(limit):
            raise TimeoutError
        return received(line)


def _answer(line, work, arguments):
    line.send(work(*arguments))


@contextmanager
def processes(work, given):
    """Start a process for each tuple of arguments in `given`, and yield one end of a pipe to each.

    Each runs work(line, *arguments) with the other end. When the block ends, however it does, they are
    killed.

    Nothing goes through a queue: its thread would hold this process at its end until somebody reads what lies
    in it. Arguments and jobs, which may be large, are sent to a process that is reading; one that dies cuts
    its line.
    """
    # a fork would inherit torch's threads in the middle of their work
    context = multiprocessing.get_context("spawn")
    started, lines = [], []
    try:
        resource_tracker.ensure_running()  # its start would let signals through again
        # Ctrl-C is for the parent to answer
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            for _ in given:
                ours, theirs = context.Pipe()
                lines.append(ours)
                started.append(context.Process(target=_life, args=(theirs,), daemon=True))
                started[-1].start()
                theirs.close()  # the process has its own: when it dies, the line is cut
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for line, arguments in zip(lines, given):
            with suppress(OSError):  # it died: `received` raises next
                line.send((work, arguments))
        yield lines
    finally:
        for process in started:
            if process.pid:
                process.kill()
                process.join()
        for line in lines:
            line.close()


def received(line):
    """Return a process's message. Raises the error that ended its work, and MonjuError where it died."""
    try:
        message = line.recv()
    except (EOFError, OSError):
        raise MonjuError("a training process died, perhaps for want of memory: choose --workers 1 or a "
                         "smaller --batch-size, "
                         "and continue a run that was begun with --resume") from None
    if isinstance(message, BaseException):
        raise message
    return message


def _life(line):
    """Run the work that the parent sends, and end with the parent."""
    quiet()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    with suppress(EOFError, BrokenPipeError):  # the parent is gone
        work, arguments = line.recv()
        try:
            work(line, *arguments)
        except MonjuError as error:
            line.send(error)
        except Exception as error:  # told in the parent, where someone listens
            line.send(RuntimeError(f"{type(error).__name__}: {error}"))


