"""The trainer's side of a job: trains the run, reports on it, and ends with the process that started it."""

import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from monju.config import Config
from monju.errors import MonjuError
from monju.runs import registry
from monju.training.job_manager import JobManager, read_json
from monju.utils.files import write
from monju.utils.process import end_with_parent
from monju.utils.quiet import quiet


def run(folder, name):
    """Train the run and record its events; return the exit code: 0, 130 (stopped), 2 (refused) or 1."""
    quiet()
    # a page started in the background would hand down that it is ignored
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    end_with_parent()
    _stand_back()
    jobs = JobManager(folder)
    events = None
    try:
        from monju.training import engines
        from monju.training.pipeline import train
        from monju.training.progress import Phase, Stage
        from monju.training.watch import Watch

        out = jobs.folder / name
        resume = (out / "run.json").exists()
        events = train(None if resume else Config.from_json(read_json(jobs.file(name, "json"))), out,
                       resume=resume, watch=(watch := Watch(*jobs.watched_files(name))),
                       engine=engines.make(os.environ.get("MONJU_ENGINE", "local")))
        wrote = 0.0

        def tell_now(event, phase, patience):
            used, kind = memory()
            with suppress(OSError):  # a full disk is the run's own to tell
                state = {"at": time.time(), "phase": phase, "patience": patience, "done": event.done,
                         "left": event.left, "memory": used, "of": kind}
                write(jobs.file(name, "now"), json.dumps(state))

        for event in events:
            if isinstance(event, Phase):
                tell_now(event, event.name, None)
            if isinstance(event, Stage):
                with suppress(OSError):
                    jobs.tell(name, text=event.text)
                _say(event.text)
                continue
            step = event.step
            watch.checked(event)
            accuracy = step.held_out_accuracy
            if accuracy is not None or step.step == step.steps:
                held_out = "" if accuracy is None else f", held out {accuracy:.1%}"
                _say(f"{event.model} {step.step}/{step.steps}, loss {step.loss:.3f}{held_out}, "
                     f"{event.sentences_per_s:.0f} sentences/s")
            if time.monotonic() - wrote > 1:
                wrote = time.monotonic()
                tell_now(event, "training", event.patience)
        for text in sent(out):
            jobs.tell(name, text=text)
            _say(text)
        jobs.tell(name, end="finished")
        return 0
    except KeyboardInterrupt:
        _say("Stopped; the run can be continued.")
        jobs.tell(name, end="stopped")
        return 130
    except MonjuError as error:
        _say(str(error))
        jobs.tell(name, end="failed", reason=str(error), note=error.note and error.note.to_json())
        return 2
    except Exception as error:  # told where someone looks: nobody sees this process's terminal
        traceback.print_exc()
        jobs.tell(name, end="failed", reason=f"{type(error).__name__}: {error}")
        return 1
    finally:
        if events is not None:
            events.close()  # where it was told to stop between two events


def memory():
    """Return (bytes, of what).

    "gpu": the GPU's memory in use where this process trains on one. Else "processes": the memory of this
    process and its children.
    """
    import psutil
    import torch

    if torch.cuda.is_available():
        free, total = zip(*(torch.cuda.mem_get_info(number) for number in range(torch.cuda.device_count())))
        return sum(total) - sum(free), "gpu"
    total_rss, me = 0, psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            total_rss += process.memory_info().rss
        except psutil.Error:
            continue  # it has just ended
    return total_rss, "processes"


def sent(path, environment=os.environ):
    """Send a finished run to the repository that MONJU_HUB names, if any; yield a sentence on the result.

    The run is whole either way.
    """
    if repository := environment.get("MONJU_HUB", "").strip():
        try:
            target = registry.upload(path, repository, environment.get("HF_TOKEN"), inside=path.name)
            yield f"Sent to {target}."
        except MonjuError as error:
            yield f"Not sent: {error}"


def _say(text):
    with suppress(OSError):  # a full disk takes no log, and should not hide why
        print(time.strftime("%H:%M:%S"), text, flush=True)


def _stand_back():
    """Give way to those who use the page.

    Where a process that is only nice would keep its core for a slice of time, an idle one gives it up as soon
    as another wakes. Linux weighs sessions before it weighs their processes: ours is a session of its own.
    """
    os.nice(19)
    with suppress(OSError, AttributeError):  # not allowed, or not Linux
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if os.getsid(0) == os.getpid():  # of another's session everything would stand back
        with suppress(OSError):  # not there, or not ours to say
            Path("/proc/self/autogroup").write_text("19")


def _interrupt(number, frame):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough: what is written on the way out is written
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
