"""Visitors: who sends a request, by a signed cookie from the page's first answer, and whose a session is.

An address may be a lecture hall, and a session's name is the browser's own to choose.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

COOKIE = "monju_visitor"
LIVE = 200  # visitors of one address
IDLE_S = 900  # after which a visitor who sends nothing does not count as live
SESSIONS, ADDRESSES = 10_000, 10_000  # remembered, the last seen


class Visitor(NamedTuple):
    """Who sends a request; all of an address who have no cookie are one."""

    name: str
    address: str | None  # None for this machine itself

    @property
    def counted(self) -> bool:
        """Whether limits apply: not to whoever sits at this machine."""
        return self.address is not None


class Visitors:
    """The visitors of this process's life."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock, self._key = clock, secrets.token_bytes(32)
        self._live: OrderedDict[str | None, OrderedDict[str, float]] = OrderedDict()
        self._sessions: OrderedDict[str, Visitor] = OrderedDict()

    def of(self, cookie: str | None, address: str | None) -> Visitor:
        """Return whose request this is."""
        name, _, signature = (cookie or "").partition(".")
        if name and hmac.compare_digest(signature, self._signature(name)) and self._seen(name, address):
            return Visitor(name, address)
        return Visitor(f"of {address}", address)

    def new(self, address: str | None) -> str | None:
        """Return a cookie for a new visitor, or None where the address has too many."""
        name = secrets.token_hex(8)
        return f"{name}.{self._signature(name)}" if self._seen(name, address) else None

    def bind(self, session: str, visitor: Visitor) -> bool:
        """Return whether the session is this visitor's; nobody's becomes his."""
        known = self._sessions.setdefault(session, visitor)
        self._sessions.move_to_end(session)
        if len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        return known.name == visitor.name

    def owner(self, session: str) -> Visitor | None:
        """Return the visitor to whom a session belongs."""
        return self._sessions.get(session)

    def _signature(self, name: str) -> str:
        return hmac.new(self._key, name.encode("utf-8", "replace"), "sha256").hexdigest()[:32]

    def _seen(self, name: str, address: str | None) -> bool:
        live, now = self._live.setdefault(address, OrderedDict()), self.clock()
        self._live.move_to_end(address)
        if len(self._live) > ADDRESSES:
            self._live.popitem(last=False)
        while live and now - next(iter(live.values())) > IDLE_S:
            live.popitem(last=False)
        if name not in live and len(live) >= LIVE and address is not None:
            return False
        live[name] = now
        live.move_to_end(name)
        return True


def network(host: str) -> str | None:
    """Return the address that a peer counts as, in IPv6 its /64 network; None for this machine itself."""
    try:
        address = ipaddress.ip_address(host.strip())
    except ValueError:
        return host.strip()
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return None
    return str(ipaddress.ip_network((address, 64), strict=False) if address.version == 6 else address)
