"""The results: the poster's table of the run on show, its figures, the sentences that Monju turned, and files
to take away.

Layout and wiring only: what stands in the table, the words and the figures is `report`'s.
"""

import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import gradio as gr
import plotly
from scipy.special import softmax

from monju.errors import MonjuError
from monju.reporting import figures, report
from monju.runs.run_data import load_run_data
from monju.ui.components import comparison
from monju.ui.components.cards import Opinion
from monju.ui.components.markup import html, note, trouble
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N
from monju.ui.page import QUIET
from monju.utils.files import ROOT, write

ASSETS = ROOT / "assets"
# the script that this plotly writes for
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
MOST_TURNED = 200  # sentences of a list: beyond, they are counted
MOST_WEIGHTS = 6  # experts whose α stands beside a sentence
FILES = {"csv": "csv", "latex": "latex", "report": "html"}  # what a button brings → its format
OPEN = """
element.addEventListener('click', event => {
  const row = event.target.closest('button[data-id]')
  if (row) trigger('open', {text: row.querySelector('.text').textContent})
})"""
SAVE = """file => { if (file) { const link = document.createElement('a')
  link.href = file.url; link.download = file.orig_name
  document.body.append(link); link.click(); link.remove() } }"""


def build(page, tab):
    """Lay the results out and wire them to the run on show."""
    shelf, chosen = page.shelf, page.chosen
    gr.set_static_paths(PLOTLY)  # plotly.js from the installed package: nothing is fetched from outside
    folder = tempfile.TemporaryDirectory(prefix="monju-")  # what is taken away; gone with the page
    page.blocks.taken, writing = folder, threading.Lock()
    wanted = gr.State("")  # the run whose sentences are to be read, a moment after its numbers are shown
    with gr.Column():
        table = gr.HTML(I18N("results_waiting"), elem_id="results-table", apply_default_css=False)
        with gr.Row(elem_id="take"):
            takes = {kind: gr.Button(I18N(f"take_{kind}"), size="sm", min_width=0, elem_id=f"take-{kind}")
                     for kind in FILES}
        file = gr.DownloadButton(visible="hidden", elem_id="taken")
        drawings = gr.HTML("", html_template='<div class="figures"></div>', elem_id="figures",
                           apply_default_css=False,
                           head=f'<script src="gradio_api/file={PLOTLY}"></script>',
                           js_on_load=(ASSETS / "figures.js").read_text(encoding="utf-8"))
        ask = gr.Button(I18N("compare_go"), size="sm", elem_id="compare", scale=0)
        compared = gr.HTML(elem_id="comparison", apply_default_css=False)
        turned = gr.HTML(elem_id="turned", apply_default_css=False, js_on_load=OPEN)

    def draw(name, t):
        return show(shelf, name, t)

    def read(name, request: gr.Request):
        return sentences(shelf, name, translator.asked(request)) if name else gr.skip()

    def visit(event: gr.EventData):
        try:
            return event.text, gr.Tabs(selected="playground"), "playground"
        except (AttributeError, TypeError):  # who calls it without a click
            return [gr.skip()] * 3

    def take(kind):
        def make(name, request: gr.Request):
            t = translator.asked(request)
            try:
                found = report.Results.of(shelf.run(name))
            except MonjuError:
                raise gr.Error(t("take_trouble"), print_exception=False) from None
            ending, made = report.FORMATS[FILES[kind]]
            path = Path(folder.name) / t.language / f"monju-{found.name}{ending}"
            path.parent.mkdir(exist_ok=True)
            content = made(found, t)
            with writing:  # others take the same file
                write(path, content)
            return str(path)
        return make

    def results(run: str = "") -> dict[str, Any]:
        """The results table of a run (the one that the page starts on, unless named), as metrics.json has it:
        {n, experts, monju, baseline, equal_cost, monju_vs_baseline {difference, interval, rescued, broken,
        p_value}, alpha, cost}."""
        try:
            return report.Results.of(shelf.run(run or shelf.start)).metrics
        except MonjuError as error:
            raise gr.Error(translator.Translator().plain(error), print_exception=False) from None

    def compare(name, request: gr.Request):
        t = translator.asked(request)
        yield note(t("compare_go") + "…", t, busy=True)
        yield comparison.drawn(shelf, name, t)

    page.follow(tab, draw, [], [table, drawings, turned, wanted, compared])
    ask.click(compare, chosen, compared, **QUIET)
    wanted.change(read, wanted, turned, **QUIET)
    turned.open(visit, None, [page.sentence, page.tabs, page.where], **QUIET)
    for kind, button in takes.items():
        button.click(take(kind), chosen, file, **QUIET).then(None, file, None, js=SAVE,
                                                             api_visibility="private")
    gr.api(results, api_name="results")


def show(shelf, name, t):
    """What the tab shows of a run: the table, the figures as JSON, a word in place of the sentences, and
    whose are wanted."""
    try:
        found = report.Results.of(shelf.run(name))
    except MonjuError as error:
        return trouble(error, t), "", "", "", ""
    alone = found.predictions.baseline is None
    tables = html("results.html", t, title=report.table_title(found, t),
                  table=report.accuracy_table(found, t),
                  told=report.told(found, t), quality=report.quality_table(found, t))
    waiting = html("turned.html", t, hint=t("turned_none" if alone else "turned_reading"), busy=not alone,
                   gone=False, lists=None)
    return tables, drawn(found, t), waiting, "" if alone else name, ""


def drawn(found, t):
    """The figures for assets/figures.js."""
    return json.dumps({"darker": figures.DARKER, "run": found.name, "figures": [
        {"name": name, "title": title, "note": note, "figure": json.loads(figure.to_json()),
         "save": {kind: t("save_as", title=title, format=kind.upper()) for kind in ("png", "svg")}}
        for name, title, note, figure in report.drawn(found, t)]})


# the sentences that Monju turned


def sentences(shelf, name, t):
    """The sentences that Monju rescued and broke, each a button; their numbers alone where they cannot be
    read again."""
    try:
        found = report.Results.of(shelf.run(name))
    except MonjuError:
        return ""
    try:
        texts, hint = load_run_data(found.run).validation.texts, t("turned_hint")
    except MonjuError:
        texts, hint = None, t("turned_gone", data=Path(found.config.data).name)
    lists = [(title, len(ids), turned_rows(found, ids, texts, t))
             for ids, title in zip(found.turned, ("rescued", "broken"))]
    return html("turned.html", t, hint=hint, busy=False, gone=texts is None, lists=lists, most=MOST_TURNED)


def turned_rows(found, ids, texts, t):
    """The rows of one list, the surest change of the right label's probability first."""
    votes, names = found.predictions, t.labels(found.data["label_names"])
    ours, theirs = (softmax(logits, axis=1) for logits in (votes.monju, votes.baseline))  # (n, labels)
    right = found.labels
    order = sorted(ids, key=lambda i: -abs(ours[i, right[i]] - theirs[i, right[i]]))[:MOST_TURNED]
    return [{"id": i, "text": None if texts is None else texts[i], "truth": names[right[i]],
             "verdicts": [("monju", Opinion.of(votes.monju[i], names)),
                          ("baseline", Opinion.of(votes.baseline[i], names))],
             "alpha": list(zip(votes.experts, votes.alpha[i])) if len(votes.experts) <= MOST_WEIGHTS
             else None} for i in order]
