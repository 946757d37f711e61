"""The clusters: a map of the run's sentences, with one's own sentence on it.

Layout, wiring and what the side panel says; assets/map.js draws the picture. It is sent three
messages (the points, the marker, what is lit), so that each changes without the others and zoom stays.
"""

import base64
import json
import shlex
from functools import partial
from typing import Any

import gradio as gr
import numpy as np
from markupsafe import Markup, escape

from monju.errors import MonjuError
from monju.evaluation.cluster_map import ClusterMap
from monju.inference import what_if
from monju.inference.reader import SentenceReader
from monju.inference.run_cache import LoadedRun, RunCache
from monju.inference.what_if import Place
from monju.ui.components import cards
from monju.ui.components.markup import html, note, trouble, without_texts
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N, Translator
from monju.ui.page import MODELS, PLOTLY, QUIET, Page, typed
from monju.utils.files import ROOT

ASSETS = ROOT / "assets"
KEPT = 12  # sentences that stay on the map
REGION_WORDS = 3  # that name a region on the map
GRID = 72  # points a side at which α's level lines are computed
COLOURS = ("cluster", "label", "correct", "differ")
SPOKEN = ("you", "lit", "is_right", "is_wrong", "do_agree", "do_differ", "map_shade", "about_plane",
          "about_pca", "about_umap")


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the map and wire it to the run on show."""
    library, chosen = Library(page.shelf), page.chosen
    held, kept, copied = gr.State(None), gr.State([]), gr.State("")

    with gr.Row(elem_id="map-controls"):
        text = gr.Textbox("", label=I18N("map_sentence"), max_lines=2, scale=3, elem_id="map-sentence")
        search = gr.Textbox("", label=I18N("map_search"), placeholder=I18N("map_search_hint"), scale=1,
                            min_width=140,
                            elem_id="map-search")
    with gr.Row(elem_id="map-choices"):
        projection = gr.Radio([(I18N(name), name) for name in ("plane", "pca", "umap")], value="plane",
                              label=I18N("map_projection"), elem_id="map-projection", min_width=290)
        colour = gr.Radio([(I18N(f"by_{name}"), name) for name in COLOURS], value=COLOURS[0],
                          label=I18N("map_colour"),
                          elem_id="map-colour", scale=2, min_width=200)
        keep = gr.Button(I18N("map_keep"), size="sm", elem_id="map-keep", scale=0, min_width=140)
        clear = gr.Button(I18N("map_clear"), size="sm", elem_id="map-clear", scale=0, min_width=80)
    with gr.Row(elem_id="map-row"):
        with gr.Column(scale=3, min_width=300):
            points = gr.HTML("", elem_id="map", html_template=TEMPLATE, apply_default_css=False,
                             js_on_load=f"const PLOTLY = {json.dumps(PLOTLY)};\n"
                                        + (ASSETS / "map.js").read_text(encoding="utf-8"))
        with gr.Column(scale=1, min_width=280):
            side = gr.HTML("", elem_id="map-side", apply_default_css=False)
    search_result = gr.HTML("", elem_id="map-found", apply_default_css=False)
    channel = partial(gr.HTML, "", html_template="", apply_default_css=False, elem_classes="map-message")
    marker = channel(js_on_load="watch('value', () => window.monjuMap?.mark(props.value))")
    lit = channel(js_on_load="watch('value', () => window.monjuMap?.light(props.value))")
    pointed = channel(js_on_load="watch('value', () => window.monjuMap?.tell(props.value))")
    # what the map asks: values, not events, since a deferred event would be sent again with the data of the
    # one before it
    wish, pointer = (channel(js_on_load=f"(window.monjuAsk ??= {{}}).{name} = value => "
                                        "{ props.value = JSON.stringify(value); trigger('ask') }")
                     for name in ("wish", "pointer"))
    figures = gr.HTML("", elem_id="map-figures", apply_default_css=False)

    def draw(name, t, sentence):
        """Draw the whole tab for a run; the sentences that were kept belong to the run before."""
        try:
            monju, cluster_map = library.open(name)
        except MonjuError as error:
            return missing(page.shelf, name, error, t), "", "", "", None, [], gr.skip(), gr.skip(), ""
        projections = list(cluster_map.projections)
        choice = gr.update(choices=[(I18N(each), each) for each in projections], value=projections[0])
        try:
            place = stand(page.shelf.open(name), cluster_map, sentence)
            side = panel(place, library, name, monju, cluster_map, t)
        except MonjuError as error:  # no model reads the sentence: the map is drawn all the same
            place, side = None, trouble(error, t)
        return (describe(name, monju, cluster_map, library.texts(name) is not None, t),
                message(place, [], monju, cluster_map), side,
                summary(monju, cluster_map, t) + library.excuse(name, t), place, [], choice,
                gr.update(choices=colours(monju), value=COLOURS[0]), "")

    def answer(sentence, name, kept, request: gr.Request):
        t = translator.asked(request)
        try:
            monju, cluster_map = library.open(name)
            place = stand(page.shelf.open(name), cluster_map, sentence)
        except MonjuError as error:
            return gr.skip(), trouble(error, t), None
        return (message(place, kept, monju, cluster_map),
                panel(place, library, name, monju, cluster_map, t), place)

    def move(wish, name, place, kept, request: gr.Request):
        """Move the sentence to another place [x, y] in the plane, as JSON; its logits and height stay."""
        try:
            monju, cluster_map = library.open(name)
            x, y = json.loads(wish)
            moved = what_if.move(place, [float(x), float(y)], monju, cluster_map)
        except (MonjuError, RecursionError, TypeError, ValueError):
            return gr.skip(), gr.skip(), gr.skip()
        t = translator.asked(request)
        return (message(moved, kept, monju, cluster_map),
                panel(moved, library, name, monju, cluster_map, t), moved)

    def point(pointer, name):
        """Return the sentence under the pointer: [run, place in the sample, time] → the same with its text.

        Both are JSON. With the time, no answer equals the one before it: the browser is told only of what
        changes.
        """
        try:
            run, place, time = json.loads(pointer)
            return json.dumps([run, place, time, library.text_at([name, place]) if run == name else None])
        except (OverflowError, RecursionError, TypeError, ValueError):
            return gr.skip()

    def remember(name, place, kept):
        if place is not None:
            kept = [*kept, {"text": place.reading.text[:80], "at": place.coordinates}][-KEPT:]
        try:
            return kept, message(place, kept, *library.open(name))
        except MonjuError:
            return kept, gr.skip()

    def forget(name, place):
        try:
            return [], message(place, [], *library.open(name)) if place else gr.skip()
        except MonjuError:  # a run that was just deleted
            return [], gr.skip()

    def find(word, name, request: gr.Request):
        t, word = translator.asked(request), (word or "").strip()[:100]
        if not word:
            return "[]", ""
        try:
            _, cluster_map = library.open(name)
        except MonjuError:
            return "[]", ""
        texts = library.texts(name)
        if texts is None:
            return "[]", library.excuse(name, t)
        hits = [i for i, row in enumerate(cluster_map.rows) if word.casefold() in texts[row].casefold()]
        count = t("map_found", n=f"{len(hits):,}", total=f"{len(cluster_map.rows):,}", word=word)
        return json.dumps(hits), note(count, t, "about")

    def locate(sentence: str, run: str = "") -> dict[str, Any]:
        """Return where a sentence stands in a run (the one that the page starts on, unless named).

        As JSON: {distances {A…}, alpha {AB…}, coordinates {plane, pca, umap: [x, y]}, nearest: [{row, label,
        cluster, distance, text or null}]}.
        """
        try:
            name = run or page.shelf.start
            monju, cluster_map = library.open(name)
            reading = page.shelf.open(name).read_one(typed(sentence))
        except MonjuError as error:
            raise gr.Error(translator.Translator().plain(error), print_exception=False) from None
        return {"distances": reading.distances, "alpha": reading.alpha,
                "coordinates": what_if.coordinates(reading.vector, cluster_map),
                "nearest": neighbours(reading.vector, library.texts(name), monju, cluster_map)}

    everything = [points, marker, side, figures, held, kept, projection, colour, lit]
    page.follow(tab, draw, [text], everything, **MODELS)
    if page.sentence is not None:
        def copy(sentence, before):
            return (gr.skip(), gr.skip()) if sentence == before else (sentence, sentence)

        tab.select(copy, [page.sentence, copied], [text, copied], **QUIET)
    text.change(answer, [text, chosen, kept], [marker, side, held], trigger_mode="always_last", **QUIET,
                **MODELS)
    wish.ask(move, [wish, chosen, held, kept], [marker, side, held], trigger_mode="always_last", **QUIET)
    pointer.ask(point, [pointer, chosen], pointed, trigger_mode="always_last", **QUIET)
    search.change(find, [search, chosen], [lit, search_result], trigger_mode="always_last", **QUIET)
    keep.click(remember, [chosen, held, kept], [kept, marker], **QUIET)
    clear.click(forget, [chosen, held], [kept, marker], **QUIET)
    projection.change(None, projection, None, js="value => { window.monjuMap?.project(value) }",
                      api_visibility="private")
    colour.change(None, colour, None, js="value => { window.monjuMap?.colour(value) }",
                  api_visibility="private")
    gr.api(locate, api_name="locate", **MODELS)


TEMPLATE = ('<div class="map"><p class="map-note"><span class="spinner"></span></p><div '
            'class="map-plot"></div>'
            '<div class="map-tip" hidden></div><p class="map-about" aria-live="polite"></p></div>')


class Library:
    """The maps of the loaded runs and, where they can be read, their sentences."""

    def __init__(self, shelf: RunCache) -> None:
        self.shelf = shelf

    def open(self, name: str) -> tuple[LoadedRun, ClusterMap]:
        """Return (the opened run, its ClusterMap). Raises MonjuError where either is missing."""
        opened = self.shelf.open(name)
        return opened, opened.memo("map", lambda: ClusterMap.load(opened.run))

    def texts(self, name: str) -> list[str] | None:
        """Return all training sentences of a run by row, or None where they cannot be read."""
        return self.shelf.open(name).texts()

    def excuse(self, name: str, t: Translator) -> Markup | str:
        """Say why there are no sentences; "" where there are."""
        opened = self.shelf.open(name)
        if opened.texts() is not None:
            return ""
        return note(without_texts("no_texts", opened.run, t), t, "about", role=None)

    def text_at(self, point: Any) -> str | None:
        """Return one sentence of a run's map, for the pointer over it: [run, place in the sample] → text."""
        try:
            name, place = point
            _, cluster_map = self.open(name)
            texts = self.texts(name)
            return texts and texts[cluster_map.rows[int(place)]][:300]
        except (MonjuError, ValueError, TypeError, IndexError):
            return None


def colours(monju: SentenceReader) -> list[tuple[Any, str]]:
    """Return the choices of what the points are coloured by.

    Many labels have no colours that can be told apart, and without a baseline nothing differs from it.
    """
    left_out = {"label"} if len(monju.label_names) > cards.MOST_LABELS else set()
    left_out |= set() if monju.members else {"differ"}
    return [(I18N(f"by_{name}"), name) for name in COLOURS if name not in left_out]


# messages to the browser


def describe(name: str, monju: SentenceReader, cluster_map: ClusterMap, readable: bool,
             t: Translator) -> str:
    """Return the points and all that stays the same, as one message, JSON of a few hundred kilobytes.

    Typed arrays are base64. `readable`: whether the points' sentences can be read.
    """
    predictions = cluster_map.predict(monju)
    maps = {}
    for each, projection in cluster_map.projections.items():
        maps[each] = {"at": packed(cluster_map.coordinates[each], "<f4"), "about": f"about_{each}",
                      "centres": np.round(projection.transform(centres(monju)), 5).tolist()}
    if "plane" in maps:
        from monju.clustering.projections import borders

        meeting, rays = borders(np.array(maps["plane"]["centres"]))
        maps["plane"] |= {"meeting": meeting.tolist(), "rays": rays.tolist()}
    groups = {"cluster": (cluster_map.clusters, [t("in_cluster", name=each) for each in monju.clusters]),
              "label": (cluster_map.labels, [escape(t.label(each)) for each in monju.label_names]),
              "correct": (predictions.monju.argmax(1) != cluster_map.labels, [t("is_right"), t("is_wrong")])}
    if predictions.baseline is not None:
        groups["differ"] = (predictions.monju.argmax(1) != predictions.baseline.argmax(1),
                            [t("do_agree"), t("do_differ")])
    return json.dumps({
        "run": name, "readable": readable, "names": monju.clusters,
        "words": [cluster["words"][:REGION_WORDS] for cluster in cluster_map.facts["clusters"]],
        "rows": packed(cluster_map.rows, "<i4"),
        "maps": maps,
        "movable": "plane" in maps and what_if.is_movable(monju),
        "groups": {by: {"of": packed(groups[by][0], "u1"), "names": groups[by][1]}
                   for _, by in colours(monju)},
        "say": {key: t(key) for key in SPOKEN} | {"row": t("row_number", n="#")}})


def message(place: Place | None, kept: list[dict], monju: SentenceReader, cluster_map: ClusterMap) -> str:
    """Return the marker, what was kept, and α's level lines at the marker's height, as one message, JSON."""
    values = {"kept": kept}
    if place is not None:
        values |= {"at": place.coordinates, "off": place.off, "moved": place.moved,
                   "text": place.reading.text[:80],
                   "distances": place.distances}
        if place.off is not None and what_if.is_movable(monju):
            reach, alpha = what_if.alpha_field(place.off, monju, cluster_map, GRID)
            values["shade"] = {"from": -reach, "to": reach, "n": GRID, "alpha": packed(alpha, "<f4")}
    return json.dumps(values)


def packed(array: Any, kind: str) -> str:
    """Return an array as base64, its numbers of this NumPy type."""
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()


def centres(monju: SentenceReader) -> np.ndarray:
    """Return the centres of a run's clusters (k, dimensions)."""
    return monju.clustering.clusterer.centres_


# a sentence and its place


def stand(opened: LoadedRun, cluster_map: ClusterMap, sentence: Any) -> Place | None:
    """Return where a sentence stands, as the opened run reads it; None for nothing typed."""
    return what_if.locate(opened.read_one(typed(sentence)), cluster_map) if typed(sentence).strip() else None


def neighbours(vector: np.ndarray, texts: list[str] | None, monju: SentenceReader,
               cluster_map: ClusterMap) -> list[dict[str, Any]]:
    """Return the sample's nearest sentences, for the side panel's list and the endpoint."""
    return [{"row": int(cluster_map.rows[i]), "label": monju.label_names[cluster_map.labels[i]],
             "cluster": monju.clusters[cluster_map.clusters[i]],
             "distance": float(d), "text": None if texts is None else texts[cluster_map.rows[i]]}
            for i, d in zip(*cluster_map.nearest(vector))]


# the side panel and the figures


def panel(place: Place | None, library: Library, name: str, monju: SentenceReader, cluster_map: ClusterMap,
          t: Translator) -> Markup:
    """Draw the marker's verdict, distances and α, and its nearest training sentences."""
    if place is None:
        return note(t("map_hint"), t, "about", role=None)
    distances, alpha = dict(zip(monju.clusters, place.distances)), place.alpha
    return html("panel.html", t, text=place.reading.text,
                said=cards.Opinion.of(place.monju.logits, t.labels(monju.label_names)),
                moved=place.moved, off=place.off,
                distances=[(name, d, d / (max(distances.values()) or 1)) for name, d in distances.items()],
                alpha=[(name, a, a / max(alpha.values())) for name, a in alpha.items()],
                near=neighbours(place.reading.vector, library.texts(name), monju, cluster_map))


def summary(monju: SentenceReader, cluster_map: ClusterMap, t: Translator) -> Markup:
    """Draw cards of the clusters: size, labels, held-out share, words; and how well they are separated."""
    clusters, names = cluster_map.facts["clusters"], monju.label_names
    many, shares = len(names) > cards.MOST_LABELS, []  # of each cluster: its labels, of many its commonest
    for cluster in clusters:
        pairs = [(label, n / max(1, cluster["size"])) for label, n in zip(names, cluster["labels"])]
        shares.append(sorted(pairs, key=lambda pair: -pair[1])[: cards.FEW_LABELS] if many else pairs)
    return html("summary.html", t, clusters=clusters, shares=shares, many=many,
                silhouette=cluster_map.facts["silhouette"], n=len(cluster_map.rows),
                total=cluster_map.facts["sentences"])


def missing(shelf: RunCache, name: str, error: MonjuError, t: Translator) -> str:
    """Return the message in the map's place, JSON, for a run that has no map or cannot be shown."""
    try:
        run = shelf.run(name)
        if (run.path / "map").is_dir():
            text = t("detail", error=t.error(error))
        else:
            text = t("no_map", command=f"python -m monju map {shlex.quote(run.path.name)}")
    except MonjuError:
        text = t("trouble")
    return json.dumps({"missing": text})
