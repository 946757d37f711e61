"""Readings as rows of a table, and a table as a CSV file that a spreadsheet opens without harm.

Knows nothing of gradio but how a browser is told to keep a file.
"""

import os
from html import escape

import pandas as pd
from scipy.special import softmax

from monju.data.readers import no_formula

SHOWN = 160  # characters of a sentence in a table
# the file is made by the browser out of the text that the server sends: nothing is left on the server's disk
SAVE = """(csv, name) => {
  if (!csv) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\\ufeff", csv], {type: "text/csv;charset=utf-8"}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""


def row(found, view):
    """A Reading under the run `view`'s settings as a flat dictionary of what a spreadsheet can hold."""
    said = {"text": found.text, "monju": found.monju.name, "monju_p": round(float(found.monju.probabilities.max()), 4)}
    if found.baseline is not None:
        said |= {"baseline": found.baseline.name, "baseline_p": round(float(found.baseline.probabilities.max()), 4)}
    said |= {f"alpha_{name}": round(value, 4) for name, value in found.alpha.items()}
    said |= {f"d_{name}": round(value, 4) for name, value in found.distances.items()}
    for model, logits in found.logits.items():
        said |= {f"p_{model}_{label}": round(float(p), 4) for label, p in zip(view.label_names, softmax(logits))}
    config = view.config
    return said | {"run": os.path.basename(os.path.abspath(view.run.path)), "gate": view.gate, "sharpness": config.sharpness,
                   "temperature": config.temperature, "fusion": config.fusion}


def beside(given, rows):
    """Uploaded rows, each its own cells in their order, then what was read of it; a column whose name is needed gets another."""
    needed = {name for row in rows for name in row} - {"text"}
    return [{f"given_{name}" if name in needed else name: value for name, value in cells.items()}
            | {name: value for name, value in row.items() if name != "text"} for cells, row in zip(given, rows)]


def to_csv(rows):
    """Rows → CSV text. A cell that a spreadsheet would run as a formula starts with an apostrophe."""
    frame = pd.DataFrame([{no_formula(name): no_formula(value) for name, value in row.items()} for row in rows])
    return frame.to_csv(index=False, lineterminator="\r\n")  # what a spreadsheet writes; a lone carriage return in a cell is quoted then


def table(rows, say):
    """Rows as an HTML table: the sentence and both verdicts."""
    heads = "".join(f'<th scope="col">{head}</th>' for head in (say("column_sentence"), say("monju"), say("baseline")))
    empty = f'<span class="faint">{say("batch_row_empty")}</span>'
    body = "".join(f'<tr><th scope="row" dir="auto">{escape(clipped(row["text"])) or empty}</th>{verdict(row, "monju", say)}'
                   f'{verdict(row, "baseline", say)}</tr>' for row in rows)
    return f'<div class="monju"><table class="sheet"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def verdict(row, who, say):
    if who not in row:
        return "<td>–</td>"
    differs = who == "baseline" and row["baseline"] != row["monju"]
    return f'<td>{"≠ " if differs else ""}{escape(say.label(row[who]))} {100 * row[who + "_p"]:.1f}\u202f%</td>'


def clipped(text):
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
