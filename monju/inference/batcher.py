"""Dynamic batches: callers who ask at the same moment share one forward pass.

While one batch is being read the next gathers: a single caller never waits for others. Knows nothing of pages
or requests.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace

from monju.data.inputs import sentences
from monju.ensemble.outputs import ModelOutputs

MAX_BATCH = 64  # sentences in one batch
IN_FLIGHT = 2  # batches: one is on the way to the models, or back, while another is read


class DynamicBatcher:
    """A batcher before a function that reads sentences: `outputs(texts)` from any number of threads.

    There is no worker thread: the first waiting caller runs the batch for everyone queued.

    Parameters
    ----------
    read : callable
        Texts [n] → ModelOutputs.
    in_flight : int
        Number of batches that are read at the same time.
    """

    def __init__(self, read: Callable[[list[str]], ModelOutputs], in_flight: int = IN_FLIGHT):
        self.read, self.in_flight = read, in_flight
        self.waiting: deque = deque()
        self.reading, self.changed = 0, threading.Condition()  # batches in flight

    def outputs(self, texts: Iterable[str]) -> ModelOutputs:
        """Return the outputs of one caller's texts [n]; raises what `read` raises for these alone."""
        texts, future = sentences(texts), Future[ModelOutputs]()
        with self.changed:
            self.waiting.append((texts, future))
        while not future.done():
            with self.changed:
                self.changed.wait_for(lambda: future.done() or self.waiting and self.reading < self.in_flight)
                if future.done():
                    break
                batch = self._next()
                self.reading += 1
            try:
                self._answer(batch)
            finally:
                with self.changed:
                    self.reading -= 1
                    self.changed.notify_all()
        return future.result()

    def _next(self) -> list[tuple]:
        """Return the longest waiting requests, as many as make one batch."""
        batch: list[tuple] = []
        while self.waiting and sum(len(texts) for texts, _ in batch) < MAX_BATCH:
            batch.append(self.waiting.popleft())
        return batch

    def _answer(self, batch: list[tuple]) -> None:
        """Read a batch in one pass.

        Where it fails, each request is read on its own, so that one bad sentence affects no other caller.
        """
        try:
            outputs = self.read([text for texts, _ in batch for text in texts])
        except Exception as error:  # raised where it was asked
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                for request in batch:
                    self._answer([request])
            return
        start = 0
        for texts, future in batch:
            future.set_result(rows(outputs, slice(start, start := start + len(texts))))


def rows(outputs: ModelOutputs, selection: slice) -> ModelOutputs:
    """Return the outputs for some of the sentences."""
    parts = {name: part[selection] for name in ("vectors", "distances", "posterior", "logits", "notes")
             if (part := getattr(outputs, name)) is not None}
    return replace(outputs, **parts)
