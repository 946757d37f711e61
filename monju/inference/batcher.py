"""Dynamic batches: callers who ask at the same moment share one forward pass.

A caller waits for its own answer only. While one batch is being read the next gathers, so that a
lone visitor is never made to wait for company and a crowd costs little more than one. A crowd may
be read in another way, that pays for many. Knows nothing of pages or requests.
"""

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import replace

from monju.data.inputs import sentences

MIN_CONCURRENT = 4  # callers in one batch from which on it is a crowd: fewer are answered as fast in the ordinary way
MAX_BATCH = 64  # sentences in one batch


class DynamicBatcher:
    """Stands before a loaded run: `Together(monju.votes).votes([text])` from any number of threads.

    `read` and `read_crowd` are functions texts [n] → Votes, the latter for `CROWD` callers and more; it may answer None, and the
    former is asked. There is no thread of its own: of those who wait, whoever comes first reads for all.
    """

    def __init__(self, read, read_crowd=None):
        self.read, self.read_crowd = read, read_crowd
        self.waiting, self.reading, self.changed = deque(), False, threading.Condition()

    def votes(self, texts):
        """As `Monju.votes`, for one caller; raises what that would raise for these sentences."""
        texts, answer = sentences(texts), Future()
        with self.changed:
            self.waiting.append((texts, answer))
        while not answer.done():
            with self.changed:
                self.changed.wait_for(lambda: answer.done() or not self.reading)
                if answer.done():
                    break
                self.reading, asked = True, self._next()
            try:
                self._answer(asked)
            finally:
                with self.changed:
                    self.reading = False
                    self.changed.notify_all()
        return answer.result()

    def _next(self):
        """Those who wait, the first first, as many as make one batch."""
        asked = []
        while self.waiting and sum(len(texts) for texts, _ in asked) < MAX_BATCH:
            asked.append(self.waiting.popleft())
        return asked

    def _answer(self, asked):
        """One pass for all; where it fails, each on its own, so that one bad sentence spoils nobody else's answer."""
        try:
            all_texts = [text for texts, _ in asked for text in texts]
            found = self.read_crowd(all_texts) if self.read_crowd and len(asked) >= MIN_CONCURRENT else None
            found = self.read(all_texts) if found is None else found
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
