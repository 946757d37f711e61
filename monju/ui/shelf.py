"""The runs that the page can show: found in one folder, opened when first wanted, shared by all viewers.

Knows nothing of gradio.
"""

import threading
from pathlib import Path

from monju.errors import MonjuError
from monju.run import Run

KEPT = 3  # opened runs that stay in memory, the last used


class Shelf:
    """The run that the page starts on, and every other run in `folder`, each known by its folder's name.

    A run that fails to open is tried again when next asked for; one that changed on disk is opened anew.
    """

    def __init__(self, first, folder=None):
        self.first, self.folder = Path(first), Path(folder or Path(first).parent)
        self._opened = {}  # name → (stamp of its run.json, Monju), the last used last
        self._opening = threading.Lock()

    @property
    def start(self):
        """The name of the run that the page starts on."""
        return self.first.resolve().name

    def path(self, name):
        """The folder of a run's name. Raises MonjuError for a name that is no plain folder name."""
        if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name or "\0" in name:
            raise MonjuError("there is no run of that name: choose one from the list")
        return self.first if name == self.start else self.folder / name

    def names(self):
        """The finished runs, the page's own first, then the newest."""
        found = {}
        for manifest in self.folder.glob("[!.]*/run.json"):
            try:
                if Run.open(manifest.parent).finished:
                    found[manifest.parent.name] = manifest.stat().st_mtime
            except (MonjuError, OSError):
                continue  # being written, deleted or damaged: not to be chosen
        found.pop(self.start, None)
        return [self.start, *sorted(found, key=found.get, reverse=True)]

    def run(self, name):
        """The run's folder and manifest, whole or not. Raises MonjuError where there is none."""
        return Run.open(self.path(name))

    def ready(self, name):
        """Whether the run can answer at once."""
        return name in self._opened

    def monju(self, name):
        """The opened run; waits where another thread is at it. Raises MonjuError for a run that cannot be shown."""
        path = self.path(name)
        with self._opening:
            stamp, monju = self._opened.pop(name, (None, None))
            try:
                now = (path / "run.json").stat().st_mtime_ns
            except OSError:
                now = None  # gone: opening it says so in words
            if monju is None or stamp != now:
                from monju.ensemble import Monju  # torch comes with it: the page is up before that

                monju = Monju.load(path)
            self._opened[name] = now, monju
            while len(self._opened) > KEPT:
                self._opened.pop(next(iter(self._opened)))
            return monju

    def warm(self):
        """Open the first run in the background, so that it is ready, or nearly, when the first viewer comes."""
        threading.Thread(target=self._try).start()  # no daemon: torch aborts where a thread dies in the middle of a load

    def _try(self):
        try:
            self.monju(self.start)
        except MonjuError:
            pass  # the first viewer is told
