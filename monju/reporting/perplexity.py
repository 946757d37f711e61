"""The terminal's view of a run of language models: its tables, every gate, a text token by token."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from monju.reporting.console import grid
from monju.utils.format import percent

TITLES = {"base": "The decoder untouched", "unigram": "Unigrams", "baseline": "Baseline",
          "equal_cost": "Equal cost", "merged": "Experts' mean weights", "monju": "Monju"}


def print_perplexities(metrics: dict[str, Any]) -> None:
    """Print the table of perplexities and the details behind it."""
    console = Console(width=None if sys.stdout.isatty() else 80)
    cost = {name: entry["tokens"] for name, entry in metrics.get("cost", {}).items()}
    rows = []
    for key in TITLES:
        if key not in metrics:
            continue
        models = metrics["experts"] if key == "monju" else metrics[key].get("models", {})
        rows.append(line(TITLES[key], metrics[key], sum(cost.get(name, 0) for name in models)))
        rows += [line(f" {name}", numbers, cost.get(name, 0)) for name, numbers in models.items()]
    console.print(grid(f"Perplexity on {metrics['n']:,} documents, {metrics['tokens']:,} tokens",
                       ("", "a token\n[95 % CI]", "a byte", "trained on\n1,000 tokens"), rows))
    for key in ("base", "baseline", "equal_cost", "merged"):
        if pair := metrics.get(f"monju_vs_{key}"):
            low, high = pair["interval"]
            console.print(Text(f"Monju's perplexity is {pair['ratio']:.3f} [{low:.3f}, {high:.3f}] times "
                               f"that of: {TITLES[key].lower()}."))
    console.print()
    clusters = list(metrics["monju"]["clusters"])
    models = {f" {name}": numbers for name, numbers in metrics["experts"].items()}
    models |= {TITLES[key]: metrics[key] for key in TITLES if key in metrics}
    cells = [(title, *(cell(numbers["clusters"][name]) for name in clusters))
             for title, numbers in models.items()]
    cells.append(("tokens", *(f"{metrics['monju']['clusters'][name]['tokens']:,}" for name in clusters)))
    console.print(grid("Perplexity by nearest cluster of the passage", ("", *clusters), cells))
    console.print("* the expert was not trained on this cluster\n")
    print_gates(metrics)


def print_gates(metrics: dict[str, Any]) -> None:
    """Print every gate's perplexity, the lowest first."""
    console = Console(width=None if sys.stdout.isatty() else 80)
    rows = []
    for name, numbers in sorted(metrics["gates"].items(), key=lambda pair: pair[1]["perplexity"]):
        pair = numbers["against_monju"]
        low, high = pair["interval"]
        rows.append((name, f"{numbers['perplexity']:.2f}",
                     f"{pair['ratio']:.4f} [{low:.4f}, {high:.4f}]", f"{numbers['models_per_token']:.2f}"))
    console.print(grid("The experts under every gate",
                       ("", "a token", "ratio to the run's gate", "experts\na token"), rows))
    weights = " / ".join(f"{weight:.2f}" for weight in metrics["alpha"]["sorted_mean"])
    console.print(Text(f"Gate {metrics['monju']['gate']}: mean sorted α {weights}."))


def print_label_words(found: dict[str, Any]) -> None:
    """Print the accuracies of classification by label words."""
    rows = [(name, f"{percent(numbers['accuracy'])} [{percent(numbers['interval'][0], 1)}, "
                   f"{percent(numbers['interval'][1], 1)}]")
            for name, numbers in found["systems"].items()]
    labels = ", ".join(f"{label}: {word!r}" for label, word in found["labels"].items())
    Console(width=None if sys.stdout.isatty() else 80).print(grid(
        f"Label words ({labels}) on {found['n']} sentences behind {found['shots']} examples",
        ("", "Acc. % [95 % CI]"), rows))


def print_tokens(texts: list[dict[str, Any]]) -> None:
    """Print texts token by token: α and each model's log-probability."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    for text in texts:
        names = [name for name in text["tokens"][0]["log_p"] if "/" not in name]
        rows = [(repr(token["text"]), " / ".join(f"{weight:.2f}" for weight in token["alpha"].values()),
                 *(f"{token['log_p'][name]:.2f}" for name in names)) for token in text["tokens"]]
        rows.append(("perplexity", "", *(f"{text['perplexity'][name]:.1f}" for name in names)))
        console.print(grid("log p of each token", ("", "α", *names), rows))


def line(title: str, numbers: dict[str, Any], tokens: int) -> tuple[str, ...]:
    """Return a row of the table."""
    low, high = numbers["interval"]
    return (title, f"{numbers['perplexity']:.2f} [{low:.1f}, {high:.1f}]", f"{numbers['per_byte']:.3f}",
            f"{tokens / 1000:,.0f}" if tokens else "")


def cell(found: dict[str, Any]) -> str:
    """Return a cluster's perplexity, with a star where the expert was not trained on it."""
    if found["perplexity"] is None:
        return ""
    return ("" if found["seen"] else "*") + f"{found['perplexity']:.2f}"
