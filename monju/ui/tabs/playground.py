"""The playground: a sentence in, every expert's view and both verdicts out, as one types.

Layout and wiring only: `flow` and `cards` draw, `Monju.read` computes.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import gradio as gr
from markupsafe import Markup

from monju import config as schema
from monju.ensemble import fusion
from monju.errors import MonjuError
from monju.evaluation import combiners
from monju.inference import zerogpu
from monju.inference.run_cache import LoadedRun, RunCache
from monju.ui.components import batch, cards, csv_export, examples, flow, history, merged_models
from monju.ui.components.markup import note, trouble
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N, Translator
from monju.ui.page import MODELS, QUIET, SETTINGS, Page, named, typed
from monju.utils.files import ROOT

FLOW = (ROOT / "assets" / "flow.js").read_text(encoding="utf-8")
TYPED_FIRST = "A quiet film that stays with you."  # where the run that the page starts on has no example
LINKED = 2000  # characters of a sentence that a link holds, as in assets/page.js


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the playground and wire it to the run on show."""
    shelf, chosen = page.shelf, page.chosen
    with gr.Column():
        first = examples.written(shelf.first)
        sentence = page.sentence = gr.Textbox(first[0][1] if first else TYPED_FIRST, label=I18N("sentence"),
                                              placeholder=I18N("placeholder"),
                                              max_lines=3, elem_id="sentence", autofocus=True)
        with gr.Row(elem_id="examples"):
            chips = [gr.Button(case, size="sm", elem_classes="chip", min_width=0, visible=bool(case))
                     for case in examples.labelled(first, Translator())]
            surprise = gr.Button(I18N("surprise"), size="sm", elem_id="surprise", min_width=0, scale=0)
        panel = drawn_in_place("panel")
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
        details = drawn_in_place("details")
        with gr.Row(elem_id="after"):
            link, picture = (gr.Button(I18N(name), size="sm", elem_id=name, scale=0, min_width=200)
                             for name in ("link", "picture"))
        merged_models.build(shelf, chosen, sentence)
        rows, table = history.build()
        batch.build(shelf, chosen, [gate, sharpness, temperature, mix])
        about = gr.HTML(elem_id="about", apply_default_css=False)
    settings = [gate, sharpness, temperature, mix]
    page.linked = [chosen, sentence, *settings]
    shown = gr.State(None)  # the run and settings whose effect is shown
    offered = gr.State(first)  # the chips' cases and sentences
    again = gr.State(0)  # counts what has set the controls for the answer to follow
    answered = [panel, details, rows, table, shown, effect, sharpness, temperature, mix]

    def arrive(text, again, request: gr.Request):
        """Serve a new visitor, who may come by a link: the runs there are now, and the sentence answered.

        Only a link's sentence is put into the box: what was typed meanwhile stays. It arrives as a change
        before the link's settings are all set: the answer follows once more when they are, and when a run is
        loaded.
        """
        t, params = translator.asked(request), dict(request.query_params)
        runs = shelf.names()
        name = params["run"] if params.get("run") in runs else shelf.start
        by_link, text = bool(params.get("text")), typed(params.get("text") or text)
        first = [gr.update(choices=runs, value=name), text if by_link else gr.skip(), name]
        if shelf.ready(name):
            yield [*first, *show(shelf, name, text, t, params), again + 1 if by_link else gr.skip()]
            return
        yield [*first, cards.waiting(t), *[gr.skip()] * len(whole)]
        values = show(shelf, name, text, t, params)
        unchanged = [gr.skip()] * len(first)
        # not the panels: by now the box may hold another sentence
        yield [*unchanged, gr.skip(), gr.skip(), *values[2:], gr.skip()]
        yield [*unchanged, *[gr.skip()] * len(values), again + 1]

    def answer(text, name, rows, shown, request: gr.Request, *values):
        """Draw what follows from the sentence and the controls; the effect where another one is shown."""
        t = translator.asked(request)
        drawn, row = respond(shelf, name, text, t, named(values))
        rows = history.noted(rows, row) if row else rows
        now = [name, *values]
        rest = [gr.skip()] * 4 if shown == now else [measure(shelf, name, t, named(values)),
                                                     *[gr.update(visible=visible)
                                                       for visible in needed(values[0])]]
        return [*drawn, rows, history.drawn(rows, t), now, *rest]

    def as_trained(name, again, request: gr.Request):
        try:
            return [*controls(shelf.open(name), {}, translator.asked(request)), again + 1]
        except MonjuError:
            return [*[gr.skip()] * 4, again + 1]

    def linked(request: gr.Request, run, text, *_):
        t = translator.asked(request)
        gr.Info(t("link_cut" if len(text or "") > LINKED else "linked"), duration=4)

    def pictured(what, request: gr.Request):
        gr.Info(translator.asked(request)("saved" if what == "saved" else "copied"), duration=4)

    def predict(sentence: str, run: str = "") -> dict[str, Any]:
        """Return what a run (the one that the page starts on, unless named) says of a sentence.

        As JSON: {text, distances {A…}, alpha {AB…}, logits {AB…, seed0…}, monju {logits, probabilities,
        label, name}, baseline {the same} or null, notes [{code, text, values}]}.
        """
        try:
            return shelf.open(run or shelf.start).read_one(typed(sentence)).to_json()
        except MonjuError as error:
            raise gr.Error(translator.Translator().plain(error), print_exception=False) from None

    whole = [panel, details, *settings, effect, about, shown, offered, *chips]
    drawn = page.follow(tab, lambda name, t, text: show(shelf, name, text, t), [sentence], whole,
                        drawn=shelf.start, **MODELS)  # whoever arrives is answered by `arrive`
    page.blocks.load(arrive, [sentence, again], [chosen, sentence, drawn, *whole, again], **QUIET, **MODELS)
    # change, not input: Gradio's input event misses what is pasted, deleted or written with an input method
    # past Gradio's queue, which would take two requests and a stream for each answer; server/rate_limit
    # counts who is inside
    # as they are: Gradio would hand each of nine values to a thread, a third of its work; the settings'
    # schema checks them
    plain = {"preprocess": False, "postprocess": False}
    # one listener for all that changes the answer: two would end in either order, the older answer last. What
    # comes while it is at work is asked after it, with the values of then; an event without a change (the
    # list's blur) changes nothing
    gr.on([sentence.change, sentence.submit, *[part.input for part in settings], again.change], answer,
          [sentence, chosen, rows, shown, *settings], answered, trigger_mode="always_last", queue=zerogpu.ON,
          **plain, **QUIET, **MODELS)
    def surprised(name, before):
        try:
            return examples.surprising(shelf.open(name), typed(before))
        except MonjuError:
            return gr.skip()

    surprise.click(surprised, [chosen, sentence], sentence, **QUIET)
    reset.click(as_trained, [chosen, again], [*settings, again], **QUIET, **MODELS)
    picture.click(pictured, chosen, None, js="run => monju.picture(`Monju · ${run}`)", **QUIET)
    link.click(linked, page.linked, None, js="(...values) => monju.copy(...values)", **QUIET)
    for number, chip in enumerate(chips):
        chip.click(nth(number), offered, sentence, queue=False, **QUIET)
    gr.api(predict, api_name="predict", **MODELS)


def drawn_in_place(name: str) -> gr.HTML:
    """Return HTML that is taken over part by part: what changes moves, what is unfolded stays so."""
    return gr.HTML("", elem_id=name, html_template='<div class="flow-root"></div>', js_on_load=FLOW,
                   apply_default_css=False)


def show(shelf: RunCache, name: str, text: str, t: Translator,
         params: Mapping[str, str] | None = None) -> list[Any]:
    """Return values for all that depends on the run.

    Both panels, the controls as it was trained (or as a link's parameters ask), their effect, the line under
    the page, and the run and settings whose effect that is.
    """
    try:
        opened = shelf.open(name)
        settings = asked_for(opened, params or {})
    except MonjuError as error:
        return [trouble(error, t), "", *[gr.update(interactive=False)] * 4, "", "", None,
                *[gr.skip()] * (1 + examples.SHOWN)]
    cases = examples.examples(opened)
    return [*respond(shelf, name, text, t, settings)[0], *controls(opened, settings, t),
            measure(shelf, name, t, settings), describe(shelf, name, t), [name, *settings.values()], cases,
            *[gr.update(value=case, visible=bool(case)) for case in examples.labelled(cases, t)]]


def nth(number: int) -> Callable[[list[tuple[str, str]]], Any]:
    """Return what gives the sentence of one chip, from all pairs (case, sentence)."""
    def sentence(pairs: list[tuple[str, str]]) -> Any:
        return pairs[number][1] if number < len(pairs) else gr.skip()

    return sentence


def controls(opened: LoadedRun, settings: dict[str, Any], t: Translator) -> list[Any]:
    """Return updates of the four controls for these settings; those not named, as the run was trained."""
    settings = {setting: getattr(opened.config, setting) for setting in SETTINGS} | settings
    visible = needed(settings["gate"])

    def choice(setting, choices, **options):
        labelled = [(t(f"{setting}_{kind}") if f"{setting}_{kind}" in translator.TEXTS else kind, kind)
                    for kind in choices]
        return gr.update(choices=labelled, value=settings[setting], interactive=True, **options)

    return [choice("gate", combiners.offered(opened)),
            *[gr.update(**reach(setting, settings[setting]), visible=shown, interactive=True)
              for setting, shown in zip(("sharpness", "temperature"), visible)],
            choice("fusion", fusion.TABLE, visible=visible[2])]


def reach(setting: str, value: float | None = None) -> dict[str, Any]:
    """Return a slider's value (the schema's default unless given), bounds and step.

    Bounds and step are the schema's, as far as the value needs no others. The schema has no largest p or T.
    """
    value = schema.SETTINGS[setting].default if value is None else value
    low, high, step = schema.slider(setting)
    low, high = min(low, value), max(high, value)
    if abs((value - low) / step - round((value - low) / step)) > 1e-6:
        step = float(f"1e{Decimal(repr(value)).as_tuple().exponent}")  # as fine as the value is written
    return {"minimum": low, "maximum": high, "value": value, "step": step}


def needed(gate: Any) -> tuple[bool, bool, bool]:
    """Return whether a gate uses sharpness, temperature, fusion (some combiners have their own fusion)."""
    # anything but a string is what no page sends
    combiner = combiners.TABLE.get(gate) if isinstance(gate, str) else None
    return gate == "distance", gate == "membership", combiner is None or combiner.mix is None


def asked_for(opened: LoadedRun, params: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that a link's parameters ask for; the run's where those are not valid."""
    own = {setting: getattr(opened.config, setting) for setting in SETTINGS}
    try:
        requested = {setting: type(own[setting])(params[setting])
                     for setting in SETTINGS if setting in params}
        combiners.view(opened, **requested)
    except (MonjuError, ValueError):
        return own
    return own | requested


def respond(shelf: RunCache, name: str, text: str, t: Translator,
            settings: dict[str, Any]) -> tuple[tuple[Markup, Markup | str], dict[str, Any] | None]:
    """Return ((panel, details), row for the history or None) for a sentence.

    The panels hold the drawn reading, a hint where nothing is typed, or why a run cannot be shown.
    """
    try:
        opened = shelf.open(name)
        if not typed(text).strip():
            return (cards.hint(t), ""), None
        view = combiners.view(opened, **settings)
        reading = opened.read_one(typed(text), view)
        alpha = combiners.held_out_alpha(opened, **settings)
        return (flow.flow(reading, view, t, combiners.unsure_below(opened, **settings)),
                cards.details(reading, view, t, alpha)), csv_export.row(reading, view)
    except MonjuError as error:
        return (trouble(error, t), ""), None


def measure(shelf: RunCache, name: str, t: Translator, settings: dict[str, Any]) -> Markup | str:
    """Draw the accuracy of the settings on the stored held-out predictions, beside the run's own settings.

    "" where the run cannot be shown.
    """
    try:
        opened = shelf.open(name)
    except MonjuError:
        return ""
    try:
        return cards.effect(combiners.effect(opened, **settings), t)
    except MonjuError:
        return note(t("effect_unknown"), t, "effect faint")


def describe(shelf: RunCache, name: str, t: Translator) -> Markup | str:
    """Draw the line under the page: which run this is and its accuracies; "" where there is no run."""
    try:
        monju = shelf.open(name)
        return cards.about(monju, monju.run.metrics(), t)
    except (MonjuError, OSError, ValueError):
        return ""
