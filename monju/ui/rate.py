"""How often a visitor may ask: a token bucket each, and the turnstile before the page that keeps them.

Knows nothing of gradio: the turnstile is an ASGI application around another.
"""

import ipaddress
import json
import threading
import time

KEPT = 10_000  # visitors whose buckets are remembered, the last seen
BUSY = json.dumps({"detail": "The page is busy: try again in a moment."}).encode()


class Rate:
    """A token bucket a visitor: `burst` asks at once, `per_second` in the long run."""

    def __init__(self, burst, per_second, clock=time.monotonic):
        self.burst, self.per_second, self.clock = burst, per_second, clock
        self._left, self._lock = {}, threading.Lock()  # who → (tokens left, when that was)

    def allows(self, who):
        """Whether `who` may ask now; if so, one token is taken."""
        with self._lock:
            now = self.clock()
            left, then = self._left.pop(who, (self.burst, now))
            left = min(self.burst, left + (now - then) * self.per_second)
            self._left[who] = max(0, left - 1) if left >= 1 else left, now
            if len(self._left) > KEPT:
                del self._left[next(iter(self._left))]
            return left >= 1


def visitor(host, forwarded=""):
    """Whose request this is: the peer's address, or, behind a proxy (a private peer), the last public address in its
    X-Forwarded-For, the one that the visitor cannot write. None for this machine itself."""
    if not _private(host):
        return host
    public = [part.strip() for part in (forwarded or "").split(",") if part.strip() and not _private(part.strip())]
    return public[-1] if public else None if _loopback(host) else host


def _private(host):
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def _loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Turnstile:
    """Before a page: who posts faster than `rate` allows is answered 503 at once, which the page tells as "busy, try again".

    This machine itself is not counted, whoever sits at it.
    """

    def __init__(self, app, rate):
        self.app, self.rate = app, rate

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["method"] == "POST":
            forwarded = dict(scope["headers"]).get(b"x-forwarded-for", b"").decode("latin-1")
            who = visitor((scope.get("client") or ("", 0))[0], forwarded)
            if who is not None and not self.rate.allows(who):
                await send({"type": "http.response.start", "status": 503, "headers": [
                    (b"content-type", b"application/json"), (b"retry-after", b"1"), (b"content-length", b"%d" % len(BUSY))]})
                await send({"type": "http.response.body", "body": BUSY})
                return
        await self.app(scope, receive, send)
