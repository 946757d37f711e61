"""Readings as rows of a table, and a table as a CSV file that a spreadsheet opens without harm.

Knows nothing of gradio but how a browser is told to keep a file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup
from scipy.special import softmax

from monju.data.readers import no_formula
from monju.ui.components.markup import html
from monju.ui.i18n.translator import Translator

if TYPE_CHECKING:
    from monju.ensemble.outputs import Reading
    from monju.inference.reader import SentenceReader

# the file is made by the browser out of the text that the server sends: nothing is left on the server's disk
SAVE = """(csv, name) => {
  if (!csv) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\\ufeff", csv], {type: "text/csv;charset=utf-8"}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""


def row(found: Reading, view: SentenceReader) -> dict:
    """A Reading under the run `view`'s settings as a flat dictionary of what a spreadsheet can hold."""
    said = {"text": found.text, "monju": found.monju.name,
            "monju_p": round(float(found.monju.probabilities.max()), 4)}
    if found.baseline is not None:
        said |= {"baseline": found.baseline.name,
                 "baseline_p": round(float(found.baseline.probabilities.max()), 4)}
    said |= {f"alpha_{name}": round(value, 4) for name, value in found.alpha.items()}
    said |= {f"d_{name}": round(value, 4) for name, value in found.distances.items()}
    for model, logits in found.logits.items():
        said |= {f"p_{model}_{label}": round(float(p), 4)
                 for label, p in zip(view.label_names, softmax(logits))}
    config = view.config
    return said | {"run": os.path.basename(os.path.abspath(view.run.path)), "gate": view.gate,
                   "sharpness": config.sharpness,
                   "temperature": config.temperature, "fusion": config.fusion}


def beside(given: list[dict], rows: list[dict]) -> list[dict]:
    """Uploaded rows, each followed by what was read of it; a column in the way is renamed."""
    needed = {name for row in rows for name in row} - {"text"}
    return [{f"given_{name}" if name in needed else name: value for name, value in cells.items()}
            | {name: value for name, value in row.items() if name != "text"}
            for cells, row in zip(given, rows)]


def to_csv(rows: list[dict]) -> str:
    """Rows → CSV text. A cell that a spreadsheet would run as a formula starts with an apostrophe."""
    frame = pd.DataFrame([{no_formula(name): no_formula(value) for name, value in row.items()}
                          for row in rows])
    # what a spreadsheet writes; a lone carriage return in a cell is quoted then
    return frame.to_csv(index=False, lineterminator="\r\n")


def table(rows: list[dict], t: Translator) -> Markup:
    """Rows as an HTML table: the sentence and both verdicts."""
    labels = {row[who] for row in rows for who in ("monju", "baseline") if who in row}
    return html("sheet.html", t, rows=rows, labels={name: t.label(name) for name in labels})
