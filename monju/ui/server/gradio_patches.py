"""What is changed of Gradio: what no page sends is refused in one sentence, and a session is small."""

from pathlib import Path
from types import SimpleNamespace

import gradio as gr
from gradio import route_utils, routes, state_holder
from gradio.routes import App
from jinja2 import ChoiceLoader, DictLoader, FileSystemLoader
from starlette.responses import JSONResponse
from uvicorn import config as uvicorn_config

from monju.ui.server.request_guard import REFUSALS

FILES = (gr.File, gr.UploadButton)


class Blocks(gr.Blocks):
    """A page whose functions are not called with what their inputs cannot hold.

    `guard` is an ASGI application around the whole of Gradio's, given when the page is launched.
    """

    guard = staticmethod(lambda app: app)

    async def preprocess_data(self, block_fn, inputs, state=None, *given, **options):
        """Refuse what an input cannot hold; keep nothing of what is sent."""
        if block_fn.fn is None:  # the browser's own: nothing is asked of the server
            raise gr.Error(REFUSALS[404], print_exception=False)
        try:
            taken = [writable(value, isinstance(block, FILES))
                     for block, value in zip(block_fn.inputs, inputs, strict=True)]
            return await super().preprocess_data(block_fn, taken, state, *given, **options)
        except Exception:  # each input fails in its own way
            raise gr.Error(REFUSALS[422], print_exception=False) from None


class Session(state_holder.SessionState):
    """A session without the description of every component that Gradio keeps in each, for deep links alone.

    It takes 0.4 MB and 36 ms, and whatever a visitor sends or is answered would be kept in it.
    """

    def __init__(self, blocks):
        # of `blocks.blocks` a description would be made
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks=()))

    def __setitem__(self, key, value):
        """Keep the value alone."""
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key):
        """Describe nothing."""

    def _update_value_in_config(self, key, value):
        """Keep nothing."""


def writable(value, is_file=False):
    """JSON whose texts can be written again: half a character, which is no Unicode, becomes a question mark.

    Raises ValueError for a file where none is expected, and for one elsewhere: Gradio would fetch it.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [writable(part, is_file) for part in value]
    if isinstance(value, dict):
        if "path" in value or "meta" in value:
            if not is_file or "://" in str(value.get("path")):
                raise ValueError("no file is expected there")
            value = {**value, "url": None}
        return {writable(name): writable(part, is_file) for name, part in value.items()}
    return value


def install(script=""):
    """Stand outside of all that is Gradio's, keep sessions small, and let no connection wait without end.

    Gradio answers other sites' preflights before any middleware it is given. `script` runs in the browser
    before Gradio's own scripts: what Gradio calls a page's head it adds after them.
    """
    build = App.build_middleware_stack
    if not hasattr(build, "guarded"):
        def guarded(app):
            return app.get_blocks().guard(build(app))
        guarded.guarded = True
        App.build_middleware_stack = guarded
    html = Path(routes.STATIC_TEMPLATE_LIB)
    pages = {name: (html / name).read_text(encoding="utf-8").replace(
        "<head>", f"<head>{{% raw %}}<script>{script}</script>{{% endraw %}}", 1)
        for name in ("frontend/index.html", "frontend/share.html")}
    routes.templates.env.loader = ChoiceLoader([DictLoader(pages), FileSystemLoader(html)])
    state_holder.SessionState = route_utils.SessionState = Session
    uvicorn_config.HTTP_PROTOCOLS["auto"] = "monju.ui.server.protocol:Impatient"


def unknown(request, error):
    """Gradio looks up a function that a visitor names without asking whether there is one."""
    return JSONResponse({"detail": REFUSALS[404]}, 404)


def unreadable(request, error):
    """FastAPI would send back what it was sent, and fail where that cannot be written as JSON (Infinity)."""
    return JSONResponse({"detail": REFUSALS[422]}, 422)
