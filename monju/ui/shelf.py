"""The run on show: opened once, when first wanted, for every viewer of the page.

Knows nothing of gradio.
"""

import threading

from monju.errors import MonjuError


class Shelf:
    """Holds the run in `path`; `monju()` opens it and keeps it. A run that fails is tried again when next asked for."""

    def __init__(self, path):
        self.path = path
        self._monju = None
        self._opening = threading.Lock()

    @property
    def ready(self):
        return self._monju is not None

    def monju(self):
        """The opened run; waits where another thread is at it. Raises MonjuError for a run that cannot be shown."""
        with self._opening:
            if self._monju is None:
                from monju.ensemble import Monju  # torch comes with it: the page is up before that

                self._monju = Monju.load(self.path)
            return self._monju

    def warm(self):
        """Open the run in the background, so that it is ready, or nearly, when the first viewer comes."""
        threading.Thread(target=self._try).start()  # no daemon: torch aborts where a thread dies in the middle of a load

    def _try(self):
        try:
            self.monju()
        except MonjuError:
            pass  # the first viewer is told
