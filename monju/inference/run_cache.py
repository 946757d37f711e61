"""The runs that the app shows: found in one folder, opened when first wanted, shared by all users.

What is kept here is light: manifests, centres, stored predictions. The models are in the inference process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from monju.clustering.cluster_model import Clustering
from monju.data.notes import refusal
from monju.data.sources import Data
from monju.ensemble.outputs import ModelOutputs, Reading
from monju.errors import MonjuError
from monju.inference import zerogpu
from monju.inference.batcher import DynamicBatcher
from monju.inference.process import InferenceProcess
from monju.inference.reader import SentenceReader
from monju.runs import registry
from monju.runs.run import Run
from monju.runs.run_data import load_run_data
from monju.utils.cache import Cache

KEPT = 8  # opened runs that stay in memory, the last used
REMEMBERED = 256  # sentences of a run whose outputs are kept: turning the gate asks no model again
RETRY_S = 60  # after which sentences that could not be had are asked for again


class LoadedRun(SentenceReader):
    """A finished run whose models are in the inference process.

    Raises MonjuError for a run that cannot be shown.
    """

    def __init__(self, path: Path, stamp: int | None, process: InferenceProcess):
        run = Run.open(path).check()
        run.refuse_task("classify")
        try:
            clustering = Clustering.load(run.path / "clustering", replace(run.config, device="cpu"))
        except MonjuError:
            raise
        except Exception as error:  # each embedder and clusterer fails in its own way on what is not its own
            raise MonjuError(f"the clusters of {path} cannot be loaded ({type(error).__name__}): "
                             "restore the folder or train the run again") from None
        super().__init__(run, clustering)
        self.stamp, self.process, self.ready = stamp, process, False
        self._batcher = DynamicBatcher(self._ask)
        self._outputs, self._data = Cache(REMEMBERED), Cache(1)
        self._sentences: Data | None = None

    def outputs(self, texts: Iterable[str]) -> ModelOutputs:
        """Return `Monju.outputs`; callers at the same moment share a forward pass."""
        if zerogpu.ON:  # a GPU is lent to one user's call
            return zerogpu.outputs(self.run.path, self.stamp, texts, otherwise=self._batcher.outputs)
        return self._batcher.outputs(texts)

    def read_one(self, text: str, view: SentenceReader | None = None) -> Reading:
        """Return the Reading of one sentence under a view of this run; its outputs are remembered."""
        outputs = self._outputs.get(text, lambda: self.outputs([text]))
        return (view or self).readings([text], outputs)[0]

    def call(self, function: str, *arguments: Any) -> Any:
        """Return `function(monju, *arguments)`, computed in the inference process."""
        return self.process.call(self.run.path, self.stamp, function, *arguments)

    def _ask(self, texts: list[str]) -> ModelOutputs:
        outputs = self.call("monju.inference.pipeline:Monju.outputs", texts)
        self.ready = True
        return outputs

    def data(self, wait: bool = True) -> Data | None:
        """Return the run's sentences, or None where they cannot be read.

        To ask a hub that does not answer takes seconds: without `wait`, None until they are read beside.
        """
        if not wait:
            if self._sentences is None:
                threading.Thread(target=self.data, daemon=True).start()
            return self._sentences

        def read() -> tuple[Data | None, float | None]:
            try:
                self._sentences = load_run_data(self.run)
                return self._sentences, None
            except MonjuError:
                return None, time.monotonic() + RETRY_S

        return self._data.get("data", read, lambda kept: kept[1] is None or time.monotonic() < kept[1])[0]

    def texts(self) -> list[str] | None:
        """Return all training sentences of the run by row, or None where they cannot be read."""
        return None if (data := self.data()) is None else data.train.texts


class RunCache:
    """The run that the app starts on, and every other run in `folder`, each known by its folder's name.

    A run that fails to open is tried again when next asked for; one that changed on disk is opened anew.

    Parameters
    ----------
    first : str or Path
        The run that the app starts on.
    folder : str or Path, optional
        The folder of the other runs; by default the one that holds `first`.
    process : InferenceProcess, optional
        Where the models are; by default a new one.
    """

    def __init__(self, first: str | Path, folder: str | Path | None = None,
                 process: InferenceProcess | None = None):
        self.first, self.folder = Path(first), Path(folder or Path(first).parent)
        self.process = process or InferenceProcess()
        self._opened = Cache(KEPT)  # by name

    @property
    def start(self) -> str:
        """The name of the run that the app starts on."""
        return Path(os.path.abspath(self.first)).name  # not resolved: a link keeps its own name

    def path(self, name: str) -> Path:
        """Return the folder of a run's name. Raises MonjuError for a name that is no plain folder name."""
        if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name or "\0" in name:
            raise MonjuError("there is no run of that name: choose one from the list")
        return self.first if name == self.start else self.folder / name

    def names(self) -> list[str]:
        """Return the names of the finished runs, the app's own first, then the newest."""
        finished = {}
        for manifest in registry.manifests(self.folder):
            try:
                if Run.open(manifest.parent).finished:
                    finished[manifest.parent.name] = manifest.stat().st_mtime
            except Exception:  # whatever stands in it: the others are listed
                continue  # being written, deleted or damaged: not to be chosen
        finished.pop(self.start, None)
        return [self.start, *sorted(finished, key=finished.__getitem__, reverse=True)]

    def run(self, name: str) -> Run:
        """Return the run's folder and manifest, whole or not. Raises MonjuError where there is none."""
        return Run.open(self.path(name))

    def ready(self, name: str) -> bool:
        """Return whether the run's models have given outputs already, so that no load is to be waited for."""
        return name in self._opened and self.open(name).ready

    def open(self, name: str) -> LoadedRun:
        """Return the opened run, without loading a model. Raises MonjuError where it cannot be shown."""
        path = self.path(name)
        self._refuse_other(name, "classify", "run_writes", "a run trained with --task classify")
        try:
            stamp = (path / "run.json").stat().st_mtime_ns
        except OSError:
            stamp = None  # gone: opening it says so in words
        return self._opened.get(name, lambda: LoadedRun(path, stamp, self.process),
                                lambda kept: kept.stamp == stamp)

    def classifiers(self, name: str) -> Run:
        """Return `run` of a run of classifiers. Raises MonjuError for one of language models."""
        self._refuse_other(name, "classify", "run_writes", "a run trained with --task classify")
        return self.run(name)

    def writer(self, name: str) -> Callable[..., Any]:
        """Return `call(function, *arguments)` on a run of language models, in the inference process.

        Raises MonjuError for a run that is none, or cannot be shown.
        """
        self._refuse_other(name, "lm", "run_labels", "a run trained with --task lm")
        run = self.run(name).check()
        return partial(self.process.call, run.path, (run.path / "run.json").stat().st_mtime_ns)

    def _refuse_other(self, name: str, task: str, code: str, otherwise: str) -> None:
        """Raise MonjuError, which names the runs that will do, for a run of another task."""
        if self.task(name) not in (task, None):
            others = [other for other in self.names() if self.task(other) == task]
            raise refusal(code, name=name, others=", ".join(others[:3]) or otherwise)

    def task(self, name: str) -> str | None:
        """Return what a run's models do, "classify" or "lm"; None where there is no such run."""
        try:
            return self.run(name).task
        except MonjuError:
            return None

    def warm(self) -> None:
        """Load the first run in the background, so that it is ready, or nearly, when the first user comes."""
        threading.Thread(target=self._warm, daemon=True).start()

    def _warm(self) -> None:
        try:
            self.open(self.start).outputs(["ready"])
        except (MonjuError, RuntimeError):
            pass  # the first user is told
