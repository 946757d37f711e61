"""The maps of the loaded runs and, where they can be read, their sentences. Knows nothing of gradio."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from monju.evaluation.cluster_map import ClusterMap
from monju.inference import what_if
from monju.inference.reader import SentenceReader
from monju.inference.run_cache import LoadedRun, RunCache
from monju.inference.what_if import Place
from monju.ui.components.markup import without_texts
from monju.ui.i18n.translator import Translator


class Library:
    """The maps of a RunCache's runs, each kept with its run."""

    def __init__(self, shelf: RunCache) -> None:
        self.shelf = shelf

    def open(self, name: str) -> tuple[LoadedRun, ClusterMap]:
        """Return (the opened run, its ClusterMap). Raises MonjuError where either is missing."""
        opened = self.shelf.open(name)
        return opened, opened.memo("map", lambda: ClusterMap.load(opened.run))

    def texts(self, name: str, wait: bool = True) -> list[str] | None:
        """Return all training sentences of a run by row, or None where they cannot be read.

        Without `wait`, None too until they are read: a hub that does not answer takes seconds.
        """
        data = self.shelf.open(name).data(wait)
        return None if data is None else data.train.texts

    def excuse(self, name: str, t: Translator) -> Markup | str:
        """Say what is shown without sentences, and how to get them; "" where they are there."""
        opened = self.shelf.open(name)
        if opened.texts() is not None:
            return ""
        return without_texts("no_texts", opened.run, t)


def locate(opened: LoadedRun, cluster_map: ClusterMap, sentence: str) -> Place | None:
    """Return where a sentence stands, as the opened run reads it; None for nothing typed."""
    return what_if.locate(opened.read_one(sentence), cluster_map) if sentence.strip() else None


def neighbours(place: Place, texts: list[str] | None, monju: SentenceReader,
               cluster_map: ClusterMap) -> list[dict[str, Any]]:
    """Return the sample's sentences nearest to a place's, each with its `place` in the sample."""
    return [{"place": int(i), "row": int(cluster_map.rows[i]),
             "label": monju.label_names[cluster_map.labels[i]],
             "cluster": monju.clusters[cluster_map.clusters[i]],
             "distance": float(d), "text": None if texts is None else texts[cluster_map.rows[i]]}
            for i, d in zip(*cluster_map.nearest(place.reading.vector))]
