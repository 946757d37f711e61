"""How often and how much a visitor may send: a token bucket each."""

import threading
import time

KEPT = 10_000  # visitors whose buckets are remembered, the last seen


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
