"""Many sentences at once: pasted or uploaded, answered with progress, kept as CSV."""

from pathlib import Path

import gradio as gr

from monju import sources
from monju.errors import MonjuError
from monju.ui import sheet, words
from monju.ui.page import QUIET, named
from monju.ui.words import I18N

MOST, MOST_BYTES = 2000, 8 << 20  # sentences, and of the file that brings them: read whole, it takes many times as much memory
CHUNK = 32  # sentences between two moves of the bar: those who type meanwhile are answered in between
SHOWN = 200  # rows on the page; the file has all


def build(shelf, chosen, settings):
    """Lay the batch out and wire it to the run on show and to the gate's settings."""
    with gr.Accordion(I18N("batch"), open=False, elem_id="batch"):
        with gr.Row():
            typed = gr.Textbox(label=I18N("batch_lines"), lines=5, max_lines=12, elem_id="batch-lines")
            file = gr.File(label=I18N("batch_file"), file_types=[".csv", ".txt"], height=150, elem_id="batch-file")
        start = gr.Button(I18N("batch_run"), variant="primary", scale=0, min_width=200)
        status = gr.HTML(apply_default_css=False, elem_id="batch-status")
        table = gr.HTML(apply_default_css=False, elem_id="batch-table")
        save = gr.Button(I18N("download_csv"), size="sm", scale=0, min_width=200, visible=False, elem_id="batch-save")
        csv, name = gr.Textbox(visible="hidden"), gr.Textbox("monju-batch.csv", visible="hidden")

    def run(lines, path, run_name, request: gr.Request, *turned):
        yield from answers(shelf, run_name, lines, path, words.asked(request), named(turned))

    start.click(run, [typed, file, chosen, *settings], [status, table, csv, save], concurrency_id="batch",
                concurrency_limit=1, **QUIET)
    save.click(None, [csv, name], None, js=sheet.SAVE, api_visibility="private")


def answers(shelf, run, lines, path, say, settings):
    """status, table, CSV and the button's state, again and again until all sentences are read."""
    def told(text, share=None):
        bar = "" if share is None else f'<progress max="1" value="{share:.3f}"></progress>'
        return f'<div class="monju"><p role="status">{bar} {text}</p></div>'

    try:
        texts = sentences(lines, path, say)
        opened = shelf.open(run)
        view, rows = opened.view(**settings), []
        for begin in range(0, len(texts), CHUNK):
            part = texts[begin:begin + CHUNK]
            yield told(say("batch_progress", done=begin, n=len(texts)), begin / len(texts)), gr.skip(), "", gr.update(visible=False)
            rows += [sheet.row(found, view) for found in view.readings(part, opened.votes(part))]
        differ = sum(row.get("baseline", row["monju"]) != row["monju"] for row in rows)
        done = say("batch_done", n=len(rows), differ=differ) if view.members else say("batch_done_alone", n=len(rows))
        yield told(done), sheet.table(rows[:SHOWN], say), sheet.to_csv(rows), gr.update(visible=True)
    except MonjuError as error:
        yield told(str(error)), "", "", gr.update(visible=False)


def sentences(lines, path, say):
    """The sentences that were pasted, or else those of the file; empty lines are left out. Raises MonjuError."""
    if (lines or "").strip() or not path:
        texts = (lines or "").splitlines()
    else:
        try:
            if Path(path).stat().st_size > MOST_BYTES:
                raise MonjuError(f"it is larger than {MOST_BYTES >> 20} MB")
            texts = Path(path).read_text(encoding="utf-8-sig").splitlines() if path.endswith(".txt") else sources.load_texts(path)
        except (MonjuError, OSError, UnicodeDecodeError) as error:
            raise MonjuError(say("batch_unreadable", error=str(error).replace(str(path), Path(path).name).rstrip("."))) from None
    texts = [text.strip() for text in texts if text.strip()]
    if not texts:
        raise MonjuError(say("batch_empty"))
    if len(texts) > MOST:
        raise MonjuError(say("batch_too_many", n=f"{len(texts):,}", most=f"{MOST:,}"))
    return texts
