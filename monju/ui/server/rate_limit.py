"""How often and how much a visitor may send: a token bucket each, and the request guard in front of the page
that keeps them.

The guard is an ASGI application around another; of gradio it knows the paths that a browser posts to.
"""

import ipaddress
import json
import re
import threading
import time

KEPT = 10_000  # visitors whose buckets are remembered, the last seen
MIB = 1 << 20
STRAIGHT = "/run/predict"  # the door of what needs no queue
# what browsers and clients post to; gradio has more
DOORS = re.compile(r"/gradio_api/(queue/join|run/predict|call/.+|upload|cancel|reset)/?$")
LARGEST_FILES, LARGEST = 51 * MIB, 8 * MIB  # bytes of a request: with files, without
LEAST = 10 * MIB  # that files count for, however small: one request may bring a thousand
REFUSALS = {404: "There is nothing here.", 411: "Say how long the request is.",
            413: "That is too large: send 50 MB at most.",
            422: "That is not what the page sends."}


class RateLimit:
    """A token bucket a visitor: `burst` tokens at once, `per_second` in the long run."""

    def __init__(self, burst, per_second, clock=time.monotonic):
        self.burst, self.per_second, self.clock = burst, per_second, clock
        self._left, self._lock = {}, threading.Lock()  # who → (tokens left, when that was)

    def allows(self, who, cost=1):
        """Whether `who` has so many tokens now; if so, they are taken."""
        with self._lock:
            now = self.clock()
            left, then = self._left.pop(who, (self.burst, now))
            left = min(self.burst, left + (now - then) * self.per_second)
            self._left[who] = left - cost if left >= cost else left, now
            if len(self._left) > KEPT:
                del self._left[next(iter(self._left))]
            return left >= cost


def visitor(host, forwarded=""):
    """Whose request this is: the peer's address, or, behind a proxy (a private peer), the last public address
    in its X-Forwarded-For, the one that the visitor cannot write; in IPv6 the network, all of whose addresses
    are one's own. None for this machine itself."""
    peer = _address(host)
    if getattr(peer, "is_private", False):
        public = [part for part in map(_address, (forwarded or "").split(",")) if part
                  and not getattr(part, "is_private", False)]
        if not public and peer.is_loopback:
            return None
        peer = public[-1] if public else peer
    if getattr(peer, "version", 4) == 6:
        peer = ipaddress.ip_network((peer, 64), strict=False)
    return str(peer)


def _address(host):
    """An address, one of IPv4 in IPv6's clothes as its own; text that is none as it is."""
    try:
        found = ipaddress.ip_address(host.strip())
    except ValueError:
        return host.strip()
    return getattr(found, "ipv4_mapped", None) or found


class RequestGuard:
    """Before a page: what no browser sends it is refused; who sends faster than `asks` allows, or more files
    than `each` and `all` allow (bytes), is answered 503 at once, and so is who would join the queue while it
    is `full`, or be answered past it while `most` are: before anything is read of what he sends. `busy` gives
    the words, for an Accept-Language.

    This machine itself is not counted, whoever sits at it.
    """

    def __init__(self, app, asks, each, all, full=lambda: False, most=float("inf"),
                 busy=lambda languages: "busy"):
        self.app, self.asks, self.each, self.all = app, asks, each, all
        self.full, self.most, self.busy = full, most, busy
        self.inside = 0  # who is being answered past the queue

    async def __call__(self, scope, receive, send):
        code = self.refusal(scope) if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD",
                                                                                          "OPTIONS") else None
        if code is None:
            if STRAIGHT not in scope.get("path", ""):
                return await self.app(scope, receive, send)
            self.inside += 1
            try:
                return await self.app(scope, receive, self.refusing_failures(scope, send))
            finally:
                self.inside -= 1
        await self.refuse(code, scope, send)

    async def refuse(self, code, scope, send):
        told = REFUSALS.get(code) or self.busy(dict(scope["headers"]).get(b"accept-language",
                                                                          b"").decode("latin-1"))
        body = json.dumps({"detail": told, "error": told}).encode()  # where Gradio's page looks, by door
        await send({"type": "http.response.start", "status": code, "headers": [
            (b"content-type", b"application/json"), (b"retry-after", b"1"),
            (b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    def refusing_failures(self, scope, send):
        """A `send` for what is answered past the queue: Gradio has one status, 500, for all that its
        functions do not take."""
        refused = False

        async def answer(message):
            nonlocal refused
            if message.get("status") == 500:
                refused = True
                await self.refuse(422, scope, send)
            elif not refused:
                await send(message)

        return answer

    def refusal(self, scope):
        """The HTTP status with which a request is refused, or None."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if not DOORS.search(scope["path"]):
            return 404
        if b"transfer-encoding" in headers:
            return 411
        length = int(headers.get(b"content-length", 0))  # the server has checked it
        files = headers.get(b"content-type", "").lower().startswith("multipart/")
        if length > (LARGEST_FILES if files else LARGEST):
            return 413
        if self.full() if "/queue/join" in scope[
            "path"] else STRAIGHT in scope["path"] and self.inside >= self.most:
            return 503
        who = visitor((scope.get("client") or ("", 0))[0], headers.get(b"x-forwarded-for", ""))
        if who is None:
            return None
        cost = max(length, LEAST)
        if not self.asks.allows(who) or files and not (self.each.allows(who, cost)
                                                       and self.all.allows("all", cost)):
            return 503
        return None
