"""Locks between processes on a file or folder, by flock: released when the holder ends, however it ends.

Nothing is written to what is locked.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

AnyPath = str | os.PathLike[str]


def take(path: AnyPath, patience: float = 1.0) -> int | None:
    """Lock `path` until the returned file descriptor is closed; None where another process has the lock.

    A process that inherits the descriptor holds the lock, too. It waits for `patience` seconds, since `taken`
    holds the lock for a moment.
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


def taken(path: AnyPath) -> bool:
    """Return whether some process holds the lock on `path`; False where there is no such file."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two calls at once do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(opened)
    return False


@contextmanager
def holding(path: AnyPath, refusal: Exception, patience: float = 1.0) -> Iterator[None]:
    """Hold the lock on `path` for a block; raises `refusal` where another process keeps it too long."""
    held = take(path, patience)
    if held is None:
        raise refusal
    try:
        yield
    finally:
        os.close(held)
