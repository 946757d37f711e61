"""The Writer: a prompt in, a text out that the experts write together, beside the baseline's.

Layout and wiring only: `writing` and assets/writer.js draw, `monju.inference.writer` writes.
"""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from monju.ensemble import gates
from monju.errors import MonjuError
from monju.inference.run_cache import RunCache
from monju.inference.writer import Request
from monju.ui.components import writing
from monju.ui.components.markup import note, trouble
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N, Translator
from monju.ui.page import QUIET, Page, typed
from monju.utils.files import ROOT

SCRIPT = (ROOT / "assets" / "writer.js").read_text(encoding="utf-8")
FIRST = "The film begins"
# the script shows at once that a text was asked for, or no more
BEGIN, HALT = ("(...given) => { document.querySelector('#text .writer').dispatchEvent("
               f"new Event('{what}')); return given }}" for what in ("begin", "halt"))
AT_ONCE = 2  # texts: more would make each of them slow
GATES = ("", "uniform", "nearest", "distance", *gates.ON_TEXT)  # "": the run's own


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the Writer and wire it to the run on show."""
    shelf, chosen = page.shelf, page.chosen
    about = gr.HTML(elem_id="writer-about", apply_default_css=False)
    with gr.Column(visible=False, elem_id="writing") as desk:
        with gr.Row(elem_id="prompt-row", equal_height=True):
            prompt = gr.Textbox(FIRST, label=I18N("w_prompt"), max_lines=4, elem_id="prompt", scale=1)
            write = gr.Button(I18N("w_write"), variant="primary", elem_id="write", scale=0, min_width=120)
            stop = gr.Button(I18N("w_stop"), elem_id="write-stop", scale=0, min_width=100)
        text = gr.HTML("", elem_id="text", html_template='<div class="monju writer"></div>',
                       js_on_load=SCRIPT, apply_default_css=False)
        with gr.Accordion(I18N("w_settings"), open=False, elem_id="write-settings"):
            with gr.Row():
                length, temperature, top_p = (
                    gr.Slider(low, high, value, step=step, label=I18N(f"w_{name}"), elem_id=f"write-{name}")
                    for name, low, high, value, step in (("length", 10, 200, 60, 10),
                                                         ("temperature", 0, 2, 0.8, 0.1),
                                                         ("top_p", 0.1, 1, 0.95, 0.05)))
            with gr.Row():
                gate = gr.Dropdown([(I18N(f"w_gate_{name or 'run'}"), name) for name in GATES], value="",
                                   label=I18N("w_gate"), elem_id="write-gate")
                seed = gr.Number(0, label=I18N("w_seed"), precision=0, minimum=0,
                                 elem_id="write-seed")
                until = gr.Textbox(label=I18N("w_until"), elem_id="write-until", max_lines=1)

    def written(name, prompt, length, temperature, top_p, gate, seed, until, request: gr.Request):
        t = translator.asked(request)
        try:
            asked = Request(typed(prompt), length, temperature, top_p, seed or 0,
                            (until,) if until else (), gate or None)
            yield from writing.lines(shelf.writer(name), asked, t)
        except MonjuError as error:
            yield json.dumps({"trouble": t.error(error)}, ensure_ascii=False)

    event = gr.on([write.click, prompt.submit], written,
                  [chosen, prompt, length, temperature, top_p, gate, seed, until], text,
                  js=BEGIN, concurrency_id="writer", concurrency_limit=AT_ONCE, trigger_mode="once", **QUIET)
    stop.click(None, None, None, cancels=[event], js=HALT, api_visibility="private")
    page.follow(tab, lambda name, t: show(shelf, name, t), [], [about, desk, text])


def show(shelf: RunCache, name: str, t: Translator) -> list[Any]:
    """Return values of what stands above the text, whether one can be written, and the text before it is."""
    say = json.dumps({"say": {key: t(key) for key in ("w_waiting", "w_stopped")}}) + "\n"
    try:
        shelf.writer(name)
    except MonjuError as error:
        return [trouble(error, t), gr.update(visible=False), ""]
    return [note(t("w_intro"), t, "intro", None), gr.update(visible=True), say]
