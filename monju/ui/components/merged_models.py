"""One model in place of all: the verdicts of merges and students on the Playground's sentence."""

import gradio as gr
from markupsafe import Markup

from monju.errors import MonjuError
from monju.inference.run_cache import RunCache
from monju.ui.components.cards import Opinion
from monju.ui.components.markup import html, note, trouble
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N
from monju.ui.page import MODELS, QUIET, typed


def build(shelf: RunCache, chosen: gr.Dropdown, sentence: gr.Textbox) -> gr.HTML:
    """Lay out the button and its answer, which is computed only on a click; return the answer."""
    with gr.Row(elem_id="ask-singles-row"):
        button = gr.Button(I18N("singles_go"), size="sm", elem_id="ask-singles", scale=0, min_width=300)
    answer = gr.HTML(elem_id="singles", apply_default_css=False)

    def ask(name, text, request: gr.Request):
        t = translator.asked(request)
        yield note(t("singles_waiting"), t, busy=True)
        yield drawn(shelf, name, text, t)

    button.click(ask, [chosen, sentence], answer, **QUIET, **MODELS)
    for part in (chosen, sentence):
        part.change(None, None, answer, js="() => ''", api_visibility="private")  # it was of another sentence
    return answer


def drawn(shelf: RunCache, name: str, text: str, t: translator.Translator) -> Markup | str:
    """Draw the table: every merge and student with its verdict, and those left out, with the reason."""
    try:
        opened = shelf.open(name)
        if not typed(text).strip():
            return ""
        logits_of, lacking = opened.call("monju.evaluation.merge_runner:single_answers", typed(text))
    except MonjuError as error:
        return trouble(error, t)
    names = t.labels(opened.label_names)
    opinions = [(model, Opinion.of(logits, names)) for model, logits in logits_of.items()]
    return html("merged.html", t, opinions=opinions, lacking=lacking)
