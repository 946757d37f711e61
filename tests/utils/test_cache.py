"""What threads share: made once, at most so many kept, nobody waits for another's."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from monju.utils.cache import Cache, once


@pytest.fixture
def hasty():
    """Threads change places as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_the_last_used_are_kept_and_the_others_dropped():
    dropped, made = [], []
    cache = Cache(2, dropped.append)
    for key in "abacab":
        assert cache.get(key, lambda: made.append(key) or key.upper()) == key.upper()
    assert made == ["a", "b", "c", "b"] and dropped == ["B", "C"]
    assert "a" in cache and "b" in cache and "c" not in cache
    cache.clear()
    assert dropped == ["B", "C", "A", "B"] and "a" not in cache


def test_what_is_valid_no_more_is_dropped_before_it_is_made_anew():
    dropped = []
    cache = Cache(2, dropped.append)
    assert cache.get("a", lambda: 1) == cache.get("a", lambda: 2, lambda value: value == 1) == 1
    assert cache.get("a", lambda: list(dropped), lambda value: value == 2) == [1]
    assert cache.get("a", lambda: 3) == [1]


def test_who_asks_for_the_same_waits_and_who_asks_for_another_does_not():
    begun, door, made = threading.Event(), threading.Event(), []
    cache = Cache(2)

    def slow():
        begun.set()
        made.append(door.wait(60))
        return "slow"

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(cache.get, "slow", slow) for _ in range(2)]
        assert begun.wait(60)
        try:
            assert pool.submit(cache.get, "quick", lambda: "quick").result(20) == "quick"
            assert not any(one.done() for one in asked)
        finally:
            door.set()
        assert [one.result(60) for one in asked] == ["slow", "slow"] and made == [True]


def test_a_failure_is_told_to_all_who_waited_and_tried_again():
    begun, door, tried = threading.Event(), threading.Event(), []
    cache = Cache(2)

    def failing():
        tried.append(begun.set() or door.wait(60))
        raise ValueError("no")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, "a", failing)
        assert begun.wait(60)
        second = pool.submit(cache.get, "a", failing)
        door.set()
        for one in (first, second):
            with pytest.raises(ValueError, match="no"):
                one.result(60)
    assert cache.get("a", lambda: 1) == 1


def test_many_threads_at_once_find_what_is_theirs(hasty):
    """Eight threads, of 40 keys 4 kept: every value is the key's own, and no more are kept."""
    dropped = []
    cache = Cache(4, dropped.append)

    def asks(first):
        return all(cache.get(key, lambda: (key, key**2)) == (key, key**2) for n in range(2000) for key in [(first * 7 + n * n) % 40])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(asks, range(8)))
    assert sum(key in cache for key in range(40)) == 4 and dropped


class Worker:
    def __init__(self):
        self.begun, self.door, self.worked = threading.Event(), threading.Event(), 0

    @once
    def found(self):
        """What is found."""
        self.begun.set()
        self.worked += 1
        assert self.door.wait(60)
        return [self.worked]


def test_once_is_once_for_each_object_and_nobody_waits_for_another_object():
    slow, quick = Worker(), Worker()
    quick.door.set()
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(lambda: slow.found) for _ in range(2)]
        assert slow.begun.wait(60)
        try:
            assert pool.submit(lambda: quick.found).result(20) == [1]
        finally:
            slow.door.set()
        first, second = (one.result(60) for one in asked)
    assert first is second is slow.found and slow.worked == 1 and Worker.found.__doc__ == "What is found."


def test_what_once_raises_is_not_kept():
    class Failing:
        tries = 0

        @once
        def found(self):
            self.tries += 1
            if self.tries == 1:
                raise ValueError
            return self.tries

    failing = Failing()
    with pytest.raises(ValueError):
        failing.found
    assert failing.found == failing.found == 2
