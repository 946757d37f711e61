"""The terminal's view: a bar while a run trains, tables when it is done, readings of sentences."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from monju import evaluate
from monju.training import Stage


def show(events):
    """Draw a training's events on standard error until it ends."""
    bar = None
    try:
        for event in events:
            if isinstance(event, Stage):
                tqdm.write(event.text, file=sys.stderr)
                continue
            if bar is None:
                bar = tqdm(total=100, file=sys.stderr, bar_format="{percentage:3.0f}%|{bar:20}| {desc}", dynamic_ncols=True)
            step, held_out = event.step, "" if event.held_out is None else f", held out {event.held_out:.1%}"
            bar.set_description_str(f"{event.model} {step.step}/{step.steps}, loss {step.loss:.3f}{held_out}, "
                                    f"{event.sentences_per_s:.0f} sentences/s, {clock(event.left)} left for the run")
            bar.update(100 * event.done - bar.n)
    finally:
        events.close()  # where Ctrl-C came between two events, the training is told here
        if bar is not None:
            bar.close()


def print_metrics(metrics):
    """The poster's table and what stands behind it, on standard output."""
    wide_enough = Console(width=None if sys.stdout.isatty() else 80)
    wide_enough.print(evaluate.render(metrics))


def print_bench(found):
    """A bench's report: a row a contender, and how many times faster ours is."""
    rows = {"ours": found["ours"], **found["peers"]}
    columns = [name for name in found["ours"] if name in next(iter(found["peers"].values()))]
    ratios = [name for name in ("ratio", "ratio_batch", "ratio_tokens") if name in found]
    table = Table(title=f"{found['source']}, {found['machine']['device']}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("", *columns, *ratios):
        table.add_column(column.replace("_", " "), justify="right" if column else "left")
    for name, row in rows.items():
        if "left_out" in row:
            table.add_row(name, Text(row["left_out"]))
            continue
        cells = [f"{row[column]:,.4g}" if isinstance(row[column], (int, float)) else str(row[column]) for column in columns]
        table.add_row(name, *cells, *(f"{found[ratio][name]:.2f}×" if name in found[ratio] else "" for ratio in ratios))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def tell(readings):
    """Each sentence with α, every expert's view and both verdicts."""
    console = Console(width=None if sys.stdout.isatty() else 80)
    for reading in readings:
        table = Table(title=Text(reading.text), title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("", "α", "logits", "says"):
            table.add_column(column)
        for expert, alpha in reading.alpha.items():
            table.add_row(expert, f"{alpha:.3f}", numbers(reading.logits[expert]), "")
        for name, verdict in (("Monju", reading.monju), ("baseline", reading.baseline)):
            if verdict is not None:
                says = Text(f"{verdict.name} {verdict.probabilities.max():.1%}")  # Text: brackets are no markup
                table.add_row(name, "", numbers(verdict.logits), says, style="bold")
        console.print(table)
        console.print("distances: " + ", ".join(f"d_{cluster} {d:.3f}" for cluster, d in reading.distances.items()) + "\n")


def numbers(values):
    return " ".join(f"{value:+.2f}" for value in values)


def clock(seconds):
    """Seconds as 1:02:03 or 02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
