"""The playground: a sentence in, every expert's view and both verdicts out, as one types.

Layout and wiring only: what is drawn is `cards`, what is thought is `Monju.read`.
"""

import json
from pathlib import Path
from typing import Any

import gradio as gr

from monju.errors import MonjuError
from monju.ui import cards, words
from monju.ui.words import I18N

EXAMPLES = json.loads((Path(__file__).parents[2] / "assets" / "examples.json").read_text(encoding="utf-8"))
LONGEST = 100_000  # characters that are looked at: the server does not enforce a text box's own limit


def build(page, shelf):
    """Lay the playground out on `page` (a gr.Blocks) and wire it to the run on the shelf."""
    with gr.Column(elem_id="playground"):
        sentence = gr.Textbox(EXAMPLES[0], label=I18N("sentence"), placeholder=I18N("placeholder"), max_lines=3,
                              elem_id="sentence", autofocus=True)
        with gr.Row(elem_id="examples"):
            chips = [gr.Button(example, size="sm", elem_classes="chip", min_width=0) for example in EXAMPLES]
        panel = gr.HTML(elem_id="panel", apply_default_css=False)
        about = gr.HTML(elem_id="about", apply_default_css=False)

    # one at a time: a forward pass uses every core, and a fast tokenizer must not be set up by two threads at once
    one_by_one = {"concurrency_id": "models", "concurrency_limit": 1}
    quiet = {"show_progress": "hidden", "api_visibility": "private", **one_by_one}

    def answer(text, request: gr.Request):
        return respond(shelf, text, words.asked(request))

    def first(text, request: gr.Request):
        say = words.asked(request)
        if not shelf.ready:
            yield cards.waiting(say), ""
        yield respond(shelf, text, say), describe(shelf, say)

    def predict(sentence: str) -> dict[str, Any]:
        """What the run says of a sentence: {text, distances {A…}, alpha {AB…}, logits {AB…, seed0…},
        monju {logits, probabilities, label, name}, baseline {the same} or null}."""
        try:
            return shelf.monju().read([sentence[:LONGEST]])[0].to_json()
        except MonjuError as error:
            raise gr.Error(str(error), print_exception=False) from None

    page.load(first, sentence, [panel, about], **quiet)
    # change, not input: Gradio's input event misses what is pasted, deleted or written with an input method
    sentence.change(answer, sentence, panel, trigger_mode="always_last", **quiet)
    sentence.submit(answer, sentence, panel, trigger_mode="always_last", **quiet)
    for chip, example in zip(chips, EXAMPLES):
        chip.click(None, None, sentence, js=f"() => {json.dumps(example)}", api_visibility="private")
    gr.api(predict, api_name="predict", **one_by_one)


def respond(shelf, text, say):
    """The panel for a sentence: the drawn reading, a hint where nothing is typed, calm words for a broken run."""
    try:
        monju = shelf.monju()
        if not (text or "").strip():
            return cards.hint(say)
        return cards.reading(monju.read([text[:LONGEST]])[0], monju, say)
    except MonjuError as error:
        return cards.trouble(error, say)


def describe(shelf, say):
    """The line under the page: which run this is and what it is worth; nothing where there is none."""
    try:
        monju = shelf.monju()
    except MonjuError:
        return ""
    return cards.about(monju, monju.run.read_json("metrics.json"), say)
