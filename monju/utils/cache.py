"""A cache for threads: one makes a value, those who ask for the same wait, those who ask for others do not.

Knows nothing of what the values are.
"""

import threading
from collections import OrderedDict
from concurrent.futures import Future


class Cache:
    """Values by key, of which the `size` last used are kept; `drop(value)` is called with each that is not kept any more."""

    def __init__(self, size, drop=lambda value: None):
        self.size, self.drop = size, drop
        self._kept, self._making, self._lock = OrderedDict(), {}, threading.Lock()

    def get(self, key, make, valid=lambda value: True):
        """The value of a key; where there is none, or one that is not `valid` any more, what `make()` gives.

        What `make` raises is raised for all who waited for it, and not kept.
        """
        while True:
            with self._lock:
                if key in self._kept and valid(self._kept[key]):
                    self._kept.move_to_end(key)
                    return self._kept[key]
                mine = key not in self._making
                promise = self._making.setdefault(key, Future())
                stale = [self._kept.pop(key)] if mine and key in self._kept else []
            if mine:
                return self._made(key, make, promise, stale)
            if valid(value := promise.result()):
                return value

    def _made(self, key, make, promise, dropped):
        try:
            for value in dropped:
                self.drop(value)
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            promise.set_exception(error)
            raise
        with self._lock:
            self._kept[key] = value
            del self._making[key]
            dropped = [self._kept.popitem(last=False)[1] for _ in range(len(self._kept) - self.size)]
        promise.set_result(value)
        for old in dropped:
            self.drop(old)
        return value

    def __contains__(self, key):
        return key in self._kept

    def clear(self):
        """Keep nothing."""
        with self._lock:
            dropped = list(self._kept.values())
            self._kept.clear()
        for value in dropped:
            self.drop(value)


class once:
    """A property that is worked out once for each object. functools.cached_property has one lock for all objects in
    Python 3.11, and none in 3.12."""

    def __init__(self, work):
        self.work, self.__doc__ = work, work.__doc__

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        kept = vars(instance)  # what it holds is found before this is called again
        with kept.setdefault(f"{self.name} lock", threading.RLock()):
            if self.name not in kept:
                kept[self.name] = self.work(instance)
            return kept[self.name]
