"""The results: a headline, the sentences that Monju turned, tables and figures, other runs, files to take.

Layout and wiring only: the table's values, the words and the figures are `report`'s.
"""

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from markupsafe import Markup
from scipy.special import softmax

from monju.errors import MonjuError
from monju.inference.run_cache import RunCache
from monju.reporting import language_report, report, run_comparison
from monju.runs.run_data import load_run_data
from monju.ui.components import comparison, plots
from monju.ui.components.cards import Opinion
from monju.ui.components.markup import html, note, trouble, without_texts
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N, Translator
from monju.ui.page import QUIET, Page
from monju.utils.files import write

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


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the results and wire them to the run on show."""
    shelf, chosen = page.shelf, page.chosen
    folder = tempfile.TemporaryDirectory(prefix="monju-")  # what is downloaded; deleted with the page
    page.blocks.taken, writing = folder, threading.Lock()
    wanted = gr.State("")  # the run whose sentences are to be read, a moment after its numbers are shown
    with gr.Column():
        table = gr.HTML(I18N("results_waiting"), elem_id="results-table", apply_default_css=False)
        turned = gr.HTML(elem_id="turned", apply_default_css=False, js_on_load=OPEN)
        more = gr.HTML(elem_id="results-more", apply_default_css=False)
        figures = plots.plots("figures", folded=True)
        with gr.Row(elem_id="take") as taking:
            ask = gr.Button(I18N("compare_go"), size="sm", elem_id="compare", min_width=0)
            takes = {kind: gr.Button(I18N(f"take_{kind}"), size="sm", min_width=0, elem_id=f"take-{kind}")
                     for kind in FILES}
        file = gr.DownloadButton(visible="hidden", elem_id="taken")
        compared = gr.HTML(elem_id="comparison", apply_default_css=False)
        others = gr.Dropdown([], value=[], multiselect=True, max_choices=run_comparison.MOST_RUNS - 1,
                             label=I18N("runs_choose"), elem_id="compare-runs")
        beside = gr.HTML(elem_id="runs-table", apply_default_css=False)
        courses = plots.plots("run-curves")

    def draw(name, t):
        names = [each for each in shelf.names() if each != name]
        labels = shelf.task(name) != "lm"
        return [*show(shelf, name, t), gr.update(choices=names, value=[], visible=labels),
                gr.update(visible=labels), "", ""]

    def runs(name, chosen, request: gr.Request):
        """Draw the run on show and the chosen ones beside each other; nothing where none is chosen."""
        t = translator.asked(request)
        if not chosen:
            return "", ""
        try:
            found = [report.Results.of(shelf.classifiers(each)) for each in [name, *chosen]]
        except MonjuError as error:
            return trouble(error, t), ""
        return (html("runs.html", t, table=run_comparison.table(found, t)),
                plots.drawn("runs", run_comparison.curves(found, t), t))

    def read(name, run, request: gr.Request):
        t = translator.asked(request)
        # "": what stands there already, once more, since an earlier run's sentences may have come late
        return sentences(shelf, name, t) if name else show(shelf, run, t)[3]

    def visit(event: gr.EventData):
        try:
            return event.text, gr.Tabs(selected="playground"), "playground"
        except (AttributeError, TypeError):  # who calls it without a click
            return [gr.skip()] * 3

    def take(kind):
        def make(name, request: gr.Request):
            t = translator.asked(request)
            try:
                run_results = report.Results.of(shelf.classifiers(name))
            except MonjuError:
                raise gr.Error(t("take_trouble"), print_exception=False) from None
            ending, render = report.FORMATS[FILES[kind]]
            path = Path(folder.name) / t.language / f"monju-{run_results.name}{ending}"
            path.parent.mkdir(exist_ok=True)
            content = render(run_results, t)
            with writing:  # other visitors download the same file
                write(path, content)
            return str(path)
        return make

    def results(run: str = "") -> dict[str, Any]:
        """Return the results table of a run (the one that the page starts on, unless named).

        As metrics.json has it: {n, experts, monju, baseline, equal_cost, monju_vs_baseline {difference,
        interval, rescued, broken, p_value}, alpha, cost}.
        """
        try:
            return report.Results.of(shelf.classifiers(run or shelf.start)).metrics
        except MonjuError as error:
            raise gr.Error(translator.Translator().plain(error), print_exception=False) from None

    def compare(name, request: gr.Request):
        t = translator.asked(request)
        yield note(t("compare_go") + "…", t, busy=True)
        yield comparison.drawn(shelf, name, t)

    page.follow(tab, draw, [], [table, more, figures, turned, wanted, compared, others, taking, beside,
                              courses])
    others.change(runs, [chosen, others], [beside, courses], trigger_mode="always_last", **QUIET)
    page.blocks.load(None, None, None, js=plots.PREFETCH, api_visibility="private")
    ask.click(compare, chosen, compared, **QUIET)
    wanted.change(read, [wanted, chosen], turned, **QUIET)
    turned.open(visit, None, [page.sentence, page.tabs, page.where], **QUIET)
    for kind, button in takes.items():
        button.click(take(kind), chosen, file, **QUIET).then(None, file, None, js=SAVE,
                                                             api_visibility="private")
    gr.api(results, api_name="results")


def show(shelf: RunCache, name: str, t: Translator) -> tuple[Any, ...]:
    """Return what the tab shows of a run.

    The headline, the tables, the figures as JSON, a note in place of the sentences, the run whose sentences
    are to be read next ("" for none), and "" for the comparison.
    """
    try:
        if shelf.task(name) == "lm":
            return language(shelf.run(name).check().metrics(), t), "", "", "", "", ""
        results = report.Results.of(shelf.classifiers(name))
    except MonjuError as error:
        return trouble(error, t), "", "", "", "", ""
    alone = results.predictions.baseline is None
    headline = html("results.html", t, headline=report.headline(results, t))
    tables = html("tables.html", t, title=report.table_title(results, t),
                  table=report.accuracy_table(results, t),
                  told=report.interpretation(results, t), quality=report.quality_table(results, t))
    waiting = html("turned.html", t, hint=t("turned_none" if alone else "turned_reading"), busy=not alone,
                   gone=False, lists=None)
    figures = plots.drawn(results.name, report.all_figures(results, t), t, t("figures_title"))
    return headline, tables, figures, waiting, "" if alone else name, ""


def language(metrics: dict[str, Any], t: Translator) -> Markup:
    """Draw the results of a run of language models."""
    return html("language.html", t, headline=language_report.headline(metrics, t), n=metrics["n"],
                tokens=metrics["tokens"], systems=language_report.table(metrics, t),
                gates=language_report.gates(metrics, t))


# the sentences that Monju turned


def sentences(shelf: RunCache, name: str, t: Translator) -> Markup | str:
    """Draw the sentences that Monju rescued and broke, each a button; where they cannot be had, how many."""
    try:
        results = report.Results.of(shelf.classifiers(name))
    except MonjuError:
        return ""
    counts = dict(zip(("rescued", "broken"), map(len, results.turned)))
    try:
        texts = load_run_data(results.run).validation.texts
    except MonjuError:
        hint = t("turned_counts", **counts) + " " + without_texts("turned_gone", results.run, t)
        return html("turned.html", t, hint=hint, busy=False, gone=True, lists=None)
    lists = [(title, len(ids), turned_rows(results, ids, texts, t))
             for ids, title in zip(results.turned, counts)]
    return html("turned.html", t, hint=t("turned_hint"), busy=False, gone=False, lists=lists,
                most=MOST_TURNED)


def turned_rows(results: report.Results, ids: np.ndarray, texts: Sequence[str],
                t: Translator) -> list[dict[str, Any]]:
    """Return the rows of one list, the largest change of the right label's probability first."""
    predictions, names = results.predictions, t.labels(results.data["label_names"])
    # probabilities (n, labels)
    monju, baseline = (softmax(logits, axis=1) for logits in (predictions.monju, predictions.baseline))
    right, experts = results.labels, predictions.experts
    order = sorted(ids, key=lambda i: -abs(monju[i, right[i]] - baseline[i, right[i]]))[:MOST_TURNED]
    return [{"id": i, "text": texts[i], "truth": names[right[i]],
             "verdicts": [("monju", Opinion.of(predictions.monju[i], names)),
                          ("baseline", Opinion.of(predictions.baseline[i], names))],
             "alpha": list(zip(experts, predictions.alpha[i])) if len(experts) <= MOST_WEIGHTS else None}
            for i in order]
