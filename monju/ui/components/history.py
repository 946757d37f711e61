"""The sentences of this session: a table of them, and the same with all numbers as CSV."""

import time

import gradio as gr
from markupsafe import Markup

from monju.ui.components import csv_export
from monju.ui.i18n.translator import I18N, Translator
from monju.ui.page import QUIET

REST = 2.5  # seconds after which a sentence counts as finished, not as one that is being typed
KEPT, SHOWN = 500, 30  # rows in the file, rows on the page


def build() -> tuple[gr.State, gr.HTML]:
    """Lay out the history; return its rows (a gr.State) and its table, which `noted` and `drawn` fill."""
    rows = gr.State([])
    with gr.Accordion(I18N("history"), open=False, elem_id="history"):
        table = gr.HTML(apply_default_css=False)
        with gr.Row():
            save = gr.Button(I18N("download_csv"), size="sm", scale=0, min_width=200)
            clear = gr.Button(I18N("clear"), size="sm", scale=0, min_width=100)
        csv, name = gr.Textbox(visible="hidden"), gr.Textbox("monju-sentences.csv", visible="hidden")
    clear.click(lambda: ([], ""), None, [rows, table], **QUIET)
    save.click(csv_export.to_csv, rows, csv, **QUIET).then(None, [csv, name], None, js=csv_export.SAVE,
                                                           api_visibility="private")
    return rows, table


def noted(rows: list[dict], new: dict) -> list[dict]:
    """Return the rows with one more; it replaces a last row of the same text, or one still being typed."""
    now = time.time()
    if rows and (rows[-1]["text"] == new["text"] or now - rows[-1]["at"] < REST):
        rows = rows[:-1]
    return [*rows, {**new, "at": round(now, 1)}][-KEPT:]


def drawn(rows: list[dict], t: Translator) -> Markup:
    """Draw the last rows, the newest first."""
    return csv_export.table(rows[: -SHOWN - 1 : -1], t)
