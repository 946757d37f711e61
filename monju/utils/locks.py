"""Locks that die with their holder: one process at a time does what others must not do meanwhile.

The system keeps such a lock with an open file, so that it is free the moment its process has ended, however it
ended. Knows nothing of what is locked: any file or folder will do, and nothing is written to it.
"""

import fcntl
import os
import time
from contextlib import contextmanager


def take(path, patience=1.0):
    """An open file descriptor that holds the lock on `path` until it is closed; None where another process has it.

    Whoever inherits the descriptor holds the lock too. `patience` outlasts those who only look (`taken`).
    """
    held = os.open(path, os.O_RDONLY)
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return held
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(held)
                return None
            time.sleep(0.05)


def taken(path):
    """Whether some process holds the lock on `path` now; no where there is no such file."""
    try:
        looking = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who look do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(looking)
    return False


@contextmanager
def holding(path, refusal):
    """Hold the lock on `path` for a block; raises `refusal` where another process has it."""
    held = take(path)
    if held is None:
        raise refusal
    try:
        yield
    finally:
        os.close(held)
