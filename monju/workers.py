"""Workers: several models trained at the same time, one process each.

A small encoder cannot keep two cores busy with one sentence batch (its threads mostly wait for
each other), but as many models as cores can; several GPUs take a model each in the same way.
Knows nothing of what is trained: it runs generators elsewhere and passes on what they yield.
"""

import multiprocessing
import os
import queue
import signal
import threading
from itertools import repeat

import torch

from monju.errors import MonjuError


def places(device, jobs, most=None):
    """Where so many jobs run, a device each at the same time (at most `most`): one a GPU; on the CPU one a core, and a few more
    where the last jobs would otherwise leave most cores idle: three on two cores run at once, sharing them."""
    if device.type == "cuda":
        found = [torch.device(f"cuda:{number}") for number in range(torch.cuda.device_count())]
    else:
        cores = torch.get_num_threads()
        turns, left = divmod(jobs, cores)
        found = [device] * (-(-jobs // turns) if turns and 0 < left <= cores / 2 else cores)
    return found[: min(most or len(found), max(1, jobs))]


def cores_each(places):
    """How many cores a job gets on so many devices. It follows from the whole plan: a sum's last bits depend on it, and a
    resumed run should not."""
    return max(1, torch.get_num_threads() // len(places))


def run_all(shop, jobs, devices, threads=None):
    """Run shop.fit(job, device) for every job, as many at a time as there are devices.

    `shop` is any object that can be sent to another process and whose `fit` is a generator; yields
    (job number, report) as reports come. With one device everything happens in this process.
    `threads`: the cores of each job (`cores_each` of the devices).
    A job's error is raised here; closing the generator ends the workers at once.
    """
    jobs = list(jobs)
    threads = threads or cores_each(devices)
    if len(devices) == 1:
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            for number, job in enumerate(jobs):
                yield from zip(repeat(number), shop.fit(job, devices[0]))
        finally:
            torch.set_num_threads(before)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads in the middle of their work
    todo, reports = context.Queue(), context.Queue()
    for number, job in enumerate(jobs):
        todo.put((number, job))
    for _ in devices:
        todo.put(None)
    workers = [context.Process(target=_work, args=(shop, device, threads, todo, reports), daemon=True) for device in devices]
    try:
        for worker in workers:
            worker.start()
        resting = 0
        while resting < len(workers):
            try:
                number, report = reports.get(timeout=1)
            except queue.Empty:
                if any(worker.exitcode for worker in workers):
                    raise MonjuError("a training process died, perhaps for want of memory: continue with --resume and --workers 1") from None
                continue
            if isinstance(report, BaseException):
                raise report
            if number is None:
                resting += 1
            else:
                yield number, report
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _work(shop, device, threads, todo, reports):
    """A worker's life: take a job, fit it, report; until there is none left, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        while (item := todo.get()) is not None:
            number, job = item
            for report in shop.fit(job, device):
                reports.put((number, report))
    except MonjuError as error:
        reports.put((None, error))
    except Exception as error:  # told in the parent, where someone listens
        reports.put((None, RuntimeError(f"{type(error).__name__}: {error}")))
    else:
        reports.put((None, None))


def end_with_parent():
    """A parent that was killed cannot end its workers: they watch for it."""
    multiprocessing.parent_process().join()
    os._exit(1)
