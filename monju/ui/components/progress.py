"""A job's snapshot, a plan, the list of runs → HTML.

The curves are SVG (templates/job.html), not a chart component's: replaced every second, they do not flicker,
and take their colours from the style sheet, light or dark. Knows nothing of gradio.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from monju.data.notes import Note, error_of
from monju.data.rows import MOST_LISTED
from monju.data.splits import stratified
from monju.ensemble.subsets import model_key
from monju.errors import MonjuError
from monju.ui.components.markup import html, note
from monju.ui.i18n.translator import TEXTS, Translator
from monju.utils.format import clock, percent, size
from monju.utils.templates import tint

if TYPE_CHECKING:
    from monju.data.sources import Data

DASHES = {"experts": "", "baseline": "7 4", "equal-cost": "2 3"}
SHOWN, MOST_COLUMNS, CUT = 3, 8, 160  # rows and columns of a source that is looked at, characters of a cell
WIDE_GAP = 0.05  # of accuracy on an unseen cluster: below, a gate gains next to nothing (docs/study.md)
MOST_NAMED = 12  # curves that are named at their end
WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 600, 240, 44, 28, 66, 12


def trouble(error: MonjuError, t: Translator) -> Markup:
    """Draw why something was not done."""
    return note(t("t_error", error=t.error(error)), t, "told", "alert")


# ---- the job


def job(snapshot: dict, t: Translator) -> Markup:
    """Draw a job: what it does, its bars, its curves, the end of its log."""
    reason = t.error(error_of(snapshot.get("reason", ""), snapshot.get("reason_note")))
    status = {"code": snapshot["status"],
              "status": t(f"t_status_{snapshot['status']}", run=snapshot["name"], reason=reason)}
    if snapshot["status"] == "none":
        return html("job.html", t, **status, bars=None)
    models = standing(snapshot)
    curves = [curve(models, "loss", t("t_loss"), 1, 2),
              curve(models, "held_out_accuracy", t("t_held_out"), 100, 0)]
    return html("job.html", t, **status, bars=bars(snapshot, models, t),
                notes=map(Note.of, snapshot["notes"]),
                curves=list(filter(None, curves)), log="\n".join(snapshot["log"]))


def standing(snapshot: dict) -> dict[str, dict]:
    """Return {name: {kind, number, lines, last}} of every model in the run's order, also those that wait."""
    lines: dict[str, list[dict]] = {}
    for line in snapshot["history"]:
        lines.setdefault(line["model"], []).append(line)
    names = [(kind, number, model_key(kind, name)) for kind, names in snapshot["models"].items()
             for number, name in enumerate(names)]
    return {name: {"kind": kind, "number": number, "lines": lines.get(name, []),
                   "last": (lines.get(name) or [None])[-1]}
            for kind, number, name in names}


def bars(snapshot: dict, models: dict[str, dict], t: Translator) -> list[tuple[str, int, str, str]]:
    """Return one bar for the run, one for each model: name, percent, facts and class in the style sheet."""
    now, results = snapshot["now"], []
    done = {name: model["last"]["step"] / model["last"]["steps"] if model["last"] else 0.0
            for name, model in models.items()}
    if models:
        whole = 1.0 if snapshot["status"] == "finished" else now.get("done") or sum(done.values()) / len(done)
        facts = [t(f"t_phase_{now['phase']}")] if now.get("phase") in ("evaluation", "map") else []
        if now.get("waits"):
            facts.append(t("t_waits", time=clock(now["waits"])))
        elif now.get("left"):
            facts.append(t("t_left", time=clock(now["left"])))
        if "memory" in now:
            facts.append(f"{size(now['memory'])} {t('t_' + now['of'])}")
        results.append((t("t_whole"), full(whole), Markup(" · ").join(facts), "whole"))
    for name, model in models.items():
        last, facts = model["last"], "–"
        if last:
            checked = [line["held_out_accuracy"]
                       for line in model["lines"] if line["held_out_accuracy"] is not None]
            facts = Markup(" · ").join([f"{last['step']:,}/{last['steps']:,}",
                                        f"{t('t_loss')} {last['loss']:.3f}",
                                *(f"{percent(share, 1)} %" for share in checked[-1:]),
                                t("t_speed", n=round(last["sentences"] / last["seconds"]))])
        results.append((name, full(done[name]), facts, tint(model["number"])))
    return results


def full(share: float) -> int:
    """Return a bar's percent: never 100 before the end."""
    return int(100 * min(1, share) + 1e-9)


def curve(models: dict[str, dict], what: str, title: str, times: int, digits: int) -> dict[str, Any] | None:
    """Return the chart of one value of the history, `what`; None where no line of the history has it yet.

    One line a model, its colour by number and its dashes by kind.
    """
    points = {name: [(line["step"], times * line[what]) for line in model["lines"] if line[what] is not None]
              for name, model in models.items()}
    points = {name: line for name, line in points.items() if line}
    if not points:
        return None
    steps = max(*(line[-1][0] for line in points.values()),
                *(model["last"]["steps"] for model in models.values() if model["last"]))
    low, high = (f(value for line in points.values() for _, value in line) for f in (min, max))
    margin = (high - low) * 0.05 or 0.05 * times
    low, high = low - margin, high + margin

    def x(step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / steps

    def y(value):
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    placed = {name: [(f"{x(step):.1f}", f"{y(value):.1f}") for step, value in line]
              for name, line in points.items()}
    return {"title": title, "steps": steps, "left": LEFT, "right": WIDTH - RIGHT, "width": WIDTH,
            "height": HEIGHT,
            "grid": [(y(at), f"{at:.{digits}f}")
                     for at in (low + (high - low) * share for share in (0.05, 0.35, 0.65, 0.95))],
            "lines": [{"name": name, "at": at, "last": points[name][-1][1],
                       "tint": tint(models[name]["number"]),
                       "path": "L".join(map(" ".join, at)),
                       "dashes": DASHES.get(models[name]["kind"], "5 2 1 2")}
                      for name, at in placed.items()],
            "ends": ends([(y(line[-1][1]), x(line[-1][0]), name, models[name]["number"])
                          for name, line in points.items()])}


def ends(lines: list[tuple[float, float, str, int]]) -> list[tuple[float, float, str, str]]:
    """Place the models' names right of their lines, apart from each other; none where they are too many."""
    placed, before = [], 0.0
    for y, x, name, number in sorted(lines) if len(lines) <= MOST_NAMED else ():
        before = max(y, before + 14)
        placed.append((x + 7, before + 4, name.split("/")[-1], tint(number)))
    return placed


# ---- the plan


def plan(estimate: dict, t: Translator) -> Markup:
    """Draw what would be trained on what, and what it would take as far as that is known."""
    clusters = ", ".join(f"{name} {count:,}" for name, count in estimate["clusters"].items())
    parts = [t("t_counts", train=f"{estimate['train']:,}", validation=f"{estimate['validation']:,}",
               models=len(estimate["models"])),
             t("t_clusters", clusters=clusters)]
    if estimate["sampled"]:
        parts.append(t("t_sampled", n=f"{estimate['sampled']:,}"))
    gate = estimate["gate"]
    parts.append(t("t_gate", unseen=percent(gate["unseen"], 1), uneven=f"{gate['uneven']:.2f}",
                   most=f"{gate['most']:.2f}"))
    status = t("t_planning")
    if "seconds" in estimate:
        status = t("t_estimate", time=clock(estimate["seconds"]), memory=size(estimate["memory"]),
                   of=t(f"t_{estimate['of']}"),
                   steps=estimate["steps"], device=estimate["device"], places=estimate["places"])
    rows = [(model["name"], f"{model['sentences']:,}", f"{model['steps']:,}") for model in estimate["models"]]
    return html("source.html", t, text=Markup(" ").join(parts), status=status, rows=rows,
                notes=map(Note.of, estimate["notes"]),
                heads=[t("t_model"), t("t_sentences"), t("t_steps")])


def planning(t: Translator) -> Markup:
    """Draw what stands in a plan's place until its first part is there."""
    return note(t("t_planning"), t, busy=True)


def preview(data: Data, columns: list[str], t: Translator) -> Markup:
    """Draw what stands in a source: its first sentences, its labels, what was found and dropped."""
    counts = [int((data.train.labels == number).sum()) for number in range(len(data.labels))]
    named = [f"{name} {count:,}" for name, count in zip(data.label_names, counts)]
    labels = ", ".join(named[:MOST_LISTED] + ["…"] * (len(named) > MOST_LISTED))
    rows = [(data.train.texts[row][:CUT], data.label_names[data.train.labels[row]])
            for row in stratified(data.train.labels, SHOWN, seed=0)]
    return html("source.html", t,
                text=t("t_rows", n=f"{len(data.train.texts):,}", columns=", ".join(columns), labels=labels),
                heads=[t("column_sentence"), t("t_label")], rows=rows, notes=data.notes, status=None)


def first_rows(columns: dict[str, list], t: Translator) -> Markup:
    """Draw the first rows of {column: values} as they stand in the file."""
    names = list(columns)[:MOST_COLUMNS]
    rows = [["" if value is None else str(value)[:CUT] for value in row]
            for row in zip(*(columns[name][:SHOWN] for name in names))]
    return html("source.html", t, text=None, heads=names, rows=rows, notes=None, status=None)


# ---- the runs


def listed(runs: list[dict], t: Translator) -> Markup:
    """Draw the table of runs."""
    if not runs:
        return note(t("t_no_runs"), t, "", role=None)
    heads = [t(f"t_col_{name}")
             for name in ("name", "date", "data", "backbone", "monju", "baseline", "size", "status", "shows")]
    rows = [(run["name"],
             time.strftime("%Y-%m-%d %H:%M", time.localtime(run["date"])) if run["date"] else "–",
             run["data"] or "–", run["backbone"] or "–", percent(run["monju"]), percent(run["baseline"]),
             size(run["bytes"]) if run["bytes"] is not None else "–", t(f"t_is_{run['status']}"),
             shows(run, t))
            for run in runs]
    return html("table.html", t, heads=heads, rows=rows)


def shows(run: dict, t: Translator) -> Markup | str:
    """Say what a run of the list shows: its subject, and whether its gate can matter."""
    known, meter = f"run_{run['name']}", run["meter"]
    said = [t(known)] if known in TEXTS else []
    if meter and (gap := meter["gap"]["difference"]) is not None:
        said.append(t("meter_matters" if gap >= WIDE_GAP else "meter_idle", gap=percent(gap, 1),
                      did=percent(meter["did_flip"], 1)))
    return Markup(" ").join(said) or "–"


def compared(one: tuple[str, dict], other: tuple[str, dict], t: Translator) -> Markup:
    """Draw two runs' figures side by side: each is (name, metrics)."""
    rows = []
    for key in ("monju", "baseline", "equal_cost"):
        for what, text in (("accuracy", "t_accuracy_of"), ("gain", "t_gain_of")):
            values = [metrics.get(key, {}).get(what) for _, metrics in (one, other)]
            if any(value is not None for value in values):
                system = t(key) if key != "equal_cost" else t("setting_equal_cost")
                rows.append((t(text, who=system), *map(percent, values)))
    rows.append(("n", *(f"{metrics['n']:,}" for _, metrics in (one, other))))
    return html("table.html", t, heads=[t("t_value"), one[0], other[0]], rows=rows)
