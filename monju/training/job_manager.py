"""Job manager: runs a training job in a subprocess and exposes its state on disk.

One job trains at a time in a folder of runs: the trainer holds a lock that the system frees when it ends. All
that is known of a job stands on disk, in the hidden folder .jobs beside the runs, so that a page which was
closed, or whose process was killed, finds it again; the models' progress stands in the run's own
history.jsonl. Knows nothing of the page.

    .jobs/lock           held by the trainer; in it, who that is: name, pid, born
    .jobs/changing       held for the moment in which a run is started, renamed or deleted
    .jobs/last           the name of the run that was trained last
    .jobs/queue          the trainings that wait, in order, and the names of the last that were begun
    .jobs/NAME.json      its settings
    .jobs/NAME.events    what happened, a line each: begun (pid), text, stop, end
    .jobs/NAME.now       how far it is, rewritten every second
    .jobs/NAME.log       what the process printed
    .jobs/NAME.pins, .map, .checks    see `watch`
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from monju.data.notes import refusal
from monju.errors import MonjuError
from monju.runs import registry
from monju.runs.run import Run
from monju.runs.schema import is_step
from monju.training import watch
from monju.training.job_queue import Busy, JobQueue
from monju.utils import locks
from monju.utils.files import write
from monju.utils.process import child_environment

PATIENCE = 4.0  # seconds that a trainer has to end by itself when told to
DYING = 6.0  # seconds that a killed one has to be gone
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LOG_LINES, LOG_BYTES = 12, 20_000  # the end of the log that a snapshot shows
WATCHED = ("pins", "map", "checks")


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
        self.queue = JobQueue(self)

    # ---- start and stop

    def start(self, config, name, pins=()):
        """Train a new run of this name, with sentences pinned.

        Raises MonjuError where the name cannot be, or another job trains.
        """
        registry.validate_new_name(name)

        def prepare():
            registry.new_run_dir(self.folder, name)
            for file in self.files(name):
                file.unlink(missing_ok=True)  # of a run that is gone
            write(self.file(name, "json"), json.dumps(config.to_json()))
            if pins:
                self.pin(name, pins)

        self._begin(name, prepare)

    def resume(self, name):
        """Continue an unfinished run where it was stopped.

        Raises MonjuError as `start`, and where there is nothing to continue.
        """
        path = registry.run_dir(self.folder, name)

        def prepare():
            if (path / "run.json").exists():
                if Run.open(path).finished:
                    raise refusal("already_finished", name=name)
            elif not self.file(name, "json").exists():
                raise refusal("no_run", name=name)

        self._begin(name, prepare)

    def _begin(self, name, prepare):
        """Start the trainer with the lock already taken: no second one can come between."""
        path = registry.run_dir(self.folder, name)
        with self.changing(Busy.training(self.last())):
            held = locks.take(self.place / "lock", patience=0.3)
            if held is None:
                raise Busy.training(self.holder().get("name"))
            process = None
            try:
                if locks.taken(path):
                    raise Busy(f"{name} is being trained outside the page: wait for it, or stop it first")
                prepare()
                self.file(name, "now").unlink(missing_ok=True)  # how far an earlier life was
                with open(self.file(name, "log"), "ab") as log:
                    # its stdin stays open as long as we live; its own session keeps our Ctrl-C from it; it
                    # inherits the lock
                    process = subprocess.Popen([sys.executable, "-m", "monju.training.job_process",
                                                str(self.folder), name], env=child_environment(),
                                               stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                                               start_new_session=True, pass_fds=[held])
                # in place: a new file would be another lock
                (self.place / "lock").write_text(
                    json.dumps({"name": name, "pid": process.pid, "born": born(process.pid)}))
                self.tell(name, begun=True, pid=process.pid)
                write(self.place / "last", name)
                self.queue.begun(name)
                self._started.append(process)
            except OSError as error:
                if process:
                    process.kill()
                    process.wait()
                raise MonjuError(f"the run {name} cannot be started in {self.folder} ({error.strerror}): "
                                 "make room there, or set MONJU_RUNS to another folder") from None
            finally:
                os.close(held)

    @contextmanager
    def changing(self, refused=None):
        """Alone among all pages to start, queue, rename or delete a run, for a block. Raises MonjuError."""
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            for name in ("lock", "changing"):
                (self.place / name).touch()
        except OSError as error:
            raise MonjuError(f"the folder of runs {self.folder} cannot be written ({error.strerror}): "
                             "set MONJU_RUNS to one that can") from None
        moment = Busy("a run is being started, renamed or deleted: try again in a moment")
        with locks.holding(self.place / "changing", refused or moment):
            yield

    def stop(self, patience=PATIENCE):
        """End the running job, whoever started it, leaving a run that can be continued.

        It alone: the next of the queue may begin meanwhile. Returns when it has ended, after `patience` by
        force. Raises MonjuError where it still lives then.
        """
        holder = {}
        for number, seconds in ((signal.SIGINT, patience), (signal.SIGKILL, DYING)):
            told, until = False, time.monotonic() + seconds
            while (lives := self._lives(holder)) and time.monotonic() < until:
                # one that starts is written a moment after it took the lock
                if not holder and alive(found := self.holder()):
                    holder = found
                if holder and not told:
                    told = True
                    _signal(holder["pid"], number)
                    with suppress(OSError):  # after the signal: a full disk keeps nothing alive
                        self.tell(holder["name"], stop=True)
                self._reap()
                time.sleep(0.05)
        if lives:
            raise MonjuError(f"the training of {self.holder().get('name')} has been told to end and still "
                             "lives: try again in a moment, or end its process "
                             f"({self.holder().get('pid')}) by hand")

    def _lives(self, holder):
        """Return whether a job lives, or its workers, who have the lock after it; {}: whoever has it."""
        return alive(holder) or self.running() and (not holder or self.holder() == holder)

    def _reap(self):
        self._started = [process for process in self._started if process.poll() is None]

    # ---- look

    def running(self):
        """Return whether a job trains now, whoever started it."""
        return locks.taken(self.place / "lock")

    def holder(self):
        """The last that took the lock: {name, pid, born}; {} where none has."""
        return read_json(self.place / "lock")

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
        try:
            manifest = Run.open(path).manifest
        except MonjuError:  # none yet, or damaged
            manifest = {}
        begun_at = max((i for i, event in enumerate(events) if event.get("begun")), default=0)
        end = next((event for event in events[begun_at:] if "end" in event), {})
        stop_requested = any(event.get("stop") for event in events[begun_at:])
        if running:
            status = "stopping" if stop_requested else "training"
        elif manifest.get("status") == "finished":
            status = "finished"
        else:
            status = "stopped" if stop_requested else end.get("end", "died")
        history = self.lines(path / "history.jsonl", is_step)
        return {"name": name, "status": status, "reason": end.get("reason", "") if status == "failed" else "",
                "reason_note": end.get("note") if status == "failed" else None,
                "notes": manifest.get("data", {}).get("notes", []),
                "resumable": status in ("stopped", "failed", "died"),
                "at": events[0]["at"] if events else None, "now": self.now(name) if running else {},
                "stages": [event["text"] for event in events if "text" in event],
                "log": tail(self.file(name, "log")),
                "models": manifest.get("models", {}), "clusters": manifest.get("clusters", {}),
                "machine": manifest.get("machine", {}),
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

    def lines(self, path, kept=bool):
        """Return the whole lines of a JSONL file that grows, those that are `kept`.

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
            new = map(_parsed, whole.splitlines())
            lines = lines + [line for line in new if isinstance(line, dict) and kept(line)]
            self._read[path] = now.st_ino, offset + len(whole), lines
            return lines

    # ---- the files

    def file(self, name, kind):
        """Return the path of a job's file of that kind."""
        return self.place / f"{registry.validate_name(name)}.{kind}"

    def files(self, name):
        """Return the paths of all of a job's files."""
        return [self.file(name, kind) for kind in ("json", "events", "now", "log", *WATCHED)]

    def watched_files(self, name):
        """Return the paths of a job's pins, map and checks."""
        return [self.file(name, kind) for kind in WATCHED]

    def pin(self, name, texts):
        """Pin sentences, in place of those pinned before. Raises MonjuError for too many."""
        write(self.file(name, "pins"), json.dumps(watch.sentences(texts), ensure_ascii=False))

    def watched(self, name):
        """Return what is watched of a job: (the pinned sentences, the map or {}, the lines of the checks)."""
        pins, map, checks = self.watched_files(name)
        return watch.pinned(pins), read_json(map), self.lines(checks)

    def settings(self, name):
        """Return the settings of a job as JSON, {} where they are not known."""
        return read_json(self.file(name, "json"))

    def tell(self, name, **event):
        """Append one line to the job's events: whole or not at all."""
        with open(self.file(name, "events"), "ab") as file:
            file.write((json.dumps({"at": round(time.time(), 1), **event}) + "\n").encode())

    def begun(self, name):
        """Return the last start event, with its pid."""
        return next((event for event in reversed(self.lines(self.file(name, "events")))
                     if event.get("begun")), None)

    def rename(self, old, new):
        """Rename a run, and what is known of its job with it."""
        with self._idle(old, new):
            registry.rename(self.folder, old, new)
            for before, after in zip(self.files(old), self.files(new)):
                if before.exists():
                    os.replace(before, after)
            if self.last() == old:
                write(self.place / "last", new)

    def delete(self, name):
        """Delete a run, and what is known of its job with it."""
        with self._idle(name):
            registry.delete(self.folder, name)
            if self.last() == name:
                (self.place / "last").unlink()
            for file in self.files(name):
                file.unlink(missing_ok=True)

    @contextmanager
    def _idle(self, *names):
        """Runs of these names are not being trained and nobody starts one, for a block. Raises MonjuError.

        The lock of the run's own folder does not tell: a trainer takes it only after its imports.
        """
        with self.changing():
            if self.running() and (name := self.holder().get("name")) in names:
                raise refusal("stop_first", name=name)
            yield


def tail(path):
    """Return the last lines of a log."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    except OSError:
        return []


def born(pid):
    """Return when a process started; with its number, what tells it from a later one of the same number.

    In ticks of the clock since the machine started, and which start that was: the time of day may be set.
    None where the process is gone.
    """
    try:
        # after the name, which may hold anything
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if state in b"ZX" else f"{BOOT_ID.read_text().strip()} {int(fields[18])}"
    except FileNotFoundError:
        return None if BOOT_ID.exists() else _born_elsewhere(pid)
    except ProcessLookupError:  # it ended while it was read
        return None


def _born_elsewhere(pid):
    """Return `born` where there is no /proc: psutil's own mark of a process, by a clock that nobody sets."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else hash(process)
    except psutil.Error:
        return None


def alive(holder):
    """Return whether the process that took the lock still lives."""
    return holder.get("born") is not None and born(holder["pid"]) == holder["born"]


def _signal(pid, number):
    with suppress(ProcessLookupError):  # it ended by itself
        os.killpg(pid, number)


def read_json(path):
    """Return the JSON object in a file; {} where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _parsed(line):
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
