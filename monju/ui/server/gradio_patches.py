"""Gradio's page with its doors mended: requests that no page sends are refused in one sentence, where it would fail and print a
traceback, and a visitor who comes costs little."""

import gradio as gr
from gradio.blocks import BlocksConfig
from starlette.responses import JSONResponse

from monju.ui.server.rate_limit import REFUSALS


class Blocks(gr.Blocks):
    """A page whose functions are not called with what their inputs cannot hold."""

    def __init__(self, *given, **options):
        super().__init__(*given, **options)
        self.default_config.__class__, self.described = Parts, {}

    async def preprocess_data(self, block_fn, inputs, *given, **options):
        if block_fn.fn is None:  # the browser's own: nothing is asked of the server
            raise gr.Error(REFUSALS[404], print_exception=False)
        try:
            return await super().preprocess_data(block_fn, writable(inputs), *given, **options)
        except Exception:  # each input fails in its own way
            raise gr.Error(REFUSALS[422], print_exception=False) from None


class Parts(BlocksConfig):
    """A page's parts, what each is like worked out once: Gradio does it anew for every visitor (18 ms), whose session changes a
    part's value alone."""

    def __copy__(self):
        new = super().__copy__()
        new.__class__ = Parts
        return new

    def config_for_block(self, number, rendered, part, *more):
        page = self.root_block
        if self is page.default_config or part is not page.default_config.blocks.get(number):
            return super().config_for_block(number, rendered, part, *more)
        if number not in page.described:
            page.described[number] = super().config_for_block(number, rendered, part, *more)
        found = page.described[number]
        return {**found, "props": {**found["props"]}}


def writable(value):
    """JSON whose texts can be written again: half a character, which is no Unicode, becomes a question mark."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [writable(part) for part in value]
    if isinstance(value, dict):
        return {writable(name): writable(part) for name, part in value.items()}
    return value


def unknown(request, error):
    """Gradio looks up a function that a visitor names without asking whether there is one."""
    return JSONResponse({"detail": REFUSALS[404]}, 404)


def unreadable(request, error):
    """FastAPI would send back what it was sent, and fail where that cannot be written as JSON (Infinity)."""
    return JSONResponse({"detail": REFUSALS[422]}, 422)
