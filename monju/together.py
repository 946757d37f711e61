"""Together: visitors who ask at the same moment share one forward pass.

A caller waits for its own answer only. While one batch is being read the next gathers, so that a
lone visitor is never made to wait for company and a crowd costs little more than one.
Knows nothing of pages or requests.
"""

import queue
import threading
from concurrent.futures import Future
from dataclasses import replace

LARGEST = 64  # sentences in one batch


class Together:
    """Stands before a loaded run: `Together(monju).votes([text])` from any number of threads."""

    def __init__(self, monju):
        self.monju = monju
        self.waiting = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="together", daemon=True).start()

    def votes(self, texts):
        """As `Monju.votes`, for one caller; raises what that would raise for these sentences."""
        answer = Future()
        self.waiting.put((list(texts), answer))
        return answer.result()

    def close(self):
        """Answer who waits, then stop."""
        self.waiting.put(None)

    def _serve(self):
        while (first := self.waiting.get()) is not None:
            asked, stop = [first], False
            while not stop and sum(len(texts) for texts, _ in asked) < LARGEST and not self.waiting.empty():
                more = self.waiting.get()
                stop = more is None
                asked += [] if stop else [more]
            self._answer(asked)
            if stop:
                return

    def _answer(self, asked):
        """One pass for all; where it fails, each on its own, so that one bad sentence spoils nobody else's answer."""
        try:
            found = self.monju.votes([text for texts, _ in asked for text in texts])
        except Exception as error:  # raised where it was asked
            if len(asked) == 1:
                asked[0][1].set_exception(error)
            else:
                for one in asked:
                    self._answer([one])
            return
        start = 0
        for texts, answer in asked:
            answer.set_result(rows(found, slice(start, start := start + len(texts))))


def rows(votes, wanted):
    """The Votes of some of the sentences."""
    return replace(votes, **{name: part[wanted] for name in ("vectors", "distances", "posterior", "logits")
                             if (part := getattr(votes, name)) is not None})
