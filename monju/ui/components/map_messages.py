"""What the map's scripts (assets/map*.js) are told, as JSON; typed arrays are base64.

    describe  {run, names, words, n, maps, groups, leads, movable, controls, say}: the points, and all that
              stays the same while a sentence changes
    marker    {run, text, at, off, moved, distances, shade}: the sentence's place; {run} where there is none
    sentences {run, texts, excuse}: the points' sentences in one block; texts is null where they cannot be
              had, and excuse says so
    missing   {missing}: the words in the place of a map that cannot be drawn

A message names its run: of another run it is not drawn. Knows nothing of gradio.
"""

from __future__ import annotations

import base64
import json
import shlex
from typing import Any

import numpy as np
from markupsafe import escape

from monju.clustering.projections import borders
from monju.errors import MonjuError
from monju.evaluation.cluster_map import ClusterMap
from monju.inference import what_if
from monju.inference.reader import SentenceReader
from monju.inference.run_cache import RunCache
from monju.inference.what_if import Place
from monju.ui.components import cards
from monju.ui.components.markup import html
from monju.ui.i18n.translator import Translator

REGION_WORDS = 3  # that name a region on the map
GRID = 72  # points a side at which α is computed
MOST_LETTERS = 300  # of a point's sentence
COLOURS = ("cluster", "label", "correct", "differ")
LAYERS = {"points": True, "density": False, "names": True, "borders": True, "alpha": False}  # shown at first
ORDERED = ("distance", "inverse-distance", "membership")  # gates whose α falls with the distance
SAID = ("you", "map_find_none", "map_use", "map_what_if", "map_zoom_in", "map_zoom_out", "map_whole",
        "map_mouse", "map_touch", "map_read_mouse", "map_read_touch", "map_shade", "map_drag")


def describe(name: str, monju: SentenceReader, cluster_map: ClusterMap, t: Translator) -> str:
    """Return the points of a run's map, and all that stays the same while a sentence changes."""
    groups = groups_of(monju, cluster_map, t)
    return json.dumps({
        "run": name, "names": monju.clusters, "n": len(cluster_map.rows),
        "words": [cluster["words"][:REGION_WORDS] for cluster in cluster_map.facts["clusters"]],
        "maps": maps_of(monju, cluster_map, t), "groups": groups, "leads": leads(monju, t),
        "movable": "plane" in cluster_map.projections and what_if.is_movable(monju),
        "controls": html("map_controls.html", t, colours=list(groups), shown=LAYERS,
                         projections=list(cluster_map.projections),
                         layers=[layer for layer in LAYERS
                                 if "plane" in cluster_map.projections or layer not in ("borders", "alpha")]),
        "say": {key: t(key) for key in SAID} | {
            "found": t("map_found", n="#n", total=f"{len(cluster_map.rows):,}"),
            "canvas": t("map_canvas", n=f"{len(cluster_map.rows):,}")}})


def maps_of(monju: SentenceReader, cluster_map: ClusterMap, t: Translator) -> dict[str, dict[str, Any]]:
    """Return {projection: {at, centres, about}}; the centres' plane also has its borders {meeting, rays}."""
    maps = {}
    for name, projection in cluster_map.projections.items():
        centres = projection.transform(monju.clustering.clusterer.centres_)
        maps[name] = {"at": packed(cluster_map.coordinates[name], "<f4"), "about": t(f"about_{name}"),
                      "centres": np.round(centres, 5).tolist()}
    if "plane" in maps:
        meeting, rays = borders(np.array(maps["plane"]["centres"]))
        maps["plane"] |= {"meeting": meeting.tolist(), "rays": rays.tolist()}
    return maps


def groups_of(monju: SentenceReader, cluster_map: ClusterMap, t: Translator) -> dict[str, dict[str, Any]]:
    """Return what the points may be coloured by: {by: {of: the group of each point, names}}.

    Many labels have no colours that can be told apart, and without a baseline nothing differs from it.
    """
    predictions = cluster_map.predict(monju)
    verdicts = predictions.monju.argmax(axis=1)
    groups = {"cluster": (cluster_map.clusters, [t("in_cluster", name=each) for each in monju.clusters])}
    if len(monju.label_names) <= cards.MOST_LABELS:
        groups["label"] = (cluster_map.labels, [escape(t.label(each)) for each in monju.label_names])
    groups["correct"] = (verdicts != cluster_map.labels, [t("is_right"), t("is_wrong")])
    if predictions.baseline is not None:
        groups["differ"] = (verdicts != predictions.baseline.argmax(axis=1), [t("do_agree"), t("do_differ")])
    return {by: {"of": packed(of, "u1"), "names": names} for by, (of, names) in groups.items()}


def leads(monju: SentenceReader, t: Translator) -> list[str] | None:
    """Say which expert has the largest α around each border of the plane, in the order of `borders`.

    Around the border of two clusters the third is the farthest, so the expert of these two leads. None for
    other experts than pairs of three clusters: there the nearest cluster's border says it.
    """
    config = monju.config
    if (config.k, config.subset_size) != (3, 2) or config.gate not in ORDERED or not config.sharpness:
        return None
    return [t("map_leads", expert=expert) for expert in monju.experts]  # AB, BC, CA: the borders' own order


def marker(name: str, place: Place | None, monju: SentenceReader, cluster_map: ClusterMap) -> str:
    """Return the sentence's place, with the largest α over the plane at its height."""
    values: dict[str, Any] = {"run": name}
    if place is not None:
        values |= {"text": place.reading.text[:MOST_LETTERS], "at": place.coordinates, "off": place.off,
                   "moved": place.moved, "distances": place.distances}
        if place.off is not None and what_if.is_movable(monju):
            reach, alpha = what_if.alpha_field(place.off, monju, cluster_map, GRID)
            values["shade"] = {"reach": reach, "n": GRID, "alpha": packed(alpha, "<f4")}
    return json.dumps(values)


def sentences(name: str, texts: list[str] | None, excuse: str, cluster_map: ClusterMap) -> str:
    """Return the points' sentences in one block, those that are long cut."""
    return json.dumps({"run": name, "excuse": excuse, "texts": texts and [
        text if len(text) <= MOST_LETTERS else text[:MOST_LETTERS - 1] + "…"
        for text in (texts[row] for row in cluster_map.rows)]}, ensure_ascii=False)


def missing(shelf: RunCache, name: str, error: MonjuError, t: Translator) -> str:
    """Return the words in the map's place, for a run that has no map or cannot be shown."""
    try:
        run = shelf.classifiers(name)
        if (run.path / "map").is_dir():
            text = t("detail", error=t.error(error))
        else:
            text = t("no_map", command=f"python -m monju map {shlex.quote(run.path.name)}")
    except MonjuError as other:
        text = t.error(other) + t("stop") if other.note else t("trouble")
    return json.dumps({"missing": text})


def packed(array: Any, kind: str) -> str:
    """Return an array as base64, its numbers of this NumPy type."""
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()
