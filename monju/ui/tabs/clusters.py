"""The clusters: a map of the run's sentences, with one's own sentence on it. Layout and wiring only.

`map_messages` says what the scripts assets/map*.js are told, `map_panel` and `side_view` draw what stands
beside and under the map. Search, layers, colours and pins are the scripts' own: they ask the server nothing.
"""

import json
from functools import partial
from typing import Any

import gradio as gr

from monju.errors import MonjuError
from monju.inference import what_if
from monju.ui.components import map_messages, map_panel
from monju.ui.components.map_library import Library, locate, neighbours
from monju.ui.components.markup import trouble
from monju.ui.components.side_view import side_view
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N
from monju.ui.page import MODELS, QUIET, Page, typed
from monju.utils.files import ROOT

SCRIPTS = ("map_view", "map_draw", "map_pointer", "map")  # in assets, one script in the browser
FRAME = (ROOT / "monju" / "ui" / "templates" / "map.html").read_text(encoding="utf-8")
# the sentence of this tab and the playground's are one: of the two boxes, the one that was changed last
# gives it when another tab is opened
SHARE = """(played, mapped) => {
  const before = window.monjuSentence;
  window.monjuSentence = before === undefined || played !== before ? played : mapped;
  return [window.monjuSentence, window.monjuSentence];
}"""


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the map and wire it to the run on show."""
    library, chosen = Library(page.shelf), page.chosen
    place, ready = gr.State(None), gr.State(0)  # `ready` counts when sentences came for neighbours to have

    with gr.Row(elem_id="map-row"):
        with gr.Column(scale=3, min_width=300):
            text = gr.Textbox("", label=I18N("map_sentence"), placeholder=I18N("map_type"), max_lines=2,
                              elem_id="map-sentence")
            points = gr.HTML("", elem_id="map", html_template=FRAME, apply_default_css=False,
                             js_on_load="\n".join((ROOT / "assets" / f"{name}.js").read_text(encoding="utf-8")
                                                  for name in SCRIPTS))
        with gr.Column(scale=1, min_width=300):
            side = gr.HTML("", elem_id="map-side", apply_default_css=False)
    below = gr.HTML("", elem_id="map-below", apply_default_css=False)
    figures = gr.HTML("", elem_id="map-figures", apply_default_css=False)
    channel = partial(gr.HTML, "", html_template="", apply_default_css=False, elem_classes="map-message")
    # a message may come before the map is there to hear it: it is kept for when the map begins
    marker, sentences = (channel(js_on_load=f"""const say = () => {{
  (window.monjuSaid ??= {{}}).{name} = props.value
  window.monjuMap?.{name}(props.value)
}}
watch('value', say)
say()""") for name in ("marker", "sentences"))
    # what the map asks: a value, not an event, since a deferred event would be sent again with the data of
    # the one before it
    wish = channel(js_on_load="window.monjuWish = at => { props.value = JSON.stringify(at); trigger('ask') }")

    def draw(name, t):
        """Draw what depends on the run alone; the sentence and the points' sentences follow."""
        try:
            monju, cluster_map = library.open(name)
        except MonjuError as error:
            return map_messages.missing(page.shelf, name, error, t), ""
        return monju.memo(f"map drawn {t.language}", lambda: (
            map_messages.describe(name, monju, cluster_map, t), map_panel.summary(monju, cluster_map, t)))

    def read(name, drawn, ready, request: gr.Request):
        """Send the points' sentences of the run that is drawn, or say how to get them."""
        if name != drawn:  # a state also tells of a change where it was left as it is
            return gr.skip(), gr.skip()
        try:
            _, cluster_map = library.open(name)
            excuse = library.excuse(name, translator.asked(request))
            return map_messages.sentences(name, library.texts(name), excuse, cluster_map), ready + 1
        except MonjuError:
            return gr.skip(), gr.skip()

    def shown(name, place, t):
        """Return the marker, the panel beside the map, what stands under it, and the place itself."""
        monju, cluster_map = library.open(name)
        under = "" if place is None else side_view(place, monju, cluster_map, t)
        return (map_messages.marker(name, place, monju, cluster_map),
                map_panel.panel(place, library.texts(name, wait=False), monju, cluster_map, t), under, place)

    def answer(sentence, name, drawn, request: gr.Request):
        if name != drawn and not typed(sentence):
            return [gr.skip()] * 4
        t = translator.asked(request)
        try:
            opened, cluster_map = library.open(name)
            return shown(name, locate(opened, cluster_map, typed(sentence)), t)
        except MonjuError as error:  # no model reads the sentence: the map is there all the same
            return json.dumps({"run": name}), trouble(error, t), "", None

    def move(wish, name, place, request: gr.Request):
        """Move the sentence to [x, y] in the plane, as JSON, or back (null); its logits and height stay."""
        try:
            monju, cluster_map = library.open(name)
            at = json.loads(wish)
            if at is None:
                moved = what_if.locate(place.reading, cluster_map)
            else:
                x, y = at
                moved = what_if.move(place, [float(x), float(y)], monju, cluster_map)
            return shown(name, moved, translator.asked(request))
        except (AttributeError, MonjuError, RecursionError, TypeError, ValueError):
            return [gr.skip()] * 4

    def place_of(sentence: str, run: str = "") -> dict[str, Any]:
        """Return where a sentence stands in a run (the one that the page starts on, unless named).

        As JSON: {distances {A…}, alpha {AB…}, coordinates {plane, pca, umap: [x, y]}, nearest: [{place, row,
        label, cluster, distance, text or null}]}.
        """
        try:
            name = run or page.shelf.start
            monju, cluster_map = library.open(name)
            reading = monju.read_one(typed(sentence))
            found = what_if.locate(reading, cluster_map)
        except MonjuError as error:
            raise gr.Error(translator.Translator().plain(error), print_exception=False) from None
        return {"distances": reading.distances, "alpha": reading.alpha, "coordinates": found.coordinates,
                "nearest": neighbours(found, library.texts(name), monju, cluster_map)}

    drawn = page.follow(tab, draw, [], [points, figures], **MODELS)
    drawn.change(read, [chosen, drawn, ready], [sentences, ready], **QUIET)
    # one listener for all that changes the answer: two would end in either order, the older answer last
    answered = [marker, side, below, place]
    gr.on([text.change, drawn.change, ready.change], answer, [text, chosen, drawn], answered,
          trigger_mode="always_last", **QUIET, **MODELS)
    wish.ask(move, [wish, chosen, place], answered, trigger_mode="always_last", **QUIET)
    if page.sentence is not None:
        boxes = [page.sentence, text]
        page.tabs.select(None, boxes, boxes, js=SHARE, api_visibility="private")
    gr.api(place_of, api_name="locate", **MODELS)
