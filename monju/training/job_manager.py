"""Job manager: runs a training job in a subprocess and exposes its state on disk.

One job trains at a time in a folder of runs: the trainer holds a lock that the system frees when it ends. All
that is known of a job stands on disk, in the hidden folder .jobs beside the runs, so that a page which was
closed, or whose process was killed, finds it again; the models' progress stands in the run's own
history.jsonl. Knows nothing of the page.

    .jobs/lock           held by the trainer
    .jobs/last           the name of the run that was trained last
    .jobs/NAME.json      its settings
    .jobs/NAME.events    what happened, a line each: begun (pid, born), text, stop, end
    .jobs/NAME.now       how far it is, rewritten every second
    .jobs/NAME.log       what the process printed
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from monju.errors import MonjuError
from monju.runs import registry
from monju.runs.run import Run
from monju.utils import locks
from monju.utils.files import write
from monju.utils.process import child_environment

PATIENCE = 4.0  # seconds that a trainer has to end by itself when told to
LOG_LINES, LOG_BYTES = 12, 20_000  # the end of the log that a snapshot shows


class JobManager:
    """The training jobs in one folder of runs: start, stop, resume, watch.

    Parameters
    ----------
    folder : path
        The folder of runs. The jobs' files lie in its hidden folder .jobs.
    """

    def __init__(self, folder):
        self.folder, self.place = Path(folder), Path(folder) / ".jobs"
        # the processes that this one started: their stdin must stay open, and they must be reaped
        self._started = []
        self._read = {}  # a file of lines → (its inode, how far it was read, its lines)
        self._reading = threading.Lock()

    # ---- start and stop

    def start(self, config, name):
        """Train a new run of this name. Raises MonjuError where the name cannot be, or another job trains."""
        path = registry.new_run_dir(self.folder, name)

        def prepare():
            for file in self.files(name):
                file.unlink(missing_ok=True)  # of a run that is gone
            write(self.file(name, "json"), json.dumps(config.to_json()))

        self._begin(name, path, prepare)

    def resume(self, name):
        """Continue an unfinished run where it was stopped.

        Raises MonjuError as `start`, and where there is nothing to continue.
        """
        path = registry.run_dir(self.folder, name)
        if (path / "run.json").exists():
            if Run.open(path).finished:
                raise MonjuError(f"{name} is already finished: there is nothing to continue")
        elif not self.file(name, "json").exists():
            raise MonjuError(f"there is no run {name} to continue: train a new one")
        self._begin(name, path, lambda: None)

    def _begin(self, name, path, prepare):
        """Start the trainer with the lock already taken: no second one can come between."""
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            (self.place / "lock").touch()
            held = locks.take(self.place / "lock", patience=0.3)
        except OSError as error:
            raise MonjuError(f"the folder of runs {self.folder} cannot be written ({error.strerror}): "
                             "set MONJU_RUNS to one that can") from None
        if held is None:
            raise MonjuError(
                f"{self.last() or 'another run'} is being trained: wait for it, or stop it first")
        try:
            if locks.taken(path):
                raise MonjuError(f"{name} is being trained outside the page: wait for it, or stop it first")
            prepare()
            self.file(name, "now").unlink(missing_ok=True)  # how far an earlier life was
            with open(self.file(name, "log"), "ab") as log:
                # its stdin stays open as long as we live; its own session keeps our Ctrl-C from it; it
                # inherits the lock
                process = subprocess.Popen([sys.executable, "-m", "monju.training.job_process",
                                            str(self.folder), name], env=child_environment(),
                                           stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                                           start_new_session=True, pass_fds=[held])
            self.tell(name, begun=True, pid=process.pid, born=born(process.pid))
            write(self.place / "last", name)
            self._started.append(process)
        except OSError as error:
            raise MonjuError(f"the run {name} cannot be started in {self.folder} ({error.strerror}): make "
                             "room there, "
                             "or set MONJU_RUNS to another folder") from None
        finally:
            os.close(held)

    def stop(self, patience=PATIENCE):
        """End the running job, leaving a run that can be continued.

        Returns when it has ended, after `patience` seconds by force.
        """
        name = self.last()
        begun = name and self.begun(name)
        if not begun or not self.running():
            return
        self.tell(name, stop=True)
        if alive(begun):
            _signal(begun["pid"], signal.SIGINT)
        until = time.monotonic() + patience
        while time.monotonic() < until and (alive(begun) or self.running()):
            self._reap()
            time.sleep(0.05)
        if alive(begun):
            _signal(begun["pid"], signal.SIGKILL)
            while alive(begun):
                self._reap()
                time.sleep(0.02)
        self._reap()

    def _reap(self):
        self._started = [process for process in self._started if process.poll() is None]

    # ---- look

    def running(self):
        """Return whether a job trains now, whoever started it."""
        return locks.taken(self.place / "lock")

    def last(self):
        """Return the name of the run that was trained last, or None."""
        try:
            return (self.place / "last").read_text(encoding="utf-8")
        except OSError:
            return None

    def snapshot(self, name=None):
        """Return the state of a job (by default the last one) from its first step.

        Parameters
        ----------
        name : str, optional
            The run's name.

        Returns
        -------
        dict
            Plain values. "status" is none, training, stopping, finished, stopped (as asked), failed (see
            "reason") or died (a process that was killed). "resumable": whether it can go on.
        """
        self._reap()
        name = name or self.last()
        if name is None:
            return {"name": None, "status": "none"}
        running = self.running() and name == self.last()
        path, events = registry.run_dir(self.folder, name), self.lines(self.file(name, "events"))
        manifest = read_json(path / "run.json")
        begun_at = max((i for i, event in enumerate(events) if event.get("begun")), default=0)
        end = next((event for event in events[begun_at:] if "end" in event), {})
        stop_requested = any(event.get("stop") for event in events[begun_at:])
        if running:
            status = "stopping" if stop_requested else "training"
        elif manifest.get("status") == "finished":
            status = "finished"
        else:
            status = "stopped" if stop_requested else end.get("end", "died")
        history = self.lines(path / "history.jsonl")
        return {"name": name, "status": status, "reason": end.get("reason", "") if status == "failed" else "",
                "reason_note": end.get("note") if status == "failed" else None,
                "notes": manifest.get("data", {}).get("notes", []),
                "resumable": status in ("stopped", "failed", "died"),
                "at": events[0]["at"] if events else None, "now": self.now(name) if running else {},
                "stages": [event["text"] for event in events if "text" in event],
                "log": tail(self.file(name, "log")),
                "models": manifest.get("models", {}), "clusters": manifest.get("clusters", {}),
                "history": history}

    def now(self, name):
        """Return how far the running job is.

        done (share), left (seconds, None where that is not known), phase (training, evaluation, map), memory
        (bytes) of what, and, where no step has come for longer than it should, waits (seconds).
        """
        state = read_json(self.file(name, "now"))
        if not state:
            return {}
        age = max(0.0, time.time() - state.pop("at"))
        patience = state.pop("patience")
        if patience is not None and age > patience:
            return state | {"left": None, "waits": round(age)}
        left = state["left"] - age if state["left"] is not None else 0
        return state | {"left": round(left) if left >= 1 else None}

    def lines(self, path):
        """Return the whole lines of a JSONL file that grows.

        Only what is new is read; a file that was replaced is read from its beginning.
        """
        with self._reading:
            try:
                with open(path, "rb") as file:
                    now = os.fstat(file.fileno())
                    inode, offset, lines = self._read.get(path, (None, 0, []))
                    if inode != now.st_ino or now.st_size < offset:
                        offset, lines = 0, []
                    file.seek(offset)
                    new = file.read()
            except OSError:
                self._read.pop(path, None)
                return []
            whole = new[: new.rfind(b"\n") + 1]
            lines = lines + [line for line in map(_parsed, whole.splitlines()) if line]
            self._read[path] = now.st_ino, offset + len(whole), lines
            return lines

    # ---- the files

    def file(self, name, kind):
        """Return the path of a job's file of that kind."""
        return self.place / f"{registry.validate_name(name)}.{kind}"

    def files(self, name):
        """Return the paths of all of a job's files."""
        return [self.file(name, kind) for kind in ("json", "events", "now", "log")]

    def tell(self, name, **event):
        """Append one line to the job's events: whole or not at all."""
        with open(self.file(name, "events"), "ab") as file:
            file.write((json.dumps({"at": round(time.time(), 1), **event}) + "\n").encode())

    def begun(self, name):
        """Return the last start event: its pid and when it was born."""
        return next((event for event in reversed(self.lines(self.file(name, "events")))
                     if event.get("begun")), None)

    def rename(self, old, new):
        """Rename a run, and what is known of its job with it."""
        registry.rename(self.folder, old, new)
        for before, after in zip(self.files(old), self.files(new)):
            if before.exists():
                os.replace(before, after)
        if self.last() == old:
            write(self.place / "last", new)

    def delete(self, name):
        """Delete a run, and what is known of its job with it."""
        registry.delete(self.folder, name)
        if self.last() == name:
            (self.place / "last").unlink()
        for file in self.files(name):
            file.unlink(missing_ok=True)


def tail(path):
    """Return the last lines of a log."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    except OSError:
        return []


def born(pid):
    """Return when a process started, or None where it is gone.

    The time and the number together tell it from a later process of the same number.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def alive(begun):
    """Return whether the process of a start event still lives."""
    return begun["born"] is not None and born(begun["pid"]) == begun["born"]


def _signal(pid, number):
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass  # it ended by itself


def read_json(path):
    """Return the content of a JSON file, or {} where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _parsed(line):
    try:
        return json.loads(line)
    except ValueError:
        return None
