"""Processes that this one starts: their environment, and how they end with whoever started them."""

import multiprocessing
import os
import threading

from monju.utils.files import ROOT


def child_environment():
    """The environment of a Python process that imports this package, on few threads that do not spin, its output unbuffered."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}


def end_with_parent():
    """A parent that was killed cannot end its workers: they watch for it."""
    multiprocessing.parent_process().join()
    os._exit(1)


def when_stdin_ends(act):
    """Call act() in a thread when standard input ends, as it does with the process at its other end."""
    def watch():
        while os.read(0, 1024):
            pass
        act()

    threading.Thread(target=watch, daemon=True).start()
