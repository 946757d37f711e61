"""The inference process: runs are loaded and used in a process of their own.

So the caller's process stays small and responsive. It loads runs on demand, keeps the last used, is started
again when it dies, and ends with its parent.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from monju.errors import MonjuError
from monju.utils.cache import Cache

KEPT = 3  # loaded runs, the last used
TIMEOUT_S = 300  # for one answer, the load of its run included: a process that takes longer is taken for hung
TRIES = 2  # a request in flight when the process dies is asked once more
THREADS = 8  # requests at work at once: a run that loads does not keep those that are loaded from answering


class InferenceProcess:
    """A process that calls functions on loaded runs; `call` may come from any thread."""

    def __init__(self) -> None:
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._process: Any = None
        self._line: Any = None
        self._numbers = 0
        self._requests: dict[int, tuple] = {}  # in flight: (request, Future, tries left, when it was sent)

    def call(self, path: str | Path, stamp: int | None, function: str, *arguments: Any) -> Any:
        """Return `function(monju, *arguments)`, computed where the run's models are.

        Parameters
        ----------
        path : str or Path
            The run's folder.
        stamp : int or None
            When its manifest was written: a run that has changed is loaded anew.
        function : str
            "module:function".
        arguments : tuple
            Can be sent to another process.

        Returns
        -------
        object
            What the function returns.

        Raises
        ------
        MonjuError
            Where the process dies or hangs on this request, twice; and whatever the function raises.
        """
        future: Future = Future()
        self._ask((str(path), stamp, function, arguments), future, TRIES)
        return future.result()

    def start(self) -> None:
        """Start the process, unless it runs. Raises OSError where the machine has no room for it."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        if self._line is not None:
            return
        # a fork would inherit threads in the middle of their work
        context = multiprocessing.get_context("spawn")
        line, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # the process has its own: when it dies, the line is cut
        self._line = line
        threading.Thread(target=self._receive, args=(self._process, line), daemon=True).start()

    def kill(self) -> None:
        """End the process; it is started again by the next request."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process and whoever waits for it."""
        with self._lock:
            requests, self._requests = self._requests, {}
        for _, future, _, _ in requests.values():
            future.set_exception(MonjuError("the app is closing"))
        self.kill()
        if self._process is not None:
            self._process.join()

    def _ask(self, request: tuple, future: Future, tries: int) -> None:
        with self._lock:
            try:
                self._start()
            except OSError as error:
                future.set_exception(MonjuError(f"the machine has no room to load the models ({error}): try "
                                                "again in a moment"))
                return
            self._numbers += 1
            number, line = self._numbers, self._line
            self._requests[number] = request, future, tries, time.monotonic()
        with suppress(OSError), self._sending:  # where it has died, `_receive` finds the request in flight
            line.send((number, *request))

    def _receive(self, process: Any, line: Any) -> None:
        """Hand results out until the process is gone; then ask again what was in flight."""
        while True:
            try:
                if not line.poll(1):
                    self._end_if_hung(process)
                    continue
                number, result = line.recv()
            except (EOFError, OSError):
                break
            with self._lock:
                _, future, *_ = self._requests.pop(number, (None, Future()))
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        process.join()
        line.close()
        with self._lock:
            requests, self._requests, self._line = self._requests, {}, None
        for request, future, tries, _ in requests.values():
            if tries > 1:
                self._ask(request, future, tries - 1)
            else:
                future.set_exception(MonjuError("the models' process ended twice while it read this, perhaps "
                                                "for want of memory: "
                                                "try again in a moment, or a smaller run"))

    def _end_if_hung(self, process: Any) -> None:
        with self._lock:
            waited = time.monotonic() - min((sent for *_, sent in self._requests.values()), default=math.inf)
        if waited > TIMEOUT_S:
            process.kill()


def _serve(line: Any) -> None:
    """Serve requests until the line is cut, as it is when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    # before torch: some 50 µs, from one layer to the next; longer would starve the page
    os.environ["GOMP_SPINCOUNT"] = "10000"
    import tqdm

    from monju.inference.pipeline import Monju
    from monju.inference.reader import SentenceReader
    from monju.runs.run import Run
    from monju.utils.process import give_memory_back
    from monju.utils.quiet import quiet

    quiet()
    # its own is a semaphore of the system's, left behind when the process is killed
    tqdm.tqdm.set_lock(threading.RLock())
    runs, sending = Cache(KEPT), threading.Lock()

    def load(path: str) -> SentenceReader:
        try:
            if Run.open(path).task == "lm":
                from monju.inference.language import LanguageRun

                return LanguageRun.load(path)
            return Monju.load(path, bf16=True)
        except MonjuError:
            raise
        except Exception as error:  # libraries fail each in their own way on files that are not theirs
            traceback.print_exc()
            raise MonjuError(f"the models in {path} cannot be loaded ({type(error).__name__}): "
                             "restore the folder or train the run again") from None
        finally:
            give_memory_back()

    def serve(number: int, path: str, stamp: int | None, function: str, arguments: tuple) -> None:
        try:
            result = runs.get((path, stamp), lambda: load(path)).call(function, *arguments)
        except MonjuError as error:
            result = error
        except Exception as error:  # told where it was asked; the traceback stays here
            traceback.print_exc()
            result = RuntimeError(f"{type(error).__name__}: {error}")
        with sending:
            line.send((number, result))

    with ThreadPoolExecutor(THREADS) as pool:
        while True:
            try:
                pool.submit(serve, *line.recv())
            except EOFError:
                os._exit(0)  # nobody waits for what is still at work
