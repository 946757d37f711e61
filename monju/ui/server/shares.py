"""Shares of the work: how much one visitor or address may fill, and the end of what nobody listens to."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from monju.ui.server.visitors import Visitor

VISITOR = "monju_visitor"  # where the request guard writes in a request's scope who sends it
EACH = 4  # a visitor's requests in the queue, one of them a batch, and as many past it
ADDRESS = 16  # an address's, in the queue
ADDRESS_PAST = 48  # an address's, past the queue: a lecture hall's sentences
ARRIVING, ALL_ARRIVING = 8, 64  # a visitor's and an address's: a page that opens asks for several things
LISTENED_S = 30  # after which work that nobody listens to ends


def kind(function: Any) -> str:
    """Return "batch", "first" or ""; first are a page that opens, a tab and the owner's acts."""
    if function.concurrency_id == "batch":
        return "batch"
    opens = any(event in ("load", "select") for _, event in function.targets)
    return "first" if opens or getattr(function.fn, "owners", False) else ""


class Shares:
    """What is waiting or being answered, counted by visitor and address.

    Parameters
    ----------
    queue : gradio's queue
        Its events are counted where they stand.
    most : int
        Requests that may wait in the queue, and as many past it.
    hall : str
        Addresses and networks, separated by commas, that are lecture halls: they have no bound of their own.
    """

    def __init__(self, queue: Any, most: int, hall: str = ""):
        self.queue, self.most = queue, most
        self.hall = [ipaddress.ip_network(one, strict=False) for one in hall.replace(",", " ").split()]
        self.listening: Counter[str] = Counter()  # open streams, by session or event
        self._inside: Counter[Any] = Counter()
        self._unheard: dict[str, frozenset[str]] = {}  # sessions that nobody listened to at the last look
        self._sweeping: asyncio.Task | None = None

    def may_wait(self, visitor: Visitor, function: Any) -> bool:
        """Return whether a visitor's call of a function may join the queue."""
        wanted = kind(function)
        events = [(event.request.scope.get(VISITOR), kind(event.fn)) for event in self.events()]
        first = [owner for owner, what in events if what == "first"]
        others = [owner for owner, what in events if what != "first"]
        if wanted == "first":
            return len(first) < 2 * self.most and self._fits(visitor, first, ARRIVING, ALL_ARRIVING)
        if wanted == "batch" and visitor.counted and any(
                what == "batch" and owner and owner.name == visitor.name for owner, what in events):
            return False
        return len(others) < self.most and self._fits(visitor, others, EACH, ADDRESS)

    def _fits(self, visitor: Visitor, owners: list[Visitor | None], each: int, address: int) -> bool:
        if not visitor.counted:
            return True
        mine = sum(owner is not None and owner.name == visitor.name for owner in owners)
        near = sum(owner is not None and owner.address == visitor.address for owner in owners)
        return mine < each and (near < address or self.is_hall(visitor.address))

    def is_hall(self, address: str | None) -> bool:
        """Return whether an address is one of a lecture hall."""
        with suppress(ValueError):
            first = ipaddress.ip_network(address or "").network_address
            return any(first in hall for hall in self.hall)
        return False

    @contextmanager
    def inside(self, visitor: Visitor, what: str) -> Iterator[bool]:
        """Count a request as being answered; gives whether there is room for it."""
        places = [what, *([(what, visitor.name), (what, "at", visitor.address)] if visitor.counted else [])]
        limits = [self.most, EACH, self.most if self.is_hall(visitor.address) else ADDRESS_PAST]
        if any(self._inside[place] >= limit for place, limit in zip(places, limits)):
            yield False
            return
        self._inside.update(places)
        try:
            yield True
        finally:
            self._inside.subtract(places)
            self._inside += Counter()  # what is zero is forgotten

    def events(self) -> list[Any]:
        """Return gradio's events that wait or are at work."""
        waiting = [event for one in self.queue.event_queue_per_concurrency_id.values() for event in one.queue]
        return waiting + [event for jobs in self.queue.active_jobs for event in jobs or []]

    @contextmanager
    def listener(self, name: str) -> Iterator[None]:
        """Count an open stream of a session's or an event's answers."""
        self.listening[name] += 1
        try:
            yield
        finally:
            self.listening[name] -= 1
            if not self.listening[name]:
                del self.listening[name]

    def keep_swept(self) -> None:
        """Start `sweep` every few seconds, once, on the running loop."""
        async def again() -> None:
            while True:
                await asyncio.sleep(LISTENED_S / 2)
                await self.sweep()

        if self._sweeping is None:
            self._sweeping = asyncio.create_task(again())

    async def sweep(self, now: float | None = None) -> None:
        """End the work that nobody has listened to for a while, and forget such answers."""
        now = time.monotonic() if now is None else now
        for event in self.events():
            if now - event.enqueue_time > LISTENED_S and not self.listening[event.session_hash]:
                await self.queue.clean_events(session_hash=event.session_hash)
                # as if it had been answered: whoever listens to the session later is not kept waiting for it
                self.queue.pending_event_ids_session.get(event.session_hash, set()).discard(event._id)
        # Gradio keeps 2,000 sessions' answers (a map's: half a MB) until they are asked for, and the names of
        # all sessions. What is new since the last look is spared: its page may be about to listen.
        asked, answers = self.queue.pending_event_ids_session, self.queue.pending_messages_per_session
        idle = {*asked, *answers} - {event.session_hash for event in self.events()}
        unheard = {session: frozenset(asked.get(session, ())) for session in idle}
        before, self._unheard = self._unheard, {session: ids for session, ids in unheard.items()
                                                if not {session, *ids} & self.listening.keys()}
        for session, ids in self._unheard.items():
            if before.get(session) == ids:
                asked.pop(session, None)
                answers.pop(session, None)
