"""The playground: a sentence in, every expert's view and both verdicts out, as one types.

Layout and wiring only: what is drawn is `cards`, what is thought is `Monju.read`.
"""

import json
from decimal import Decimal
from typing import Any

import gradio as gr

from monju import config as schema
from monju.ensemble import fusion
from monju.errors import MonjuError
from monju.evaluation import combiners
from monju.inference import zerogpu
from monju.ui.components import batch, cards, csv_export, history, merged_models
from monju.ui.components.markup import note, trouble
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N
from monju.ui.page import MODELS, QUIET, SETTINGS, named, typed
from monju.utils.files import ROOT

ASSETS = ROOT / "assets"
EXAMPLES = json.loads((ASSETS / "examples.json").read_text(encoding="utf-8"))
# the address of this run, sentence and settings: in the address bar always, on the clipboard where it may be
# had
LINK = """(run, text, gate, sharpness, temperature, fusion) => {
  const asked = new URLSearchParams({run, text, gate, sharpness, temperature, fusion});
  const link = `${location.origin}${location.pathname}?${asked}`;
  history.replaceState(null, "", link);
  navigator.clipboard?.writeText(link).catch(() => {});
  return [run, text, gate, sharpness, temperature, fusion];
}"""


def build(page, tab):
    """Lay the playground out and wire it to the run on show."""
    shelf, chosen = page.shelf, page.chosen
    with gr.Column():
        sentence = page.sentence = gr.Textbox(EXAMPLES[0], label=I18N("sentence"),
                                              placeholder=I18N("placeholder"),
                                              max_lines=3, elem_id="sentence", autofocus=True)
        with gr.Row(elem_id="examples"):
            chips = [gr.Button(example, size="sm", elem_classes="chip", min_width=0) for example in EXAMPLES]
        panel = gr.HTML(elem_id="panel", apply_default_css=False)
        with gr.Row(elem_id="turn"):
            gate = gr.Dropdown(["distance"], value="distance", label=I18N("gate"), elem_id="gate",
                               min_width=180)
            sharpness = gr.Slider(**reach("sharpness"), label=I18N("sharpness"), elem_id="sharpness",
                                  min_width=200)
            temperature = gr.Slider(**reach("temperature"), label=I18N("temperature"), elem_id="temperature",
                                    visible=False, min_width=200)
            mix = gr.Radio(["logits"], value="logits", label=I18N("fusion"), elem_id="fusion", min_width=200)
            reset = gr.Button(I18N("reset"), size="sm", elem_id="reset", scale=0, min_width=110)
        effect = gr.HTML(elem_id="effect", apply_default_css=False)
        details = gr.HTML(elem_id="details", apply_default_css=False)
        with gr.Row(elem_id="after"):
            link = gr.Button(I18N("link"), size="sm", elem_id="link", scale=0, min_width=200)
        merged_models.build(shelf, chosen, sentence)
        rows, table = history.build()
        batch.build(shelf, chosen, [gate, sharpness, temperature, mix])
        about = gr.HTML(elem_id="about", apply_default_css=False)
    settings = [gate, sharpness, temperature, mix]
    told = gr.State(None)  # the run and settings whose effect is shown
    again = gr.State(0)  # counts what has set the controls for the answer to follow
    answered = [panel, details, rows, table, told, effect, sharpness, temperature, mix]

    def arrive(text, again, request: gr.Request):
        """A new viewer, perhaps by a link: the runs there are now, and the sentence answered. Only a link's
        sentence is put into the box: what was typed meanwhile stays. It is heard of as a change before the
        link's settings are all set: the answer follows once more when they are, and when a run is loaded."""
        t, asked = translator.asked(request), dict(request.query_params)
        runs = shelf.names()
        name = asked["run"] if asked.get("run") in runs else shelf.start
        by_link, text = bool(asked.get("text")), typed(asked.get("text") or text)
        come = [gr.update(choices=runs, value=name), text if by_link else gr.skip(), name]
        if shelf.ready(name):
            yield [*come, *show(shelf, name, text, t, asked), again + 1 if by_link else gr.skip()]
            return
        yield [*come, cards.waiting(t), *[gr.skip()] * 9]
        shown = show(shelf, name, text, t, asked)
        still = [gr.skip()] * len(come)
        # not the panels: by now the box may hold another sentence
        yield [*still, gr.skip(), gr.skip(), *shown[2:], gr.skip()]
        yield [*still, *[gr.skip()] * len(shown), again + 1]

    def answer(text, name, found, told, request: gr.Request, *turned):
        """What follows from the sentence and the controls; the controls' effect where another one is
        shown."""
        t = translator.asked(request)
        drawn, reading = respond(shelf, name, text, t, named(turned))
        found = history.noted(found, reading) if reading else found
        now = [name, *turned]
        rest = [gr.skip()] * 4 if told == now else [measure(shelf, name, t, named(turned)),
                                                    *[gr.update(visible=shown)
                                                      for shown in needed(turned[0])]]
        return [*drawn, found, history.drawn(found, t), now, *rest]

    def as_trained(name, again, request: gr.Request):
        try:
            return [*controls(shelf.open(name), {}, translator.asked(request)), again + 1]
        except MonjuError:
            return [*[gr.skip()] * 4, again + 1]

    def linked(request: gr.Request, *_):
        gr.Info(translator.asked(request)("linked"), duration=4)

    def predict(sentence: str, run: str = "") -> dict[str, Any]:
        """What a run (the one that the page starts on, unless named) says of a sentence: {text, distances
        {A…}, alpha {AB…}, logits {AB…, seed0…}, monju {logits, probabilities, label, name}, baseline {the
        same} or null, notes [{code, text, values}]}."""
        try:
            return shelf.open(run or shelf.start).read_one(typed(sentence)).to_json()
        except MonjuError as error:
            raise gr.Error(translator.Translator().plain(error), print_exception=False) from None

    whole = [panel, details, *settings, effect, about, told]
    drawn = page.follow(tab, lambda name, t, text: show(shelf, name, text, t), [sentence], whole,
                        drawn=shelf.start, **MODELS)  # whoever arrives is answered by `arrive`
    page.blocks.load(arrive, [sentence, again], [chosen, sentence, drawn, *whole, again], **QUIET, **MODELS)
    # change, not input: Gradio's input event misses what is pasted, deleted or written with an input method
    # past Gradio's queue, which would take two requests and a stream for each answer; the turnstile counts
    # who is inside
    # as they are: Gradio would hand each of nine values to a thread, a third of its work; the settings'
    # schema checks them
    plain = {"preprocess": False, "postprocess": False}
    # one listener for all that changes the answer: two would end in either order, the older answer last. What
    # comes while it
    # is at work is asked after it, with the values of then; an event without a change (the list's blur)
    # changes nothing
    gr.on([sentence.change, sentence.submit, *[part.input for part in settings], again.change], answer,
          [sentence, chosen, rows, told, *settings], answered, trigger_mode="always_last", queue=zerogpu.ON,
          **plain, **QUIET, **MODELS)
    reset.click(as_trained, [chosen, again], [*settings, again], **QUIET, **MODELS)
    link.click(linked, [chosen, sentence, *settings], None, js=LINK, **QUIET)
    for chip, example in zip(chips, EXAMPLES):
        chip.click(None, None, sentence, js=f"() => {json.dumps(example)}", api_visibility="private")
    gr.api(predict, api_name="predict", **MODELS)


def show(shelf, name, text, t, asked=None):
    """All that depends on the run: both panels, the controls as it was trained (or as a link asks), their
    effect, the line under the page, and the run and settings whose effect that is."""
    try:
        opened = shelf.open(name)
        settings = asked_for(opened, asked or {})
    except MonjuError as error:
        return [trouble(error, t), "", *[gr.update(interactive=False)] * 4, "", "", None]
    return [*respond(shelf, name, text, t, settings)[0], *controls(opened, settings, t),
            measure(shelf, name, t, settings),
            describe(shelf, name, t), [name, *settings.values()]]


def controls(opened, settings, t):
    """The four controls as these settings have them; those that are not named, as the run was trained."""
    settings = {setting: getattr(opened.config, setting) for setting in SETTINGS} | settings
    turns = needed(settings["gate"])

    def choice(which, choices, **more):
        named = [(t(f"{which}_{kind}") if f"{which}_{kind}" in translator.TEXTS else kind, kind)
                 for kind in choices]
        return gr.update(choices=named, value=settings[which], interactive=True, **more)

    return [choice("gate", combiners.offered(opened)),
            *[gr.update(**reach(setting, settings[setting]), visible=shown, interactive=True)
              for setting, shown in zip(("sharpness", "temperature"), turns)],
            choice("fusion", fusion.TABLE, visible=turns[2])]


def reach(setting, value=None):
    """A slider's value (the schema's default unless given), bounds and step: the schema's, as far as the
    value needs no others. The schema knows no largest p or T."""
    value = schema.SETTINGS[setting].default if value is None else value
    low, high, step = schema.slider(setting)
    low, high = min(low, value), max(high, value)
    if abs((value - low) / step - round((value - low) / step)) > 1e-6:
        step = float(f"1e{Decimal(repr(value)).as_tuple().exponent}")  # as fine as the value is written
    return {"minimum": low, "maximum": high, "value": value, "step": step}


def needed(gate):
    """Whether there is anything to turn beside a gate: sharpness, temperature, fusion (some ways have a
    mixture of their own)."""
    way = combiners.TABLE.get(gate) if isinstance(gate, str) else None  # anything else is what no page sends
    return gate == "distance", gate == "membership", way is None or way.mix is None


def asked_for(opened, asked):
    """The settings that a link's parameters ask for; those of the run where they ask for what cannot be."""
    own = {setting: getattr(opened.config, setting) for setting in SETTINGS}
    try:
        wanted = {setting: type(own[setting])(asked[setting]) for setting in SETTINGS if setting in asked}
        combiners.view(opened, **wanted)
    except (MonjuError, ValueError):
        return own
    return own | wanted


def respond(shelf, name, text, t, settings):
    """((panel, details), row for the history or None) for a sentence: the drawn reading, a hint where nothing
    is typed, calm words for a broken run."""
    try:
        opened = shelf.open(name)
        if not typed(text).strip():
            return (cards.hint(t), ""), None
        view = combiners.view(opened, **settings)
        found = opened.read_one(typed(text), view)
        alpha = combiners.held_out_alpha(opened, **settings)
        return (cards.reading(found, view, t),
                cards.details(found, view, t, alpha)), csv_export.row(found, view)
    except MonjuError as error:
        return (trouble(error, t), ""), None


def measure(shelf, name, t, settings):
    """What the settings are worth on the stored held-out predictions, beside the run's own settings."""
    try:
        return cards.effect(combiners.effect(shelf.open(name), **settings), t)
    except MonjuError:
        return note(t("effect_unknown"), t, "effect faint")


def describe(shelf, name, t):
    """The line under the page: which run this is and what it is worth; nothing where there is none."""
    try:
        monju = shelf.open(name)
        return cards.about(monju, monju.run.metrics(), t)
    except (MonjuError, OSError, ValueError):
        return ""
