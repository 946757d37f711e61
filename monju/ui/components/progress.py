"""A job's snapshot, a plan, the list of runs → HTML. Small pure functions; what comes from people or data is escaped.

The curves are drawn here as SVG, not by a chart component: replaced every second, they do not flicker, and take
their colours from the style sheet, light or dark. Knows nothing of gradio.
"""

import time
from html import escape

from monju.data.notes import Note, error_of
from monju.data.sources import stratified
from monju.ensemble.subsets import model_key

DASHES = {"experts": "", "baseline": "7 4", "equal-cost": "2 3"}
COLOURS = 7
SHOWN, MOST_COLUMNS = 3, 8  # rows and columns of a source that is looked at
WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 600, 240, 44, 28, 66, 12


def page(inside, say):
    return f'<div class="monju" lang="{say.language}">{inside}</div>'


def trouble(error, say):
    return page(f'<p class="told" role="alert">{say("t_error", error=say.error(error))}</p>', say)


# ---- the job


def job(snapshot, say):
    """A job, whole: what it does, its bars, its curves, the end of its log."""
    status = say(f"t_status_{snapshot['status']}", run=snapshot["name"],
                 reason=say.error(error_of(snapshot.get("reason", ""), snapshot.get("reason_note"))))
    head = f'<h3 role="status" data-status="{snapshot["status"]}">{status}</h3>'
    if snapshot["status"] == "none":
        return page(head, say)
    models = standing(snapshot)
    parts = [head, bars(snapshot, models, say)]
    if snapshot["history"]:
        parts.append('<div class="curves">' + curves(models, "loss", say("t_loss"), 1, say)
                     + curves(models, "held_out_accuracy", say("t_held_out"), 100, say) + "</div>")
    parts.append(noted(map(Note.of, snapshot["notes"]), say))
    lines = "\n".join(snapshot["log"])
    parts.append(f'<details open><summary>{say("t_log")}</summary><pre class="log">{escape(lines)}</pre></details>')
    return page("".join(parts), say)


def standing(snapshot):
    """name → {kind, colour, lines, last}, every model of the run in its order, also those that wait."""
    lines = {}
    for line in snapshot["history"]:
        lines.setdefault(line["model"], []).append(line)
    names = [(kind, number, model_key(kind, name)) for kind in snapshot["models"]
             for number, name in enumerate(snapshot["models"].get(kind, []))]
    return {name: {"kind": kind, "colour": number % COLOURS, "lines": lines.get(name, []),
                   "last": (lines.get(name) or [None])[-1]} for kind, number, name in names}


def bars(snapshot, models, say):
    """One bar for the run, one for each model."""
    now, rows = snapshot["now"], []
    if models:
        done = 1.0 if snapshot["status"] == "finished" else now.get("done") or _mean(map(_done, models.values()))
        facts = [say(f"t_phase_{now['phase']}")] if now.get("phase") in ("evaluation", "map") else []
        if now.get("waits"):
            facts.append(say("t_waits", time=clock(now["waits"])))
        elif now.get("left"):
            facts.append(say("t_left", time=clock(now["left"])))
        if "memory" in now:
            facts.append(f"{size(now['memory'])} {say('t_' + now['of'])}")
        rows.append(_bar(say("t_whole"), done, " · ".join(facts), "whole"))
    for name, model in models.items():
        last, facts = model["last"], "–"
        if last:
            checked = [line["held_out_accuracy"] for line in model["lines"] if line["held_out_accuracy"] is not None]
            facts = (f"{last['step']:,}/{last['steps']:,} · {say('t_loss')} {last['loss']:.3f}"
                     + (f" · {100 * checked[-1]:.1f} %" if checked else "")
                     + f" · {say('t_speed', n=round(last['sentences'] / last['seconds']))}")
        rows.append(_bar(escape(name), _done(model), facts, f"label-{model['colour']}"))
    return f'<div class="bars">{"".join(rows)}</div>'


def _bar(name, done, facts, kind):
    percent = int(100 * min(1, done) + 1e-9)  # never 100 before the end
    return (f'<div class="model {kind}"><b>{name}</b><span class="track" role="progressbar" aria-label="{name}" '
            f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}"><span class="fill" style="width:{percent}%"></span>'
            f"</span><span>{percent} %</span><small>{facts}</small></div>")


def _done(model):
    return model["last"]["step"] / model["last"]["steps"] if model["last"] else 0.0


def _mean(values):
    values = list(values)
    return sum(values) / len(values)


# ---- curves


def curves(models, what, title, times, say):
    """One line a model: colour, dashes by kind, and its name at the line's end."""
    points = {name: [(line["step"], times * line[what]) for line in model["lines"] if line[what] is not None]
              for name, model in models.items()}
    points = {name: line for name, line in points.items() if line}
    if not points:
        return ""
    last = max(line[-1][0] for line in points.values())
    steps = max(max(model["last"]["steps"] for model in models.values() if model["last"]), last)
    low, high = (f(value for line in points.values() for _, value in line) for f in (min, max))
    margin = (high - low) * 0.05 or 0.05 * times
    low, high = low - margin, high + margin

    def x(step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / steps

    def y(value):
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    grid = "".join(f'<path class="grid" d="M{LEFT} {y(at):.1f}H{WIDTH - RIGHT}"/>'
                   f'<text x="{LEFT - 6}" y="{y(at) + 4:.1f}" text-anchor="end">{at:.{2 if times == 1 else 0}f}</text>'
                   for at in (low + (high - low) * share for share in (0.05, 0.35, 0.65, 0.95)))
    lines, ends = "", []
    for name, line in points.items():
        model = models[name]
        path = "M" + "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in line)
        dots = "".join(f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="3"/>' for step, value in line) if len(line) < 15 else ""
        lines += (f'<g class="label-{model["colour"]}" data-model="{escape(name)}" data-points="{len(line)}">'
                  f'<title>{escape(name)}: {line[-1][1]:.3g}</title>'
                  f'<path class="line" stroke-dasharray="{DASHES.get(model["kind"], "5 2 1 2")}" d="{path}"/>{dots}</g>')
        ends.append((y(line[-1][1]), x(line[-1][0]), name, model["colour"]))
    return (f'<figure><figcaption>{title}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{grid}'
            f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{say("t_step")} {steps:,}</text>{lines}{_names(ends)}</svg></figure>')


def _names(ends):
    """The models' names right of their lines, apart from each other; none where they are too many."""
    if len(ends) > 12:
        return ""
    found, before = "", 0.0
    for y, x, name, colour in sorted(ends):
        before = max(y, before + 14)
        found += f'<text class="end label-{colour}" x="{x + 7:.1f}" y="{before + 4:.1f}">{escape(name.split("/")[-1])}</text>'
    return found


# ---- the plan


def plan(found, say):
    """What would be trained on what, and what it would take as far as that is known."""
    clusters = ", ".join(f"{name} {count:,}" for name, count in found["clusters"].items())
    parts = [say("t_counts", train=f"{found['train']:,}", validation=f"{found['validation']:,}", models=len(found["models"])),
             say("t_clusters", clusters=clusters)]
    if found["sampled"]:
        parts.append(say("t_sampled", n=f"{found['sampled']:,}"))
    rows = [(escape(model["name"]), f"{model['sentences']:,}", f"{model['steps']:,}") for model in found["models"]]
    told = say("t_planning")
    if "seconds" in found:
        told = say("t_estimate", time=clock(found["seconds"]), memory=size(found["memory"]), of=say(f"t_{found['of']}"),
                   steps=found["steps"], device=found["device"], places=found["places"])
    return page(f'<div class="card"><p>{" ".join(parts)}</p>'
                + table([say("t_model"), say("t_sentences"), say("t_steps")], rows) + noted(map(Note.of, found["notes"]), say)
                + f'<p class="told" role="status">{told}</p></div>', say)


def planning(say):
    return page(f'<p class="note" role="status"><span class="spinner"></span>{say("t_planning")}</p>', say)


def preview(data, columns, say):
    """What stands in a source: its first sentences, columns, how many of each label, and what was found and dropped."""
    counts = [int((data.train.labels == number).sum()) for number in range(len(data.labels))]
    labels = ", ".join(f"{name} {count:,}" for name, count in zip(data.label_names, counts))
    rows = [(escape(data.train.texts[row][:160]), escape(data.label_names[data.train.labels[row]]))
            for row in stratified(data.train.labels, SHOWN, seed=0)]
    return page(f'<div class="card"><p>{say("t_rows", n=f"{len(data.train.texts):,}", columns=", ".join(columns), labels=labels)}</p>'
                + table([say("column_sentence"), say("t_label")], rows) + noted(data.notes, say) + "</div>", say)


def noted(notes, say):
    """Notes as a list."""
    return f'<ul class="faint">{"".join(f"<li>{say.note(note)}</li>" for note in notes if note)}</ul>'


def first_rows(columns, say):
    """The first rows of {column: values} as they stand in the file."""
    names = list(columns)[:MOST_COLUMNS]
    rows = [[escape(str("" if value is None else value)[:160]) for value in row]
            for row in zip(*(columns[name][:SHOWN] for name in names))]
    return page(f'<div class="card">{table([escape(name) for name in names], rows)}</div>', say)


# ---- the runs


def listed(found, say):
    """The table of runs."""
    if not found:
        return page(f'<p>{say("t_no_runs")}</p>', say)
    heads = [say(f"t_col_{name}") for name in ("name", "date", "data", "backbone", "monju", "baseline", "size", "status")]
    rows = [(escape(run["name"]), time.strftime("%Y-%m-%d %H:%M", time.localtime(run["date"])) if run["date"] else "–",
             escape(run["data"] or "–"), escape(run["backbone"] or "–"), _percent(run["monju"]), _percent(run["baseline"]),
             size(run["bytes"]) if run["bytes"] is not None else "–", say(f"t_is_{run['status']}")) for run in found]
    return page(table(heads, rows), say)


def compared(one, other, say):
    """Two runs' figures side by side: each is (name, metrics)."""
    rows = []
    for key in ("monju", "baseline", "equal_cost"):
        for what, text, times in (("accuracy", "t_accuracy_of", 100), ("gain", "t_gain_of", 100)):
            values = [metrics.get(key, {}).get(what) for _, metrics in (one, other)]
            if any(value is not None for value in values):
                who = say(key) if key != "equal_cost" else say("setting_equal_cost")
                rows.append((say(text, who=who), *("–" if value is None else f"{times * value:.2f}" for value in values)))
    rows.append(("n", *(f"{metrics['n']:,}" for _, metrics in (one, other))))
    return page(table([say("t_value"), escape(one[0]), escape(other[0])], rows), say)


def table(heads, rows):
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join(f'<tr><th scope="row" dir="auto">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows)
    return f'<div class="rows"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


# ---- numbers


def _percent(fraction):
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def size(count):
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.1f} {unit}" if unit == "GB" else f"{count:.0f} {unit}"
        count /= 1000


def clock(seconds):
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
