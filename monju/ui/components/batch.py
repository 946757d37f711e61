"""Many sentences at once: pasted or uploaded, answered row for row with progress, kept as CSV."""

import csv as csv_format
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from monju.data import readers
from monju.data.notes import Note
from monju.data.rows import TEXT_COLUMNS, UNPRINTABLE
from monju.ensemble.outputs import Reading
from monju.errors import MonjuError
from monju.evaluation import combiners
from monju.inference.run_cache import RunCache
from monju.ui.components import csv_export
from monju.ui.components.columns import guessed
from monju.ui.components.markup import html
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N, Said
from monju.ui.page import QUIET, named
from monju.utils.format import clipped

# rows (the page's label says so, too), and of the file that brings them: read whole, it takes many times as
# much memory
MOST, MOST_BYTES = 2000, 8 << 20
CHUNK = 32  # sentences between two moves of the bar: those who type meanwhile are answered in between
SHOWN = 200  # rows on the page; the file has all


def build(shelf: RunCache, chosen: gr.Dropdown, settings: list[Component]) -> None:
    """Lay out the batch and wire it to the run on show and to the gate's settings."""
    with gr.Accordion(I18N("batch"), open=False, elem_id="batch"):
        with gr.Row():
            typed = gr.Textbox(label=I18N("batch_lines"), lines=5, max_lines=12, elem_id="batch-lines")
            file = gr.File(label=I18N("batch_file"), file_types=[".csv", ".txt"], height=150,
                           elem_id="batch-file")
        start = gr.Button(I18N("batch_run"), variant="primary", scale=0, min_width=200)
        status = gr.HTML(apply_default_css=False, elem_id="batch-status")
        table = gr.HTML(apply_default_css=False, elem_id="batch-table")
        save = gr.Button(I18N("download_csv"), size="sm", scale=0, min_width=200, visible=False,
                         elem_id="batch-save")
        csv, name = gr.Textbox(visible="hidden"), gr.Textbox("monju-batch.csv", visible="hidden")

    def run(lines, path, run_name, request: gr.Request, *values):
        yield from answers(shelf, run_name, lines, path, translator.asked(request), named(values))

    start.click(run, [typed, file, chosen, *settings], [status, table, csv, save], concurrency_id="batch",
                concurrency_limit=1, **QUIET)
    save.click(None, [csv, name], None, js=csv_export.SAVE, api_visibility="private")


def answers(shelf: RunCache, run: str, lines: str | None, path: str | None, t: translator.Translator,
            settings: dict[str, Any]) -> Iterator[tuple]:
    """Yield (status, table, CSV, update of the button) again and again until all sentences are read."""
    def status(text, share=None, notes=()):
        return html("batch.html", t, text=text, share=share, notes=notes)

    try:
        texts, given, remarks = rows_of(lines, path)
        opened = shelf.open(run)
        view, readings = combiners.view(opened, **settings), {}  # readings by row
        filled = [i for i, text in enumerate(texts) if text]
        for begin in range(0, len(filled), CHUNK):
            part = filled[begin:begin + CHUNK]
            yield status(t("batch_progress", done=begin, n=len(filled)),
                         begin / len(filled)), gr.skip(), "", gr.update(visible=False)
            chunk = [texts[i] for i in part]
            readings |= dict(zip(part, view.readings(chunk, opened.outputs(chunk))))
        rows = [csv_export.row(readings[i], view) if i in readings else {"text": ""}
                for i in range(len(texts))]
        differ = sum(rows[i].get("baseline", rows[i]["monju"]) != rows[i]["monju"] for i in filled)
        done = (t("batch_done", n=len(filled), differ=differ) if view.members
                else t("batch_done_alone", n=len(filled)))
        notes = [t.note(remark) if isinstance(remark, Note) else t(remark[0], **remark[1])
                 for remark in remarks]
        notes += [t(key, n=n) for key, n in counts(texts, readings.values()).items() if n]
        csv = csv_export.to_csv(rows if given is None else csv_export.beside(given, rows))
        yield status(done, notes=notes), csv_export.table(rows[:SHOWN], t), csv, gr.update(visible=True)
    except MonjuError as error:
        yield status(t.error(error) + t("stop")), "", "", gr.update(visible=False)


def counts(texts: list[str], readings: Iterable[Reading]) -> dict[str, int]:
    """Return {key of the texts: of how many rows it is true}: no sentence, or not all of it read."""
    codes_of = [{note.code for note in reading.notes} for reading in readings]
    return {"batch_blank": texts.count(""),
            "batch_cut": sum(any(code.startswith("sentence_cut") for code in codes) for codes in codes_of),
            "batch_unknown": sum("sentence_unknown" in codes for codes in codes_of)}


def rows_of(lines: str | None, path: str | None) -> tuple[list[str], list[dict] | None, list]:
    """Return the sentences that were pasted, or else those of the file, with the file's rows and remarks.

    Returns
    -------
    texts : list of str
        The sentences, "" for a row without one.
    given : list of dict, or None
        The file's rows as {column: value}; None of plain lines.
    remarks : list
        How they were taken, for the visitor: [Note or (key of the texts, values)].

    Raises
    ------
    MonjuError
        Where there is no sentence, or the file cannot be read.
    """
    given, remarks = None, []
    if (lines or "").strip() or not path:
        texts = split(lines or "")
    else:
        try:
            if Path(path).stat().st_size > MOST_BYTES:
                raise Said("batch_too_large", mb=MOST_BYTES >> 20)
            if path.endswith(".txt"):
                texts = split(readers.decoded(Path(path)))
            else:
                texts, given, remarks = of_table(Path(path))
        except OSError as error:
            raise Said("batch_unreadable", error=error.strerror or type(error).__name__) from None
    texts = [UNPRINTABLE.sub(" ", str("" if text is None else text)).strip() for text in texts]
    if not any(texts):
        raise Said("batch_empty")
    if len(texts) > MOST:
        raise Said("batch_too_many", n=f"{len(texts):,}", most=f"{MOST:,}")
    return texts, given, remarks


def split(text: str) -> list[str]:
    """Split a text into lines, the empty ones too, at line breaks alone, unlike `str.splitlines`."""
    lines = re.split(r"\r\n|\r|\n", text)
    return lines if lines[-1] else lines[:-1]


def of_table(path: Path) -> tuple[list, list[dict] | None, list]:
    """Return what `rows_of` does for a table: its text column, or its only one, with or without a heading."""
    table = readers.read_table(path)
    columns = {str(name): values for name, values in table.columns.items()}
    if table.repeated:
        raise Said("batch_repeated", columns=", ".join(table.repeated))
    if len(columns) > 1:
        text, _ = guessed(columns)
        if not any(re.search(r"[^\W\d_]", str(value)) for value in columns[text]):
            raise Said("batch_no_text", columns=", ".join(columns))
        rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
        return columns[text], rows, [*table.notes, ("batch_column", {"column": text})]
    # read_table leaves empty lines out, which are rows here
    first, *values = [row[0] if row else ""
                      for row in csv_format.reader(readers.Lines(readers.decoded(path)))]
    if first.strip().casefold() in TEXT_COLUMNS:
        return values, [{first: value} for value in values], []
    if " " not in first.strip() and any(" " in value.strip() for value in values):
        return values, [{first: value} for value in values], [("batch_heading", {"heading": first})]
    return [first, *values], None, [("batch_no_heading", {"first": clipped(first)})]
