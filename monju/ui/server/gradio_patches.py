"""Requests that no page sends are refused in one sentence, where Gradio would fail and print a traceback."""

import gradio as gr
from starlette.responses import JSONResponse

from monju.ui.server.rate_limit import REFUSALS


class Blocks(gr.Blocks):
    """A page whose functions are not called with what their inputs cannot hold."""

    async def preprocess_data(self, block_fn, inputs, *given, **options):
        if block_fn.fn is None:  # the browser's own: nothing is asked of the server
            raise gr.Error(REFUSALS[404], print_exception=False)
        try:
            return await super().preprocess_data(block_fn, writable(inputs), *given, **options)
        except Exception:  # each input fails in its own way
            raise gr.Error(REFUSALS[422], print_exception=False) from None


def writable(value):
    """JSON whose texts can be written again: half a character, which is no Unicode, becomes a question
    mark."""
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
