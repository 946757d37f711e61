"""What the tabs share: the run on show, the tab one looks at, and how a tab follows both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from monju.inference.batcher import MAX_BATCH
from monju.inference.run_cache import RunCache
from monju.ui.i18n import translator

if TYPE_CHECKING:  # it imports this module
    from monju.ui.server.auth import Owner

# characters of a sentence that are looked at, more than a model of 512 tokens reads: what is remembered of
# sentences stays bounded, since the server does not enforce a text box's own limit
LONGEST = 25_000
# those who wait at the same moment share a forward pass
MODELS = {"concurrency_id": "models", "concurrency_limit": MAX_BATCH}
# what can be turned without training, in the controls' order
SETTINGS = ("gate", "sharpness", "temperature", "fusion")
QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def typed(text: Any) -> str:
    """Return the sentence of a request: what was typed, or "" where something else was sent."""
    return text[:LONGEST] if isinstance(text, str) else ""


@dataclass
class Page:
    """The parts that the tabs share.

    `running` is the header's button that names the training in progress, `sentence` the playground's text
    box, which every tab may fill, `linked` what an address holds: run, sentence and settings.
    """

    blocks: gr.Blocks
    shelf: RunCache
    chosen: gr.Dropdown
    tabs: gr.Tabs
    where: gr.State
    owner: "Owner"
    running: gr.Button
    sentence: gr.Textbox | None = None
    linked: Sequence[Component] = ()

    def follow(self, tab: gr.Tab, draw: Callable, inputs: Sequence[Component],
               outputs: Sequence[Component], drawn: str = "", **options: Any) -> gr.State:
        """Call draw(run's name, translator, *inputs) → outputs when `tab` shows a run it has not drawn yet.

        That is when the tab is opened, and when another run is chosen while the tab is open: a tab that
        nobody looks at costs nothing. Returns the state that names the drawn run (at first, `drawn`), for
        whoever draws it otherwise: a filled list of runs also counts as a choice, and the first tab as
        opened.
        """
        drawn = gr.State(drawn)

        def opened(name, before, request: gr.Request, *values):
            if name == before:
                return [tab.id, *[gr.skip()] * (len(outputs) + 1)]
            return [tab.id, name, *_list(draw(name, translator.asked(request), *values))]

        def changed(name, where, before, request: gr.Request, *values):
            if where != tab.id or name == before:
                return [gr.skip()] * (len(outputs) + 1)
            return [name, *_list(draw(name, translator.asked(request), *values))]

        again = changed, [self.chosen, self.where, drawn, *inputs], [drawn, *outputs]
        # once more after the tab is drawn: a run chosen meanwhile did not yet find the tab open
        tab.select(opened, [self.chosen, drawn, *inputs], [self.where, drawn, *outputs], **QUIET,
                   **options).then(*again, **QUIET, **options)
        self.chosen.change(*again, **QUIET, **options)
        return drawn


def named(values: Sequence[Any]) -> dict[str, Any]:
    """Return the controls' values as settings, {name: value}."""
    return dict(zip(SETTINGS, values))


def _list(values: Any) -> Sequence[Any]:
    return values if isinstance(values, (list, tuple)) else [values]
