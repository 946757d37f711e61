"""A job's snapshot, a plan, the list of runs → HTML.

The curves are SVG (templates/job.html), not a chart component's: what changes is taken over part by part, and
their colours are the style sheet's, light or dark. Knows nothing of gradio.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from monju.data.notes import Note, error_of
from monju.data.rows import MOST_LISTED
from monju.data.splits import stratified
from monju.ensemble.subsets import model_key
from monju.errors import MonjuError
from monju.training.job_queue import MOST as MOST_WAITING
from monju.ui.components import live
from monju.ui.components.curves import curve
from monju.ui.components.markup import html, note
from monju.ui.i18n.translator import TEXTS, Translator
from monju.utils.format import clock, percent, size

if TYPE_CHECKING:
    from monju.config import Config
    from monju.data.sources import Data

BASELINES = ("baseline", "equal-cost")
SHOWN, MOST_COLUMNS, CUT = 3, 8, 160  # rows and columns of a source that is looked at, characters of a cell
WIDE_GAP = 0.05  # of accuracy on an unseen cluster: below, a gate gains next to nothing (docs/study.md)


def trouble(error: MonjuError, t: Translator) -> Markup:
    """Draw why something was not done."""
    return note(t("t_error", error=t.error(error)), t, "told", "alert")


# ---- the job


def job(snapshot: dict, t: Translator, watched: tuple[list[str], dict, list[dict]] = ([], {}, [])) -> Markup:
    """Draw a job: what it does, how far it is, its curves, what is watched of it, the end of its log.

    `watched` is `JobManager.watched`'s: the pinned sentences, the map, the checks.
    """
    reason = t.error(error_of(snapshot.get("reason", ""), snapshot.get("reason_note")))
    status = {"code": snapshot["status"], "name": snapshot["name"],
              "status": t(f"t_status_{snapshot['status']}", run=snapshot["name"], reason=reason)}
    if snapshot["status"] == "none":
        return html("job.html", t, **status, bars=None)
    models, (pinned, found, checks) = standing(snapshot), watched
    runs = snapshot["status"] in ("training", "stopping")
    curves = [curve(models, "loss", t("t_loss"), 1, 2),
              curve(models, "held_out_accuracy", t("t_held_out"), 100, 0)]
    begun = bool(found) or any(chart["lines"] for chart in curves)
    whole, *each = bars(snapshot, models, t)
    return html("job.html", t, **status, whole=whole, bars=each, runs=runs,
                begins=runs and not any(model["lines"] for model in models.values()),
                phases=phases(snapshot, models, t), machine=machine(snapshot, models, t),
                notes=list(filter(None, map(Note.of, snapshot["notes"]))),
                curves=curves if begun else [], map=live.forming(found, checks, t),
                pins=live.pins(pinned, found, checks, t), log="\n".join(snapshot["log"]))


def standing(snapshot: dict) -> dict[str, dict]:
    """Return {name: {kind, number, clusters, lines, last}} of every model in the run's order.

    Also of those that wait. `clusters` are the numbers of those that an expert learns.
    """
    lines: dict[str, list[dict]] = {}
    for line in snapshot["history"]:
        lines.setdefault(line["model"], []).append(line)
    names = [(kind, number, name) for kind, names in snapshot["models"].items()
             for number, name in enumerate(names)]
    return {(key := model_key(kind, name)): {
                "kind": kind, "number": number, "lines": lines.get(key, []),
                "clusters": [] if kind in BASELINES else [ord(letter) - ord("A") for letter in name],
                "last": (lines.get(key) or [None])[-1]}
            for kind, number, name in names}


def bars(snapshot: dict, models: dict[str, dict], t: Translator) -> list[tuple[str, int, str]]:
    """Return one bar for the run, then one for each model: name, percent and facts."""
    now = snapshot["now"]
    done = {name: model["last"]["step"] / model["last"]["steps"] if model["last"] else 0.0
            for name, model in models.items()}
    whole = 1.0 if snapshot["status"] == "finished" else now.get("done") or (
        sum(done.values()) / len(done) if done else 0.0)
    told = ""
    if now.get("waits"):
        told = t("t_waits", time=clock(now["waits"]))
    elif now.get("left"):
        told = t("t_left", time=clock(now["left"]))
    results = [(t("t_whole"), full(whole), told)]
    for name, model in models.items():
        last, facts = model["last"], "–"
        if last:
            checked = [line["held_out_accuracy"]
                       for line in model["lines"] if line["held_out_accuracy"] is not None]
            facts = Markup(" · ").join([f"{last['step']:,}/{last['steps']:,}",
                                        f"{t('t_loss')} {last['loss']:.3f}",
                                *(f"{percent(share, 1)} %" for share in checked[-1:]),
                                t("t_speed", n=round(last["sentences"] / last["seconds"])),
                                *filter(None, [last.get("place")])])
        results.append((name, full(done[name]), facts))
    return results


def phases(snapshot: dict, models: dict[str, dict], t: Translator) -> list[tuple[str, str]]:
    """Return the training's phases as (name, whether it is "done", "now" or "next")."""
    phase = snapshot["now"].get("phase")
    ended = sum(bool(model["last"]) and model["last"]["step"] == model["last"]["steps"]
                for model in models.values())
    at = {"evaluation": 2, "map": 3}.get(phase, 1 if models else 0)
    at = 4 if snapshot["status"] == "finished" else at
    names = [t("t_phase_clusters"), t("t_phase_models", done=ended, n=len(models)) if models
             else t("t_phase_training"), t("t_phase_evaluation"), t("t_phase_map")]
    return [(name, "done" if i < at else "now" if i == at else "next") for i, name in enumerate(names)]


def machine(snapshot: dict, models: dict[str, dict], t: Translator) -> Markup:
    """Say on what a run is trained, and while it is, how fast and in how much memory."""
    found, now = snapshot.get("machine", {}), snapshot["now"]
    facts = []
    if device := found.get("device"):
        facts.append(t("t_threads", n=found["threads"]) if "threads" in found else escape(device))
    if now.get("phase") == "training":
        learning = [model["last"] for model in models.values()
                    if model["last"] and model["last"]["step"] < model["last"]["steps"]]
        if speed := sum(last["sentences"] / last["seconds"] for last in learning):
            facts.append(t("t_speed", n=f"{speed:,.0f}"))
    if "memory" in now:
        facts.append(Markup(f"{size(now['memory'])} {t('t_' + now['of'])}"))
    return Markup(" · ").join(facts)


def full(share: float) -> int:
    """Return a bar's percent: never 100 before the end."""
    return int(100 * min(1, share) + 1e-9)


# ---- the plan


def plan(estimate: dict, t: Translator) -> Markup:
    """Draw what would be trained, and how long it would take as far as that is known."""
    clusters = ", ".join(f"{name} {count:,}" for name, count in estimate["clusters"].items())
    parts = [t("t_counts", train=f"{estimate['train']:,}", validation=f"{estimate['validation']:,}",
               models=len(estimate["models"])),
             t("t_clusters", clusters=clusters)]
    if estimate["sampled"]:
        parts.append(t("t_sampled", n=f"{estimate['sampled']:,}"))
    gate = estimate["gate"]
    parts.append(t("t_gate", unseen=percent(gate["unseen"], 1), uneven=f"{gate['uneven']:.2f}",
                   most=f"{gate['most']:.2f}"))
    time = status = None
    if "seconds" in estimate:
        time = about(estimate["seconds"], t)
        status = t("t_estimate", time=clock(estimate["seconds"]), memory=size(estimate["memory"]),
                   of=t(f"t_{estimate['of']}"),
                   steps=estimate["steps"], device=estimate["device"], places=estimate["places"])
    rows = [(model["name"], f"{model['sentences']:,}", f"{model['steps']:,}") for model in estimate["models"]]
    return html("plan.html", t, headline=headline(estimate["train"], time, t), busy=time is None,
                text=Markup(" ").join(parts), status=status, rows=rows,
                notes=list(map(Note.of, estimate["notes"])),
                heads=[t("t_model"), t("t_sentences"), t("t_steps")])


def planning(config: Config, seconds: Callable[[int], float] | None, t: Translator) -> Markup:
    """Draw what stands in a plan's place until its first part is there."""
    time = about(seconds(config.sample), t) if seconds and config.sample else None
    return html("plan.html", t, headline=headline(config.sample, time, t), busy=True, text=None)


def unmeasured(config: Config, seconds: Callable[[int], float] | None, t: Translator) -> Markup:
    """Draw what stands in a plan's place while something trains: to measure would slow both, and be wrong."""
    time = about(seconds(config.sample), t) if seconds and config.sample else None
    said = headline(config.sample, time, t) if time else t("t_unmeasured")
    return html("plan.html", t, headline=said, busy=False, text=None)


def headline(sentences: int | None, time: Markup | None, t: Translator) -> Markup:
    """Say in a few words what a size costs: “300 sentences, about a minute on this machine”."""
    count = t("t_all_unknown") if sentences is None else t("t_size_n", n=f"{sentences:,}")
    return t("t_size_measuring", n=count) if time is None else t("t_size_time", n=count, time=time)


def about(seconds: float, t: Translator) -> Markup:
    """Say a time in round numbers.

    >>> [str(about(s, Translator())) for s in (20, 70, 250, 4000, 9000)]
    ['half a minute', 'a minute', '4 minutes', '1 hour', '2.5 hours']
    """
    if seconds < 45:
        return t("about_half")
    minutes = round(seconds / 60)
    if minutes < 2:
        return t("about_minute")
    if minutes < 55:
        return t("about_minutes", n=minutes)
    hours = max(1, round(seconds / 1800) / 2)
    return t("about_hour") if hours == 1 else t("about_hours", n=f"{hours:g}")


# ---- the queue


def queue(waiting: list[dict], past: list[dict], t: Translator) -> Markup | str:
    """Draw the trainings that wait, in order, and how the last ended: `past` are their snapshots."""
    if not waiting and not past:
        return ""
    rows = []
    for entry in waiting:
        reason = t.error(error_of(entry["reason"], entry.get("note"))) if "reason" in entry else None
        rows.append({"name": entry["name"], "reason": reason,
                     "what": t("t_queue_resume") if entry["config"] is None else summary(entry["config"], t)})
    ended = [t(f"t_status_{one['status']}", run=one["name"],
               reason=t.error(error_of(one.get("reason", ""), one.get("reason_note")))) for one in past]
    return html("queue.html", t, waiting=rows, ended=ended, most=MOST_WAITING)


def summary(config: dict, t: Translator) -> Markup:
    """Say in a few words what a training is of: its data, its size, its seed."""
    count = t("t_size_n", n=f"{config['sample']:,}") if config.get("sample") else t("t_all_unknown")
    name = re.split(r"[/\\]", str(config.get("data", "")))[-1]
    return Markup(" · ").join([name, count, f"seed {config.get('seed', 0)}"])


def preview(data: Data, columns: list[str], t: Translator) -> Markup:
    """Draw what stands in a source: its first sentences, its labels, what was found and dropped.

    Of running text, which has no labels, its first documents.
    """
    if not data.label_names:
        return html("source.html", t, text=t("t_documents", n=f"{len(data.train.texts):,}"),
                    heads=[t("t_document")], rows=[(text[:CUT],) for text in data.train.texts[:SHOWN]],
                    notes=data.notes)
    counts = [int((data.train.labels == number).sum()) for number in range(len(data.labels))]
    named = [f"{name} {count:,}" for name, count in zip(data.label_names, counts)]
    labels = ", ".join(named[:MOST_LISTED] + ["…"] * (len(named) > MOST_LISTED))
    rows = [(data.train.texts[row][:CUT], data.label_names[data.train.labels[row]])
            for row in stratified(data.train.labels, SHOWN, seed=0)]
    return html("source.html", t,
                text=t("t_rows", n=f"{len(data.train.texts):,}", columns=", ".join(columns), labels=labels),
                heads=[t("column_sentence"), t("t_label")], rows=rows, notes=data.notes)


def first_rows(columns: dict[str, list], t: Translator) -> Markup:
    """Draw the first rows of {column: values} as they stand in the file."""
    names = list(columns)[:MOST_COLUMNS]
    rows = [["" if value is None else str(value)[:CUT] for value in row]
            for row in zip(*(columns[name][:SHOWN] for name in names))]
    return html("source.html", t, text=None, heads=names, rows=rows, notes=None)


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
