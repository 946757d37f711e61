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


def print_comparison(found):
    """The rows of `compare`, the most accurate first, then what was left out and why."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table(title=f"{found['n']:,} sentences, against {found['against']}", box=box.SIMPLE_HEAD, title_justify="left",
                  title_style="bold", show_edge=False, pad_edge=False)
    for header, side in (("", "left"), ("kind", "left"), ("Acc. % [95 % CI]", "right"), ("difference", "right"),
                         ("p", "right"), ("p, Holm", "right"), ("NLL", "right"), ("ECE", "right"), ("passes", "right")):
        table.add_column(header, justify=side, no_wrap=True)
    for row in sorted(found["rows"], key=lambda row: -row["accuracy"]):
        low, high = row["interval"]
        table.add_row(*map(Text, (row["name"], row["kind"], f"{100 * row['accuracy']:.2f} [{100 * low:.1f}, {100 * high:.1f}]",
                                  f"{100 * row['difference']:+.2f}", f"{row['p_value']:.2g}",
                                  f"{row['p_holm']:.2g}" if "p_holm" in row else "", f"{row['nll']:.4f}", f"{row['ece']:.4f}",
                                  str(row["forward_passes"]))))
    console.print(table)
    for row in found["left_out"]:
        console.print(Text(f"{row['name']} is left out: it {row['reason']}."))
