"""The terminal's view: a bar while a run trains, tables when it is done, readings of sentences."""

import sys
import threading
from collections.abc import Iterator, Sequence

import numpy as np
from rich import box
from rich import progress as bars
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from monju.ensemble.outputs import Reading
from monju.evaluation.run_table import COSTS, TITLES, ensembles, table_rows, trained_on
from monju.training.progress import Phase, Progress, Stage
from monju.utils.format import clock, interval, percent

MOST_CLASSES = 20  # listed of a source
MOST_LOGITS, FEW_LABELS = 6, 3  # of more labels, Monju's likeliest alone


def show(events: Iterator[Stage | Progress]) -> None:
    """Draw a training's events on standard error: a bar, or in a file or pipe, a line a percent."""
    console, timer, last_percent = Console(stderr=True, highlight=False, markup=False, emoji=False), None, -1
    bar = bars.Progress(bars.TextColumn("{task.percentage:3.0f}%"), bars.BarColumn(20),
                        bars.TextColumn("{task.description}", markup=False), console=console,
                        disable=not console.is_terminal)
    task = bar.add_task("", total=1.0, visible=False)

    def update_bar(description, **more):
        bar.update(task, description=description, visible=True, **more)
        if bar.disable:
            console.print(f"{bar.tasks[0].percentage:3.0f}% {description}", soft_wrap=True)

    try:
        with bar:
            for event in events:
                if timer is not None:
                    timer.cancel()
                if isinstance(event, Stage):
                    console.print(event.text, soft_wrap=True)
                if not isinstance(event, (Phase, Progress)):
                    continue
                if not bar.disable or int(100 * event.done) > last_percent:
                    update_bar(described(event), completed=event.done)
                    last_percent = int(100 * event.done)
                if isinstance(event, Progress):
                    timer = threading.Timer(event.patience, update_bar, [
                        f"no step for {event.patience:.0f} s: probably waiting for a free processor"])
                    timer.daemon = True
                    timer.start()
            if last_percent >= 0:
                update_bar("done", completed=1.0)
    finally:
        events.close()  # where Ctrl-C came between two events, the training is told here
        if timer is not None:
            timer.cancel()


def described(event: Phase | Progress) -> str:
    """Return a model's last step, or the phase after training, with the time left."""
    time_left = "" if event.left is None else f", about {clock(event.left)} left for the run"
    if isinstance(event, Phase):
        return event.name + time_left
    step, accuracy = event.step, event.step.held_out_accuracy
    held_out = "" if accuracy is None else f", held out {accuracy:.1%}"
    return (f"{event.model} {step.step}/{step.steps}, loss {step.loss:.3f}{held_out}, "
            f"{event.sentences_per_s:.0f} sentences/s{time_left}")


def print_metrics(metrics: dict) -> None:
    """Print the poster's table and the details behind it on standard output."""
    console = Console(width=None if sys.stdout.isatty() else 80)
    console.print(tables(metrics))


def print_data(summary: dict) -> None:
    """Print what was read of a source: the sizes of its parts, its classes, then all notes."""
    tuning = f", {summary['tuning']:,} in the tuning split" if summary["tuning"] else ""
    print(f"{summary['train']:,} training sentences, {summary['validation']:,} held out{tuning}.")
    total, width = sum(summary["classes"].values()), max(map(len, summary["classes"]))
    for name, n in list(summary["classes"].items())[:MOST_CLASSES]:
        print(f"  {name:{width}} {n:>9,} {n / total:>7.1%}")
    if (more := len(summary["classes"]) - MOST_CLASSES) > 0:
        print(f"  and {more:,} other classes (--json lists all)")
    print(*(note["text"] for note in summary["notes"] if not note["code"].endswith("classes")), sep="\n")


def print_bench(report: dict) -> None:
    """Print a bench's report: a row a contender, and how many times faster ours is."""
    rows = {"ours": report["ours"]} | report["peers"]
    measured = [peer for peer in report["peers"].values() if "left_out" not in peer]
    columns = [name for name in report["ours"] if all(name in peer for peer in measured)]
    ratios = [name for name in ("ratio", "ratio_batch", "ratio_bf16", "ratio_batch_bf16", "ratio_tokens",
                                "ratio_steady") if name in report]
    table = Table(title=f"{report['source']}, {report['machine']['device']}", title_justify="left", box=None,
                  padding=(0, 2, 0, 0))
    for column in ("", *columns, *ratios):
        table.add_column(column.replace("_", " "), justify="right" if column else "left")
    for name, row in rows.items():
        if "left_out" in row:
            table.add_row(name, Text(row["left_out"]))
            continue
        cells = [f"{row[column]:,.4g}" if isinstance(row[column], (int, float)) else str(row[column])
                 for column in columns]
        table.add_row(name, *cells,
                      *(f"{report[ratio][name]:.2f}×" if name in report[ratio] else "" for ratio in ratios))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def tell(readings: list[Reading]) -> None:
    """Print each sentence with α, every expert's logits and both verdicts."""
    console = Console(width=None if sys.stdout.isatty() else 80)
    for reading in readings:
        best = np.argsort(-reading.monju.logits)[:FEW_LABELS]
        shown = slice(None) if len(reading.monju.logits) <= MOST_LOGITS else best
        console.print(Text(reading.text, style="italic"))
        for note in reading.notes:
            console.print(Text(note.text()), soft_wrap=True)
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("", "α", "logits", "says"):
            table.add_column(column)
        for expert, alpha in reading.alpha.items():
            table.add_row(expert, f"{alpha:.3f}", numbers(reading.logits[expert][shown]), "")
        for name, verdict in (("Monju", reading.monju), ("baseline", reading.baseline)):
            if verdict is not None:
                # Text: brackets are no markup
                label = Text(f"{verdict.name} {verdict.probabilities.max():.1%}")
                table.add_row(name, "", numbers(verdict.logits[shown]), label, style="bold")
        console.print(table)
        if shown is best:
            console.print(Text(f"logits of Monju's {FEW_LABELS} likeliest of {len(reading.monju.logits)} "
                               "labels, the likeliest first (--json has all)"))
        console.print("distances: "
                      + ", ".join(f"d_{cluster} {d:.3f}" for cluster, d in reading.distances.items()) + "\n")


def numbers(values: np.ndarray) -> str:
    """Return logits as text."""
    return " ".join(f"{value:+.2f}" for value in values)


def print_comparison(comparison: dict) -> None:
    """Print the rows of `compare`, the most accurate first, then what was left out and why."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table(title=f"{comparison['n']:,} sentences, against {comparison['against']}",
                  box=box.SIMPLE_HEAD, title_justify="left", title_style="bold",
                  show_edge=False, pad_edge=False)
    for header, side in (("", "left"), ("kind", "left"), ("Acc. % [95 % CI]", "right"),
                         ("difference", "right"),
                         ("p", "right"), ("p, Holm", "right"), ("NLL", "right"), ("ECE", "right"),
                         ("passes", "right")):
        table.add_column(header, justify=side, no_wrap=True)
    for row in sorted(comparison["rows"], key=lambda row: -row["accuracy"]):
        tested = [percent(row["difference"], sign="+"), f"{row['p_value']:.2g}",
                  f"{row['p_holm']:.2g}" if "p_holm" in row else ""]
        if not row["changed"] and row["name"] != comparison["against"]:
            tested = ["same answers", "", ""]
        table.add_row(*map(Text, (row["name"], row["kind"], with_interval(row), *tested, f"{row['nll']:.4f}",
                                  f"{row['ece']:.4f}",
                                  f"{row['forward_passes']:.3g}")))
    console.print(table)
    for row in comparison["rows"]:
        if row["gate"]:
            console.print(Text(f"{row['name']}: {row['gate']}"))
    if early := comparison["early_exit"]:
        times = early["milliseconds"]
        console.print(Text(f"early exit: stops at a margin of {early['threshold']:.2f}"
                           + (f"; one sentence takes {times['early_exit']:.1f} ms, all experts at once "
                              f"{times['ensemble']:.1f} ms" if times else "") + "."))
    for row in comparison["left_out"]:
        console.print(Text(f"{row['name']} is left out: {row['reason']}."))


def print_sweep(sweep: dict) -> None:
    """Print Monju and the baseline of every combination of a sweep: mean ± sd over the seeds."""
    rows = []
    for row in sweep["rows"]:
        if row["name"] in ("monju", "uniform", "baseline", "equal cost"):
            settings = ", ".join(f"{name}={value}" for name, value in row["settings"].items())
            rows.append((settings, row["name"], spread(row["accuracy"]), spread(row["difference"], "+"),
                         " ".join(f"{p:.2g}" for p in row["p_value"])))
    seeds = len(sweep["seeds"])
    against = "the baseline" if any(row["name"] == "baseline" for row in sweep["rows"]) else "equal weights"
    Console(width=None if sys.stdout.isatty() else 110).print(grid(
        f"{seeds} seed{'s' if seeds > 1 else ''}, {sweep['rows'][0]['n']:,} sentences; "
        f"the difference is to {against} of the same seed",
        ("", "", "Acc. %", "difference", "p of each seed"), rows))


def spread(statistic: dict, sign: str = "") -> str:
    """Return a mean in percent with its standard deviation, where there is one."""
    deviation = "" if statistic["sd"] is None else f" ± {percent(statistic['sd'])}"
    return percent(statistic["mean"], sign=sign) + deviation


# the tables of a run


def tables(metrics: dict) -> Group:
    """Return what `run_table.table` holds: the poster's table, then the details. Fits 80 columns."""
    costs = [cost_table(metrics), ""] if "cost" in metrics else []
    commonest = []
    if "majority" in metrics:
        commonest = [f"Always the commonest label: {percent(metrics['majority']['accuracy'])} %.\n"]
    parts = [accuracy_table(metrics), "", *commonest, *verdicts(metrics), quality_table(metrics), ""]
    parts += [*cluster_tables(metrics), *costs, gate_line(metrics), *gate_meter_lines(metrics),
              *out_of_scope_lines(metrics)]
    parts += ["", rounds_table(metrics)] if "rounds" in metrics else []
    # Text: brackets are no markup
    return Group(*(Text(part) if isinstance(part, str) else part for part in parts))


def accuracy_table(metrics: dict) -> Table:
    """Return the accuracy of each ensemble and its members, with intervals."""
    rows = [(f" {row.title}", with_interval(row.numbers), "", "") if row.model else
            (row.title, f"{percent(row.numbers['mean_member'])} mean", with_interval(row.numbers),
             gained(row.numbers))
            for row in table_rows(metrics)]
    headers = ("Training data", "Acc. %\n[95 % CI]", "Ensemble %\n[95 % CI]",
               "Gain over mean\nmember, points")
    return grid(f"Accuracy on {metrics['n']:,} sentences", headers, rows)


def verdicts(metrics: dict) -> list[str]:
    """Return what Monju changes against each other ensemble, in words."""
    return [verdict(TITLES[key].lower(), pair, metrics["n"])
            for key in TITLES if (pair := metrics.get(f"monju_vs_{key}"))]


def verdict(other: str, pair: dict, n: int) -> str:
    """Return the outcome of one comparison, in words."""
    if not pair["changed"]:
        return f"Monju and {other} answered no sentence differently.\n"
    if not pair["rescued"] + pair["broken"]:
        return (f"Monju and {other} answered {pair['changed']:,} of {n:,} sentences differently, "
                "both wrongly.\n")
    return (f"Monju − {other}: {percent(pair['difference'], sign='+')} points{bounds(pair['interval'])}; "
            f"one sentence is {100 / n:.2f} points.\n{pair['changed']:,} of {n:,} labels changed: "
            f"{pair['rescued']:,} rescued, {pair['broken']:,} broken; "
            f"exact McNemar p = {pair['p_value']:.3g}.\n")


def quality_table(metrics: dict) -> Table:
    """Return macro-F1, NLL, Brier score and ECE of each ensemble."""
    names = ("macro_f1", "nll", "brier", "ece")
    rows = [(TITLES[key], *(f"{numbers[name]:.4f}" for name in names))
            for key, numbers, _ in ensembles(metrics)]
    return grid("Beyond accuracy", ("", "Macro-F1 ↑", "NLL ↓", "Brier ↓", "ECE ↓"), rows)


def cluster_tables(metrics: dict) -> list[Table | str]:
    """Return the accuracy of expert × cluster, at most six clusters side by side."""
    models = {f" {trained_on(name, model)}": model["clusters"] for name, model in metrics["experts"].items()}
    models |= {TITLES[key]: fused["clusters"] for key, fused, _ in ensembles(metrics)}
    clusters, grids = list(metrics["monju"]["clusters"].items()), []
    for start in range(0, len(clusters), 6):
        columns = dict(clusters[start : start + 6])
        rows = [(title, *(starred(cells[name]) for name in columns)) for title, cells in models.items()]
        rows.append(("sentences", *(f"{cell['n']:,}" for cell in columns.values())))
        grids.append(grid("Accuracy % by nearest cluster", ("", *columns), rows))
    return [*grids, "* out of fold: the expert was not trained on this cluster\n"]


def cost_table(metrics: dict) -> Table:
    """Return what training took, where it was counted: each ensemble's total, then each member."""
    rows = [(f" {row.title}", *amounts(row.cost), "") if row.model else
            (row.title, *amounts(row.cost), "" if row.share is None else f"{percent(row.share)} %")
            for row in table_rows(metrics) if row.cost]
    return grid("Cost of training", ("", *COSTS, "of baseline's\ntokens"), rows)


def rounds_table(metrics: dict) -> Table:
    """Return every expert, the ensemble and the experts' average after each round of branch, train, merge."""
    rounds = metrics["rounds"]
    models = {name: [entry["experts"][name] for entry in rounds] for name in metrics["experts"]}
    models |= {TITLES["monju"]: [entry["monju"] for entry in rounds],
               "Their average": [entry["merged"] for entry in rounds]}
    rows = [(name, *(percent(model["accuracy"]) for model in line)) for name, line in models.items()]
    rows.append(("1,000 tokens so far", *(f"{entry['tokens'] / 1000:,.0f}" for entry in rounds)))
    return grid("Accuracy % after each round; from the second on, no cluster is out of fold",
                ("", *(str(entry["round"]) for entry in rounds)), rows)


def gate_line(metrics: dict) -> str:
    """Return one sentence on the gate's mean weights and how many labels it changed."""
    alpha, gate = metrics["alpha"], metrics["monju"].get("gate")
    weights = " / ".join(f"{weight:.2f}" for weight in alpha["sorted_mean"])
    return (
        f"Gate{f' {gate}' if gate else ''}: mean sorted α {weights} "
        f"(equal weights: {1 / len(alpha['mean']):.2f}); against the equal-weight average it changed "
        f"{alpha['fused_differs_from_uniform']:,} of {metrics['n']:,} labels."
    )


def gate_meter_lines(metrics: dict) -> list[str]:
    """Return one sentence on how much a gate can do here at all; none for an earlier run's table."""
    meter = metrics.get("gate_meter")
    if not meter or meter["gap"]["difference"] is None:
        return []
    gap = meter["gap"]
    return [f"Gate meter: experts are right on {percent(gap['seen'])} % of the sentences whose nearest "
            f"cluster they have seen and on {percent(gap['unseen'])} % of the others (gap "
            f"{percent(gap['difference'], sign='+')} points); weights as unequal as these could turn at most "
            f"{percent(meter['could_flip'])} % of the verdicts, and turned {percent(meter['did_flip'])} %."]


def out_of_scope_lines(metrics: dict) -> list[str]:
    """Return one sentence on texts of no class, where the source has such."""
    if not (found := metrics.get("out_of_scope")):
        return []
    areas = ", ".join(f"{name} {area:.3f}" for name, area in found["auroc"].items())
    return [f"Out of scope: {found['n']:,} texts that belong to no class; area under the ROC curve by "
            f"{areas} (0.5 is chance). {percent(found['below'])} % of them have a verdict less sure than "
            "95 % of the held-out sentences'."]


def grid(title: str, headers: Sequence[str], rows: list[tuple]) -> Table:
    """Return a table: names may fold, numbers never, the ensembles' rows in bold."""
    style = {"title_justify": "left", "title_style": "bold", "box": box.SIMPLE_HEAD, "show_edge": False}
    grid = Table(title=title, padding=(0, 1, 0, 0), pad_edge=False, **style)
    grid.add_column(headers[0], overflow="fold")
    for header in headers[1:]:
        grid.add_column(Text(header), justify="right", no_wrap=True)
    for row in rows:
        grid.add_row(*map(Text, row), style="bold" if row[0] in TITLES.values() else None)
    return grid


def amounts(cost: dict) -> list[str]:
    """Return the training cost as text, one cell for each of COSTS."""
    return [f"{cost[what]:,.{1 if what == 'seconds' else 0}f}" for what in COSTS]


def starred(cell: dict) -> str:
    """Return a cell's accuracy, with a star where the cluster is out of fold."""
    return ("" if cell["seen"] else "*") + percent(cell["accuracy"])


def bounds(values: list[float], digits: int = 2, sign: str = "+") -> str:
    """Return an interval as text to follow its number."""
    return f" {text}" if (text := interval(values, digits, sign)) else ""


def with_interval(model: dict) -> str:
    """Return the accuracy with its interval."""
    return percent(model["accuracy"]) + bounds(model["interval"], 1, "")


def gained(ensemble: dict) -> str:
    """Return the gain over the mean member with its interval."""
    return percent(ensemble["gain"], sign="+") + bounds(ensemble["gain_interval"])
