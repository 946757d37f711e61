"""The page: one file a tab, layout and wiring only. The only place that imports gradio."""

import os
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

# before gradio is imported: it asks its makers at once
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_DEFAULT_CONCURRENCY_LIMIT", "4")
# after every answer Gradio would sum up its last 10,000 for a monitoring page that is closed here: a third of
# the page's work
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")

# names the folder in which Gradio puts files, some while it is imported
from monju.ui.server import temp_files  # isort: skip

import gradio as gr
from fastapi.exceptions import RequestValidationError
from gradio.route_utils import FnIndexInferError
from starlette.responses import FileResponse
from starlette.routing import Route

from monju.errors import MonjuError
from monju.inference.batcher import MAX_BATCH
from monju.inference.run_cache import RunCache
from monju.runs import registry
from monju.runs.registry import FIRST
from monju.ui.components.plots import PLOTLY
from monju.ui.i18n.translator import I18N, IN_BROWSER, spoken
from monju.ui.page import QUIET, Page
from monju.ui.server import gradio_patches
from monju.ui.server.auth import Owner, is_public
from monju.ui.server.hosts import Hosts
from monju.ui.server.rate_limit import RateLimit
from monju.ui.server.request_guard import MIB, RequestGuard
from monju.ui.server.shares import Shares
from monju.ui.server.visitors import Visitors
from monju.ui.tabs import clusters, playground, results, training, writer
from monju.utils.files import ROOT
from monju.utils.process import return_large_blocks

FONTS = ("system-ui", "Noto Sans", "Hiragino Sans", "Noto Sans CJK JP", "Yu Gothic", "sans-serif")
MONO = ("ui-monospace", "monospace")
# in the order of the page; each has build(page, tab), its texts and its style sheet
TABS = {"playground": playground, "clusters": clusters, "writer": writer, "training": training,
        "results": results}
# at once, and a second in the long run: requests of a visitor, of an address (a lecture hall may stand behind
# it), pages that an address opens; bytes in files of an address and of all
LIMITS = {"visitor": (60, 10), "address": (600, 150), "page": (150, 5), "files": (200 * MIB, MIB // 16),
          "all files": (1024 * MIB, MIB // 4)}
PRIVATE = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10"  # a Space's own proxy has such an address
OPTIONS = {
    "ssr_mode": False,
    "footer_links": [],
    "enable_monitoring": False,
    "run_history": False,
    "max_threads": 2 * MAX_BATCH,  # those who wait for a shared forward pass leave threads to the others
    # pages whose state is kept, those that were closed too: Gradio would keep 10,000
    "state_session_capacity": 256,
    "max_file_size": "50mb",  # a file of labelled sentences; Gradio's upload route is always there
    "i18n": IN_BROWSER,
    # Gradio's own grey for help and placeholders has too little contrast
    "theme": gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONO).set(**{
        name + end: grey
        for name in ("body_text_color_subdued", "block_info_text_color", "input_placeholder_color")
        for end, grey in (("", "#566174"), ("_dark", "#a8b3c5"))}),
    "css_paths": [*(ROOT / "assets" / f"{name}.css" for name in ("style", "flow", *list(TABS)[1:])),
                  ROOT / "monju" / "reporting" / "templates" / "headline.css"],
}


def build(shelf, owner=None):
    """Return the whole page on the runs of a RunCache: a gr.Blocks, not yet launched.

    `owner` says who may train (as the environment says, unless given).
    """
    with gradio_patches.Blocks(title="Monju · 三人寄れば文殊の知恵", analytics_enabled=False,
                               delete_cache=(3600, 3600)) as blocks:
        with gr.Row(elem_id="header"):
            gr.HTML('<h1>Monju <span lang="ja">三人寄れば文殊の知恵</span></h1>', apply_default_css=False)
            # any value: the list of a page that stayed open may be older than the runs
            chosen = gr.Dropdown([shelf.start], value=shelf.start, label=I18N("run_choice"),
                                 allow_custom_value=True,
                                 elem_id="run", scale=0, min_width=220)
            running = gr.Button("", size="sm", visible=False, elem_id="running", scale=0, min_width=0)
            language, theme = (gr.Button(I18N(name), size="sm", elem_id=name, scale=0, min_width=0)
                               for name in ("language", "theme"))
            gr.Markdown(I18N("idea"), elem_id="idea")
            gr.HTML('<p id="busy" role="status"></p>', apply_default_css=False, elem_id="busy-place")
        where = gr.State(next(iter(TABS)))
        with gr.Tabs(elem_id="tabs") as tabs:
            page = Page(blocks, shelf, chosen, tabs, where, owner or Owner(), running)
            for name, part in TABS.items():
                with gr.Tab(I18N(f"tab_{name}"), id=name, elem_id=name) as tab:
                    part.build(page, tab)
        language.click(None, page.linked, None, js="(...values) => monju.speak(...values)", **QUIET)
        theme.click(None, None, None, js="() => monju.turn()", **QUIET)

    # beyond the shares of the request guard, which tells them apart
    return blocks.queue(api_open=False, max_size=4 * waiting())


def waiting(environment=os.environ):
    """How many may wait for an answer, as MONJU_QUEUE says. Raises MonjuError where it is no number."""
    try:
        return max(1, int(environment.get("MONJU_QUEUE") or 64))
    except ValueError:
        raise MonjuError("MONJU_QUEUE says how many may wait for an answer: set it to a number, or not at "
                         "all (64)") from None


def fetch(folder, repository):
    """Bring the runs of a hub repository here, in the background: the page is up with what it has."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = registry.download(folder, repository, os.environ.get("HF_TOKEN"))
        print(f"From {repository}: {', '.join(names) or 'no run that is not here already'}.", flush=True)
    except (MonjuError, OSError) as error:
        print(f"monju: {error}", file=sys.stderr, flush=True)


def launch(run=None, open_to_all=False, **options):
    """Serve the page on a run (the one that ships) until interrupted.

    Host, port and root path are Gradio's environment variables. On a public page with `open_to_all` whoever
    comes may train: see `server.auth` for who may otherwise. `options` are passed on to gradio's launch.

    Raises
    ------
    MonjuError
        where the port is taken, or a setting of the environment is wrong.
    """
    shelf = RunCache(run or FIRST, os.environ.get("MONJU_RUNS") or ROOT / "trained")
    if repository := os.environ.get("MONJU_HUB", "").strip():
        threading.Thread(target=fetch, args=(shelf.folder, repository), daemon=True).start()
    environment = os.environ
    # of whom X-Forwarded-For and -Proto are believed, by uvicorn: nobody but the proxy that is named
    environment["FORWARDED_ALLOW_IPS"] = environment.get("MONJU_PROXY") or (
        PRIVATE if environment.get("SPACE_ID") else "none")
    public = is_public(options.get("server_name"), options.get("share"))
    owner = Owner(public=public, open_to_all=open_to_all)
    page = build(shelf, owner)
    try:
        shares = Shares(page._queue, waiting(), environment.get("MONJU_HALL", ""))
    except ValueError as error:
        raise MonjuError(f"MONJU_HALL names addresses or networks ({error}): correct it or leave it "
                         "out") from None
    shared = bool(options.get("share")) or environment.get("GRADIO_SHARE", "").lower() == "true"
    page.guard = lambda app: RequestGuard(
        app, page, Hosts(shared=shared), Visitors(), shares,
        {name: RateLimit(*limit) for name, limit in LIMITS.items()},
        busy=lambda languages: spoken(languages)("busy"), left=owner.left, public=public)
    gradio_patches.install((ROOT / "assets" / "page.js").read_text(encoding="utf-8"))
    return_large_blocks()
    shelf.warm()
    temp_files.keep_swept()
    try:
        script = Path(find_spec("plotly").origin).parent / "package_data" / "plotly.min.js"
        around = {"routes": [Route(f"/{PLOTLY}", lambda request: FileResponse(script))],
                  "exception_handlers": {
            KeyError: gradio_patches.unknown, FnIndexInferError: gradio_patches.unknown,
            RequestValidationError: gradio_patches.unreadable}}
        return page.launch(**{**OPTIONS, "app_kwargs": around, **options})
    except OSError as error:
        raise MonjuError(
            f"the page cannot be served ({error}): choose another port with GRADIO_SERVER_PORT") from None
