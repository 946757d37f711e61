"""A thread-safe LRU cache: one caller makes a value, others of its key wait, those of other keys do not."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any


class Cache:
    """The `size` last used values by key; `drop(value)` is called with each value that is evicted."""

    def __init__(self, size: int, drop: Callable[[Any], object] = lambda value: None):
        self.size, self.drop = size, drop
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._making: dict[Hashable, Future] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any],
            valid: Callable[[Any], bool] = lambda value: True) -> Any:
        """Return the value of a key; where there is none that is `valid`, what `make()` returns.

        An exception in `make` is raised for all who waited for it, and not kept.
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

    def _made(self, key: Hashable, make: Callable[[], Any], promise: Future, dropped: list) -> Any:
        """Make a value, keep it, evict others, and give it or its exception to those who wait."""
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

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def clear(self) -> None:
        """Evict every value."""
        with self._lock:
            dropped = list(self._kept.values())
            self._kept.clear()
        for value in dropped:
            self.drop(value)


class once:
    """A property computed once per object, with a lock for each object.

    functools.cached_property has one lock for all objects in Python 3.11, and none in 3.12.
    """

    def __init__(self, work: Callable[[Any], Any]):
        self.work, self.__doc__ = work, work.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        kept = vars(instance)
        with kept.setdefault(f"{self.name} lock", threading.RLock()):
            if self.name not in kept:
                kept[self.name] = self.work(instance)
            return kept[self.name]
