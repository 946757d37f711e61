"""One model in place of all: what the merges and the students of a run say of the sentence in the Playground."""

from html import escape

import gradio as gr
from scipy.special import softmax

from monju.errors import MonjuError
from monju.ui.components import cards
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N
from monju.ui.page import MODELS, QUIET, typed


def build(shelf, chosen, sentence):
    """The button and its answer; asked again only when one asks."""
    with gr.Row(elem_id="ask-singles-row"):
        button = gr.Button(I18N("singles_go"), size="sm", elem_id="ask-singles", scale=0, min_width=300)
    answer = gr.HTML(elem_id="singles", apply_default_css=False)

    def ask(name, text, request: gr.Request):
        say = translator.asked(request)
        yield cards.page(f'<p class="note" role="status"><span class="spinner"></span>{say("singles_waiting")}</p>', say)
        yield drawn(shelf, name, text, say)

    button.click(ask, [chosen, sentence], answer, **QUIET, **MODELS)
    for part in (chosen, sentence):
        part.change(None, None, answer, js="() => ''", api_visibility="private")  # it was of another sentence
    return answer


def drawn(shelf, name, text, say):
    """The table: every merge and student with its verdict, and which there are not, with the reason."""
    try:
        opened = shelf.open(name)
        if not typed(text).strip():
            return ""
        found, lacking = opened.call("monju.evaluation.merge_runner:single_answers", typed(text))
    except MonjuError as error:
        return cards.trouble(error, say)
    rows = ""
    for model, logits in found.items():
        p = softmax(logits)
        best = int(p.argmax())
        rows += (f'<tr data-single="{escape(model)}"><th scope="row">{escape(model)}</th><td class="bar">{cards.bar(p[best])}</td>'
                 f"<td>{escape(say.label(opened.label_names[best]))}</td><td>{cards.percent(p[best])}</td></tr>")
    left = "".join(f'<p class="faint"><b>{escape(model)}</b>: {say.reason(reason)}</p>' for model, reason in lacking.items())
    return cards.page(f'<section><div class="card"><h2>{say("singles_title")}</h2><table class="scores"><tbody>{rows}</tbody></table>{left}</div></section>', say)
