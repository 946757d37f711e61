"""The page: one file a tab, layout and wiring only. The only place that imports gradio."""

import os
import sys
import threading

# before gradio is imported: it asks its makers at once
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_DEFAULT_CONCURRENCY_LIMIT", "4")
# after every answer Gradio would sum up its last 10,000 for a monitoring page that is closed here: a third of
# the page's work
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")

import gradio as gr  # noqa: E402
from fastapi.exceptions import RequestValidationError  # noqa: E402
from gradio.route_utils import FnIndexInferError  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402

from monju.errors import MonjuError  # noqa: E402
from monju.inference.batcher import MAX_BATCH  # noqa: E402
from monju.inference.run_cache import RunCache  # noqa: E402
from monju.runs import registry  # noqa: E402
from monju.runs.registry import SHIPPED
from monju.ui.i18n.translator import I18N, spoken  # noqa: E402
from monju.ui.page import Page  # noqa: E402
from monju.ui.server import (
    gradio_patches,
    temp_files,  # noqa: E402
)
from monju.ui.server.auth import Owner, is_public  # noqa: E402
from monju.ui.server.rate_limit import MIB, RateLimit, RequestGuard  # noqa: E402
from monju.ui.tabs import clusters, playground, results, training  # noqa: E402
from monju.utils.files import ROOT

FONTS = ("system-ui", "Noto Sans", "Hiragino Sans", "Noto Sans CJK JP", "Yu Gothic", "sans-serif")
MONO = ("ui-monospace", "monospace")
# in the order of the page; each has build(page, tab), its texts and its style sheet
TABS = {"playground": playground, "clusters": clusters, "training": training, "results": results}
ASKS = (60, 10)  # a visitor's requests: at once, and a second in the long run
# a visitor's and everybody's bytes in files: the same
FILES, ALL_FILES = (200 * MIB, MIB // 16), (1024 * MIB, MIB // 4)
# Gradio shows what a queued function is refused with, and keeps silent about the others: the sentence's is
# told here
ARRIVE = """() => {
  document.documentElement.lang = navigator.language.startsWith("ja") ? "ja" : "en";
  const ask = window.fetch;
  let fade;
  window.fetch = async (...what) => {
    const answer = await ask(...what);
    if (answer.url.includes("/run/predict")) {
      const told = document.getElementById("busy");
      told.textContent = answer.status !== 503 ? ""
        : (await answer.clone().json().catch(() => ({}))).error || "503";
      clearTimeout(fade);
      fade = setTimeout(() => { told.textContent = ""; }, 6000);
    }
    return answer;
  };
}"""
OPTIONS = {
    "ssr_mode": False,
    "footer_links": [],
    "enable_monitoring": False,
    "run_history": False,
    "max_threads": 2 * MAX_BATCH,  # those who wait for a shared forward pass leave threads to the others
    # pages whose state is kept, those that were closed too: Gradio would keep 10,000, half a MB each
    "state_session_capacity": 256,
    "max_file_size": "50mb",  # a file of labelled sentences; Gradio's upload route is always there
    "i18n": I18N,
    "theme": gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONO),
    "css_paths": [ROOT / "assets" / f"{name}.css" for name in ("style", *TABS) if name != "playground"],
    "js": ARRIVE,
}


def build(shelf, owner=None):
    """The whole page on the runs of a RunCache: a gr.Blocks, not yet launched. `server.auth` says who may
    train (as the environment)."""
    with gradio_patches.Blocks(title="Monju · 三人寄れば文殊の知恵", analytics_enabled=False,
                               delete_cache=(3600, 3600)) as blocks:
        with gr.Row(elem_id="header"):
            gr.HTML('<h1 lang="ja">三人寄れば文殊の知恵</h1>', apply_default_css=False)
            gr.Markdown(I18N("proverb"), elem_id="proverb")
            # any value: the list of a page that stayed open may be older than the runs
            chosen = gr.Dropdown([shelf.start], value=shelf.start, label=I18N("run_choice"),
                                 allow_custom_value=True,
                                 elem_id="run", scale=0, min_width=220)
            gr.Markdown(I18N("idea"), elem_id="idea")
            gr.HTML('<p id="busy" role="status"></p>', apply_default_css=False, elem_id="busy-place")
        where = gr.State(next(iter(TABS)))
        with gr.Tabs(elem_id="tabs") as tabs:
            page = Page(blocks, shelf, chosen, tabs, where, owner or Owner())
            for name, part in TABS.items():
                with gr.Tab(I18N(f"tab_{name}"), id=name, elem_id=name) as tab:
                    part.build(page, tab)

    return blocks.queue(api_open=False, max_size=waiting())


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
    """Serve the page on a run (the one that ships) until interrupted; host, port and root path are Gradio's
    environment variables. On a public page with `open_to_all` whoever comes may train: see `server.auth` for
    who may otherwise.

    Raises MonjuError where the port is taken. `options` are passed on to gradio's launch.
    """
    shelf = RunCache(run or SHIPPED, os.environ.get("MONJU_RUNS") or ROOT / "trained")
    if repository := os.environ.get("MONJU_HUB", "").strip():
        threading.Thread(target=fetch, args=(shelf.folder, repository), daemon=True).start()
    public = is_public(options.get("server_name"), options.get("share"))
    page = build(shelf, Owner(public=public, open_to_all=open_to_all))
    shelf.warm()
    temp_files.keep_swept()
    try:
        turnstile = Middleware(RequestGuard, asks=RateLimit(*ASKS), each=RateLimit(*FILES),
                               all=RateLimit(*ALL_FILES),
                               full=lambda: len(page._queue) >= page._queue.max_size,
                               most=page._queue.max_size,
                               busy=lambda languages: spoken(languages)("busy"))
        around = {"middleware": [turnstile], "exception_handlers": {
            KeyError: gradio_patches.unknown, FnIndexInferError: gradio_patches.unknown,
            RequestValidationError: gradio_patches.unreadable}}
        return page.launch(**{**OPTIONS, "app_kwargs": around, **options})
    except OSError as error:
        raise MonjuError(
            f"the page cannot be served ({error}): choose another port with GRADIO_SERVER_PORT") from None
