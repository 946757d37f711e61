"""The queue: trainings that wait for the one that runs, in order, and go on after it however it ends.

It stands in one file, .jobs/queue, written whole: whoever starts the page again finds it. The page's process
begins the next one; several pages on one folder take turns by the job manager's locks.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from monju.config import Config
from monju.data.notes import Note, refusal
from monju.errors import MonjuError
from monju.runs import registry
from monju.training import watch
from monju.utils.files import write

if TYPE_CHECKING:
    from monju.training.job_manager import JobManager

MOST, MOST_PAST = 20, 5  # trainings that wait, and names of those begun that are kept


class Busy(MonjuError):
    """Another training is in the way: it can be tried again later."""

    @classmethod
    def training(cls, name: str | None) -> Busy:
        """Return the error that another run, of this name, is being trained."""
        note = Note("trained_now", {"name": name or "another run"})
        error = cls(note.text())
        error.note = note
        return error


class JobQueue:
    """The queue of a JobManager.

    An entry is {name, config (None: a run to continue), pins}, and where it could not begin, {reason, note}.
    """

    def __init__(self, jobs: JobManager):
        self.jobs, self.path = jobs, jobs.place / "queue"
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    # ---- look

    def waiting(self) -> list[dict[str, Any]]:
        """Return the entries in order."""
        return self._read()["waiting"]

    def past(self) -> list[str]:
        """Return the names of the last trainings that were begun while others waited, the newest last."""
        return [name for name in self._read()["past"] if self.jobs.file(name, "events").exists()]

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            names = [entry["name"] for entry in found["waiting"]] + found["past"]
            [registry.validate_name(name) for name in names]
        except (OSError, ValueError, KeyError, TypeError, RecursionError, MonjuError):
            return {"waiting": [], "past": []}
        return found

    # ---- change

    def submit(self, trainings: Sequence[tuple[Config | None, str, Sequence[str]]]) -> bool:
        """Train new runs, each (settings, name, pinned sentences), after those that wait.

        Settings None: an unfinished run of that name is continued. One alone begins at once where nothing
        trains or waits. Returns whether that was so. Raises MonjuError, and takes none, where one cannot be.
        """
        trainings = [(config, registry.validate_name(name), watch.sentences(pins))
                     for config, name, pins in trainings]
        if len(trainings) == 1 and not self.jobs.running() and not self.waiting():
            with suppress(Busy):  # another was begun meanwhile: it waits
                self._begin(*trainings[0])
                return True
        with self.jobs.changing():
            found = self._read()
            names = [entry["name"] for entry in found["waiting"]]
            for config, name, pins in trainings:
                if config is not None:
                    registry.new_run_dir(self.jobs.folder, name)
                if name in names:
                    raise refusal("name_waiting", name=name)
                if name == self.jobs.last() and self.jobs.running():
                    raise Busy.training(name)
                names.append(name)
                found["waiting"].append({"name": name, "config": config and config.to_json(), "pins": pins})
            if len(names) > MOST:
                raise refusal("queue_full", most=MOST)
            self._write(found)
        self.go_on()
        return False

    def withdraw(self, name: str) -> None:
        """Take a training out of the queue, if it still waits."""
        with self.jobs.changing():
            found = self._read()
            found["waiting"] = [entry for entry in found["waiting"] if entry["name"] != name]
            self._write(found)

    def begun(self, name: str) -> None:
        """Take note that a training was begun, under the manager's lock. Raises OSError."""
        found = self._read()
        past = [other for other in found["past"] if other != name] if found["waiting"] else []
        waiting = [entry for entry in found["waiting"] if entry["name"] != name]
        write(self.path, json.dumps({"waiting": waiting, "past": [*past, name][-MOST_PAST:]},
                                    ensure_ascii=False))

    def _write(self, found: dict[str, Any]) -> None:
        try:
            write(self.path, json.dumps(found, ensure_ascii=False))
        except OSError as error:
            raise MonjuError(f"the queue in {self.jobs.folder} cannot be written ({error.strerror}): "
                             "make room there") from None

    # ---- go on

    def _begin(self, config: Config | None, name: str, pins: Sequence[str]) -> None:
        if config is None:
            self.jobs.resume(name)
        else:
            self.jobs.start(config, name, pins)

    def go_on(self) -> None:
        """Begin what waits, one after another, in a thread that ends when nothing waits."""
        with self._starting:
            if self._next() and not (self._thread and self._thread.is_alive()):
                self._thread = threading.Thread(target=self._follow, daemon=True)
                self._thread.start()

    def _follow(self) -> None:
        while True:
            with self._starting:
                if not self._next():
                    self._thread = None
                    return
            with suppress(MonjuError):  # another page is at it
                self.advance()
            time.sleep(1)

    def _next(self) -> dict[str, Any] | None:
        return next((entry for entry in self.waiting() if "reason" not in entry), None)

    def advance(self) -> None:
        """Begin the first that waits, where nothing trains; one that cannot be stays, with the reason."""
        entry = self._next()
        if entry is None or self.jobs.running():
            return
        try:
            config = entry["config"] and Config.from_json(entry["config"])
            self._begin(config, entry["name"], entry["pins"])
        except Busy:
            return
        except MonjuError as error:
            with self.jobs.changing():
                found = self._read()
                for other in found["waiting"]:
                    if other["name"] == entry["name"]:
                        other |= {"reason": str(error), "note": error.note and error.note.to_json()}
                self._write(found)
