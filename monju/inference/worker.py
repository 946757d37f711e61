"""Inference worker: a run's models in a process of their own, in bf16, for many concurrent users.

Requests and drawing hold the interpreter of the page's process, and threads that read there wait for it between any two
operations: a third of a crowd's time. Knows nothing of pages or requests.
"""

import multiprocessing
import signal
import threading
import time

from monju.data.inputs import sentences

TIMEOUT_S = 60  # seconds for one answer: who has not answered by then never will
RESTART_BACKOFF_S = 60  # seconds from one start to the next, at least: what died for want of memory would soon die again


class InferenceWorker:
    """`Reader(path).votes(texts)`: as `Monju.votes` in bf16, elsewhere. One caller at a time.

    Its process ends when it is closed or the process that started it is gone.
    """

    def __init__(self, path):
        self.path, self._line, self._loaded = path, None, False
        self._next, self._starting = 0, threading.Lock()  # when it may be started

    def start(self):
        """Begin to load the models, unless they are there, or were begun with less than `AGAIN` ago. Raises OSError where the machine
        has no room for another process."""
        with self._starting:
            if self._line is not None or time.monotonic() < self._next:
                return
            self._next = time.monotonic() + RESTART_BACKOFF_S
            context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads in the middle of their work
            line, theirs = context.Pipe()
            self._process = context.Process(target=_read, args=(str(self.path), theirs), daemon=True)
            self._process.start()
            theirs.close()  # the process has its own: when it dies, the line is cut
            self._line, self._loaded = line, False

    def votes(self, texts):
        """texts [n] → Votes, or None while there is nobody to ask: the models are not loaded yet, or the process has died or hangs
        (it is started again). Raises what `Monju.votes` would."""
        texts = sentences(texts)
        try:
            self.start()
            if self._line is None or not self._loaded and not self._line.poll():
                return None
            self._loaded = self._loaded or self._line.recv()
            self._line.send(texts)
            if not self._line.poll(TIMEOUT_S):
                raise EOFError
            found = self._line.recv()
        except (EOFError, OSError):
            self.close()
            return None
        if isinstance(found, Exception):
            raise found
        return found

    def close(self):
        """End the process."""
        line, self._line = self._line, None
        if line is not None:
            self._process.kill()
            self._process.join()
            line.close()


def _read(path, line):
    """The process's life: load, say so, and answer until the line is cut."""
    from monju.inference.pipeline import Monju  # here: whoever only starts a reader need not have torch
    from monju.utils.process import end_with_parent
    from monju.utils.quiet import quiet

    quiet()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=end_with_parent, daemon=True).start()
    monju = Monju.load(path, "cpu", bf16=True)
    monju.votes(["ready"])  # a first forward pass is slower than those after it
    line.send(True)
    while True:
        try:
            texts = line.recv()
        except EOFError:
            return
        try:
            line.send(monju.votes(texts))
        except Exception as error:  # raised where it was asked
            line.send(error)
