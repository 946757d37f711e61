"""The playground: a sentence in, every expert's view and both verdicts out, as one types.

Layout and wiring only: what is drawn is `cards`, what is thought is `Monju.read`.
"""

import json
from pathlib import Path
from typing import Any

import gradio as gr

from monju.errors import MonjuError
from monju.ui import cards, words
from monju.ui.page import MODELS, QUIET
from monju.ui.words import I18N

EXAMPLES = json.loads((Path(__file__).parents[2] / "assets" / "examples.json").read_text(encoding="utf-8"))
LONGEST = 100_000  # characters that are looked at: the server does not enforce a text box's own limit


def build(page, tab):
    """Lay the playground out and wire it to the run on show."""
    shelf, chosen = page.shelf, page.chosen
    with gr.Column():
        sentence = page.sentence = gr.Textbox(EXAMPLES[0], label=I18N("sentence"), placeholder=I18N("placeholder"), max_lines=3,
                              elem_id="sentence", autofocus=True)
        with gr.Row(elem_id="examples"):
            chips = [gr.Button(example, size="sm", elem_classes="chip", min_width=0) for example in EXAMPLES]
        panel = gr.HTML(elem_id="panel", apply_default_css=False)
        about = gr.HTML(elem_id="about", apply_default_css=False)

    def answer(text, name, request: gr.Request):
        return respond(shelf, name, text, words.asked(request))

    def arrive(text, request: gr.Request):
        """A new viewer: the runs there are now, and the answer to the first example."""
        say = words.asked(request)
        runs = gr.update(choices=shelf.names(), value=shelf.start)
        if not shelf.ready(shelf.start):
            yield runs, cards.waiting(say), ""
        yield runs, respond(shelf, shelf.start, text, say), describe(shelf, shelf.start, say)

    def follow(name, say, text):
        return respond(shelf, name, text, say), describe(shelf, name, say)

    def predict(sentence: str, run: str = "") -> dict[str, Any]:
        """What a run (the one that the page starts on, unless named) says of a sentence: {text, distances {A…},
        alpha {AB…}, logits {AB…, seed0…}, monju {logits, probabilities, label, name}, baseline {the same} or null}."""
        try:
            return shelf.monju(run or shelf.start).read([sentence[:LONGEST]])[0].to_json()
        except MonjuError as error:
            raise gr.Error(str(error), print_exception=False) from None

    page.blocks.load(arrive, sentence, [chosen, panel, about], **QUIET, **MODELS)
    page.follow(tab, follow, [sentence], [panel, about], **MODELS)
    # change, not input: Gradio's input event misses what is pasted, deleted or written with an input method
    sentence.change(answer, [sentence, chosen], panel, trigger_mode="always_last", **QUIET, **MODELS)
    sentence.submit(answer, [sentence, chosen], panel, trigger_mode="always_last", **QUIET, **MODELS)
    for chip, example in zip(chips, EXAMPLES):
        chip.click(None, None, sentence, js=f"() => {json.dumps(example)}", api_visibility="private")
    gr.api(predict, api_name="predict", **MODELS)


def respond(shelf, name, text, say):
    """The panel for a sentence: the drawn reading, a hint where nothing is typed, calm words for a broken run."""
    try:
        monju = shelf.monju(name)
        if not (text or "").strip():
            return cards.hint(say)
        return cards.reading(monju.read([text[:LONGEST]])[0], monju, say)
    except MonjuError as error:
        return cards.trouble(error, say)


def describe(shelf, name, say):
    """The line under the page: which run this is and what it is worth; nothing where there is none."""
    try:
        monju = shelf.monju(name)
    except MonjuError:
        return ""
    return cards.about(monju, monju.run.read_json("metrics.json"), say)
