"""The runs that the page can show: found in one folder, opened when first wanted, shared by all viewers.

Knows nothing of gradio.
"""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

from monju.ensemble import fusion, gates
from monju.errors import MonjuError
from monju.evaluation import combiners
from monju.inference import students, zerogpu
from monju.inference.batcher import DynamicBatcher
from monju.inference.worker import InferenceWorker
from monju.runs.run import Run
from monju.runs.run_data import load_run_data
from monju.utils.cache import Cache, once

KEPT = 3  # opened runs that stay in memory, the last used
REMEMBERED = 256  # sentences of a run whose votes are kept: turning the gate asks no model again
AGAIN = 60  # seconds after which sentences that could not be had are asked for again


class LoadedRun:
    """A run's models with what they have said already."""

    def __init__(self, monju, stamp):
        self.monju, self.stamp = monju, stamp
        for_crowds = monju.pays_in_bf16 and os.environ.get("MONJU_BF16") != "0" and not zerogpu.ON
        self.reader = InferenceWorker(monju.run.path) if for_crowds else None
        self._together = DynamicBatcher(monju.votes, self.reader and self.reader.votes)
        self._alphas, self._votes, self._texts = Cache(REMEMBERED), Cache(REMEMBERED), Cache(1)
        self._merging = threading.Lock()

    def read(self, text, **settings):
        """(the run under these gate and fusion settings, its Reading of a sentence). Raises MonjuError."""
        view = self.view(**settings)
        votes = self._votes.get(text, lambda: self.votes([text]))
        return view, view.readings([text], votes)[0]

    def votes(self, texts):
        """The Votes of texts [n]; those who ask at the same moment share a forward pass. Raises MonjuError."""
        if zerogpu.ON:  # a GPU is lent to one visitor's call
            return zerogpu.votes(self.monju, self.stamp, texts)
        return self._together.votes(texts)

    def close(self):
        """End what runs beside the page for it."""
        if self.reader:
            self.reader.close()

    def view(self, gate=None, **settings):
        """The run under these settings; `gate` may also be a way of `combiners`. Raises MonjuError for what cannot be."""

        if not isinstance(gate, str) or gate in gates.TABLE or gate not in combiners.TABLE:
            return self.monju.under(**settings, **({} if gate is None else {"gate": gate}))
        way = combiners.TABLE[gate]
        if mix := next((name for name, mix in fusion.TABLE.items() if mix is way.mix), None):
            settings["fusion"] = mix
        view = self.monju.under(**settings)
        view.way = (gate, lambda votes: way.decide(votes, replace(self.known, config=view.config)))
        return view

    @once
    def gates(self):
        """What this run can be decided by: its gates, and ways that were learned on sentences kept aside from training."""

        votes = self.votes(["ready"])
        return [name for name, way in combiners.all_combiners().items() if not way.lack(votes, self.known)
                and (name in gates.TABLE or name in combiners.TABLE and way.kind != "control")]

    @once
    def known(self):
        """What the ways may learn from."""

        return combiners.fit_context(self.monju)

    @once
    def comparison(self):
        """Every way to decide on the stored held-out sentences, as `compare` has it; no model is asked. Raises MonjuError."""
        from monju.evaluation.comparison import compare

        votes, labels = self.held_out
        return compare(self.monju, labels, votes=votes)

    @once
    def merged(self):
        """(its experts' Merger, {merge's name: weights}, {merge's name: why there is none})."""
        from monju.evaluation import merge_methods
        from monju.evaluation.merge_runner import MergeRunner

        merger, there, lacking = MergeRunner(self.monju), {}, {}
        for name, merge in merge_methods.TABLE.items():
            try:
                weights = merge(merger)
                there[name] = {part: weights[part] for part in merger.learned}
            except MonjuError as error:
                lacking[name] = str(error)
        return merger, there, lacking

    def singles(self, text):
        """What each merge and each student says of one sentence: {name: logits [labels]}, and {name: why it is missing}."""

        with self._merging:  # a merger's model reads with one set of weights at a time
            merger, there, lacking = self.merged
            found = {name: merger.logits(weights, [text])[0] for name, weights in there.items()}
        return found | {name: logits[0] for name, logits in students.student_logits(self.monju, [text]).items()}, lacking

    def alpha(self, **settings):
        """α [n, experts] of the stored held-out sentences under these settings, or None where none are stored."""
        def decided():
            return self.view(**settings).decide(self.held_out[0]).alpha

        try:  # every sentence under these settings is shown among the same
            return self._alphas.get(tuple(sorted(settings.items())), decided)
        except MonjuError:
            return None

    def effect(self, **settings):
        """What these settings change on the held-out sentences: n, accuracy before and after, changed labels, p. Raises
        MonjuError where the run has not stored what it takes."""
        from monju.evaluation.metrics import compare_pair

        (votes, labels), view = self.held_out, self.view(**settings)
        before, after = (one.decide(votes).monju.argmax(axis=1) for one in (self.monju, view))
        return {"n": len(labels), "before": float((before == labels).mean()), "after": float((after == labels).mean()),
                "own": view.way is None and view.config == self.monju.config, **compare_pair(after, before, labels)}

    @once
    def held_out(self):
        """The stored held-out predictions: Votes, labels [n]. Raises MonjuError for a damaged file."""
        from monju.runs.prediction_store import load_predictions

        return load_predictions(self.monju.run)

    @once
    def atlas(self):
        """The run's map. Raises MonjuError where there is none."""
        from monju.evaluation.cluster_map import ClusterMap

        return ClusterMap.load(self.monju.run)

    def texts(self):
        """All training sentences of the run by row, or None where they cannot be had."""
        def read():
            try:
                return load_run_data(self.monju.run).train.texts, None
            except MonjuError:
                return None, time.monotonic() + AGAIN

        return self._texts.get("train", read, lambda found: found[1] is None or time.monotonic() < found[1])[0]


class RunCache:
    """The run that the page starts on, and every other run in `folder`, each known by its folder's name.

    A run that fails to open is tried again when next asked for; one that changed on disk is opened anew.
    """

    def __init__(self, first, folder=None):
        self.first, self.folder = Path(first), Path(folder or Path(first).parent)
        self._opened = Cache(KEPT, LoadedRun.close)  # by name
        self._loading = threading.BoundedSemaphore(KEPT)  # runs that load at the same moment are not among those kept yet

    @property
    def start(self):
        """The name of the run that the page starts on."""
        return Path(os.path.abspath(self.first)).name  # not resolved: a link keeps its own name

    def path(self, name):
        """The folder of a run's name. Raises MonjuError for a name that is no plain folder name."""
        if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name or "\0" in name:
            raise MonjuError("there is no run of that name: choose one from the list")
        return self.first if name == self.start else self.folder / name

    def names(self):
        """The finished runs, the page's own first, then the newest."""
        found = {}
        for manifest in self.folder.glob("[!.]*/run.json"):
            try:
                if Run.open(manifest.parent).finished:
                    found[manifest.parent.name] = manifest.stat().st_mtime
            except (MonjuError, OSError):
                continue  # being written, deleted or damaged: not to be chosen
        found.pop(self.start, None)
        return [self.start, *sorted(found, key=found.get, reverse=True)]

    def run(self, name):
        """The run's folder and manifest, whole or not. Raises MonjuError where there is none."""
        return Run.open(self.path(name))

    def ready(self, name):
        """Whether the run can answer at once."""
        return name in self._opened

    def open(self, name):
        """The opened run; waits where another thread opens the same. Raises MonjuError for a run that cannot be shown."""
        path = self.path(name)
        try:
            stamp = (path / "run.json").stat().st_mtime_ns
        except OSError:
            stamp = None  # gone: opening it says so in words

        def load():
            from monju.inference.pipeline import Monju  # torch comes with it: the page is up before that

            with self._loading:
                return LoadedRun(Monju.load(path, "cpu" if zerogpu.ON else "auto"), stamp)

        return self._opened.get(name, load, lambda found: found.stamp == stamp)

    def monju(self, name):
        """The run's loaded models alone: see `open`."""
        return self.open(name).monju

    def close(self):
        """Put every run back."""
        self._opened.clear()

    def warm(self, for_crowds=False):
        """Open the first run in the background, so that it is ready, or nearly, when the first viewer comes; and what reads for
        crowds, which otherwise is started when the first one comes."""
        threading.Thread(target=self._try, args=(for_crowds,)).start()  # no daemon: torch aborts where a thread dies in the middle of a load

    def _try(self, for_crowds):
        try:
            opened = self.open(self.start)
            opened.votes(["ready"])  # a first forward pass is slower than those after it
            if for_crowds and opened.reader:
                opened.reader.start()
        except (MonjuError, RuntimeError):  # the latter of threads that are not to be had any more: the page is ending
            pass  # the first viewer is told
        except OSError:
            pass  # no room for another process: a crowd is read by the page
