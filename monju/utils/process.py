"""Child processes: their environment, and how they end with their parent."""

import ctypes
import fcntl
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

from monju.utils.files import ROOT


def child_environment() -> dict[str, str]:
    """Return the environment for a Python child that imports this package: passive threads, no buffering."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}


def end_with_parent() -> None:
    """Wait for the parent process to end, then end this one: a killed parent cannot end its children."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


def when_stdin_ends(act: Callable[[], object]) -> None:
    """Call act() in a thread when standard input ends, as it does with the process at its other end."""
    def watch() -> None:
        while os.read(0, 1024):
            pass
        act()

    threading.Thread(target=watch, daemon=True).start()


def killed_when_stdin_ends() -> None:
    """Have this process's group killed when standard input, a pipe, ends with the process at its other end.

    By the system itself, where it can (Linux): a thread of ours needs its turn first, and on a busy machine
    an idle process waits for its own half a minute. Not by PR_SET_PDEATHSIG, which asks for the parent's
    thread: those of a page's requests end before a training does. A kill costs what a crash does: an epoch of
    one model at most.
    """
    group = os.getpgrp()
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(0, fcntl.F_SETOWN, -group)
        fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    when_stdin_ends(lambda: os.killpg(group, signal.SIGKILL))  # also what had ended before


def give_memory_back() -> None:
    """Give freed memory back to the system: after a load glibc keeps more than the models themselves take."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def return_large_blocks() -> None:
    """Have memory of 128 KiB and more go back to the system whenever it is freed, in this process.

    glibc starts so, but raises the bound with every larger block that is freed, to 32 MiB. Then each thread's
    arena keeps the most it ever held: a page that draws maps for a visitor grew from 300 to 800 MiB, 500 of
    them free. Not for a process that computes: mapping each block anew costs time.
    """
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(-3, 128 << 10)  # M_MMAP_THRESHOLD
