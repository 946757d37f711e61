"""Readings as rows of a table, and a table as a CSV file that a spreadsheet opens without harm.

Knows nothing of gradio but how a browser is told to keep a file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup
from scipy.special import softmax

from monju.data.readers import no_formula
from monju.ui.components.markup import html
from monju.ui.i18n.translator import Translator

if TYPE_CHECKING:
    from monju.ensemble.outputs import Reading
    from monju.inference.reader import SentenceReader

MOST_LABELS = 20  # a column each for every model; of more, each model's likeliest alone
# the file is made by the browser out of the text that the server sends: nothing is left on the server's disk
SAVE = """(csv, name) => {
  if (!csv) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\\ufeff", csv], {type: "text/csv;charset=utf-8"}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""


def row(reading: Reading, view: SentenceReader) -> dict[str, Any]:
    """Return a Reading under the settings of `view` as a flat dictionary of what a spreadsheet can hold."""
    cells = {"text": reading.text, "monju": reading.monju.name,
             "monju_p": round(float(reading.monju.probabilities.max()), 4)}
    if reading.baseline is not None:
        cells |= {"baseline": reading.baseline.name,
                  "baseline_p": round(float(reading.baseline.probabilities.max()), 4)}
    cells |= {f"alpha_{name}": round(value, 4) for name, value in reading.alpha.items()}
    cells |= {f"d_{name}": round(value, 4) for name, value in reading.distances.items()}
    for model, logits in reading.logits.items():
        probabilities = softmax(logits)
        if len(logits) <= MOST_LABELS:
            cells |= {f"p_{model}_{label}": round(float(p), 4)
                      for label, p in zip(view.label_names, probabilities)}
        else:  # `predict --json` has every label's
            best = int(logits.argmax())
            cells |= {f"says_{model}": view.label_names[best],
                      f"p_{model}": round(float(probabilities[best]), 4)}
    config = view.config
    return cells | {"run": os.path.basename(os.path.abspath(view.run.path)), "gate": view.gate,
                    "sharpness": config.sharpness,
                    "temperature": config.temperature, "fusion": config.fusion}


def beside(given: list[dict], rows: list[dict]) -> list[dict]:
    """Join uploaded rows with what was read of each; a column of the same name as one of ours is renamed."""
    needed = {name for row in rows for name in row} - {"text"}
    return [{f"given_{name}" if name in needed else name: value for name, value in cells.items()}
            | {name: value for name, value in row.items() if name != "text"}
            for cells, row in zip(given, rows)]


def to_csv(rows: list[dict]) -> str:
    """Write rows as CSV text. A cell that a spreadsheet would run as a formula starts with an apostrophe."""
    frame = pd.DataFrame([{no_formula(name): no_formula(value) for name, value in row.items()}
                          for row in rows])
    # what a spreadsheet writes; a lone carriage return in a cell is quoted then
    return frame.to_csv(index=False, lineterminator="\r\n")


def table(rows: list[dict], t: Translator) -> Markup:
    """Draw rows as a table: the sentence and both verdicts."""
    labels = {row[column] for row in rows for column in ("monju", "baseline") if column in row}
    return html("sheet.html", t, rows=rows, labels={name: t.label(name) for name in labels})
