"""The page: one file a tab, layout and wiring only. The only place that imports gradio."""

import os
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: it asks its makers at once

import gradio as gr  # noqa: E402

from monju.errors import MonjuError  # noqa: E402
from monju.ui import clusters, playground, results, training  # noqa: E402
from monju.ui.page import Page  # noqa: E402
from monju.ui.shelf import Shelf  # noqa: E402
from monju.ui.words import I18N  # noqa: E402

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "trained" / "sst2-minilm"
FONTS = ("system-ui", "Noto Sans", "Hiragino Sans", "Noto Sans CJK JP", "Yu Gothic", "sans-serif")
MONO = ("ui-monospace", "monospace")
# in the order of the page; each has build(page, tab), its texts and its style sheet
TABS = {"playground": playground, "clusters": clusters, "training": training, "results": results}
OPTIONS = {
    "ssr_mode": False,
    "footer_links": [],
    "enable_monitoring": False,
    "run_history": False,
    "max_file_size": "50mb",  # a file of labelled sentences; Gradio's upload route is always there
    "i18n": I18N,
    "theme": gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONO),
    "css_paths": [ROOT / "assets" / f"{name}.css" for name in ("style", *TABS) if name != "playground"],
    "js": "() => { document.documentElement.lang = navigator.language.startsWith('ja') ? 'ja' : 'en' }",
}


def build(shelf):
    """The whole page on the runs of a shelf: a gr.Blocks, not yet launched."""
    with gr.Blocks(title="Monju · 三人寄れば文殊の知恵", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        with gr.Row(elem_id="header"):
            gr.HTML('<h1 lang="ja">三人寄れば文殊の知恵</h1>', apply_default_css=False)
            gr.Markdown(I18N("proverb"), elem_id="proverb")
            # any value: the list of a page that stayed open may be older than the runs
            chosen = gr.Dropdown([shelf.start], value=shelf.start, label=I18N("run_choice"), allow_custom_value=True,
                                 elem_id="run", scale=0, min_width=220)
            gr.Markdown(I18N("idea"), elem_id="idea")
        where = gr.State(next(iter(TABS)))
        with gr.Tabs(elem_id="tabs") as tabs:
            page = Page(blocks, shelf, chosen, tabs, where)
            for name, part in TABS.items():
                with gr.Tab(I18N(f"tab_{name}"), id=name, elem_id=name) as tab:
                    part.build(page, tab)

    return blocks.queue(api_open=False, max_size=64)


def launch(run=None, **options):
    """Serve the page on a run (the one that ships) until interrupted; host and port are Gradio's environment variables.

    Raises MonjuError where the port is taken. `options` are passed on to gradio's launch.
    """
    shelf = Shelf(run or SHIPPED, os.environ.get("MONJU_RUNS") or ROOT / "trained")
    page = build(shelf)
    shelf.warm()
    try:
        return page.launch(**{**OPTIONS, **options})
    except OSError as error:
        raise MonjuError(f"the page cannot be served ({error}): choose another port with GRADIO_SERVER_PORT") from None
