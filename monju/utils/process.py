"""Child processes: their environment, and how they end with their parent."""

import ctypes
import fcntl
import multiprocessing
import os
import signal
import threading
from contextlib import suppress

from monju.utils.files import ROOT


def child_environment() -> dict[str, str]:
    """Return the environment for a Python child that imports this package: passive threads, no buffering."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}


def end_with_parent() -> None:
    """Have this process, and the group that it leads if it does, killed when its parent ends.

    That is told by a pipe whose other end the parent holds: the one that multiprocessing gives a process,
    else standard input. The system itself kills, where it can (Linux): a thread of ours needs its turn first,
    and on a busy machine an idle process waits for its own half a minute. Not by PR_SET_PDEATHSIG, which asks
    for the parent's thread: those of a page's requests end before a training does. A kill costs what a crash
    does: an epoch of one model at most.
    """
    parent, pid = multiprocessing.parent_process(), os.getpid()
    line, target = parent.sentinel if parent else 0, -pid if os.getpgrp() == pid else pid

    def watch() -> None:
        while os.read(line, 1024):
            pass
        os.kill(target, signal.SIGKILL)

    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(line, fcntl.F_SETOWN, target)
        fcntl.fcntl(line, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(line, fcntl.F_SETFL, fcntl.fcntl(line, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=watch, daemon=True).start()  # also where it has ended before


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
