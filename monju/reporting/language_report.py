"""A finished run of language models as the Results tab shows it: a headline, a table, every gate.

Perplexities come from `metrics.json`, words through `t`. Lower is better throughout.
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from monju.reporting.figures import Words
from monju.reporting.report import TEMPLATES, interval_axis
from monju.utils.format import percent
from monju.utils.templates import render

ENSEMBLES = ("monju", "baseline", "equal_cost")
SYSTEMS = (*ENSEMBLES, "merged", "base", "unigram")


def headline(metrics: dict[str, Any], t: Words) -> Markup:
    """Return the result in one card: Monju's perplexity beside the baseline's and the control's."""
    found = [(key, metrics[key]) for key in ENSEMBLES if key in metrics]
    numbers = {key: f"{entry['perplexity']:.1f}" for key, entry in found}
    if pair := metrics.get("monju_vs_baseline"):
        low, high = pair["interval"]
        claim = t("lm_claim", monju=numbers["monju"], baseline=numbers["baseline"])
        verdict = t("lm_ratio", change=change(pair["ratio"]), low=change(low), high=change(high)) + " " + t(
            "told_luck" if low <= 1 <= high else "told_better" if pair["ratio"] < 1 else "told_worse")
    else:
        claim, verdict = t("lm_claim_alone", monju=numbers["monju"]), t("told_no_baseline")
    axis = interval_axis([(t(key), entry["perplexity"], entry["interval"]) for key, entry in found])
    return render(TEMPLATES, "headline.html", t=t, claim=claim, verdict=verdict, **axis,
                  meter=gate_summary(metrics, t))


def change(ratio: float, digits: int = 1) -> str:
    """Return a ratio of two perplexities as a change in percent, with its sign."""
    return percent(ratio - 1, digits, sign="+")


def gate_summary(metrics: dict[str, Any], t: Words) -> str:
    """Return what the gate adds to equal weights, in words; "" where that was not measured."""
    if (uniform := metrics.get("gates", {}).get("uniform")) is None:
        return ""
    low, high = (1 / bound for bound in reversed(uniform["against_monju"]["interval"]))
    ratio = 1 / uniform["against_monju"]["ratio"]
    told = "lm_gate_none" if low <= 1 <= high else "lm_gate_helps" if ratio < 1 else "lm_gate_harms"
    weights = " / ".join(f"{weight:.2f}" for weight in metrics["alpha"]["sorted_mean"])
    return t(told, change=change(ratio, 2), weights=weights)


def table(metrics: dict[str, Any], t: Words) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return (heads, rows): each system and its models, in perplexity a token and a byte, and by cluster.

    A cluster that an expert was not trained on is marked with an asterisk.
    """
    clusters = list(metrics["monju"]["clusters"])
    cost = {name: entry["tokens"] for name, entry in metrics.get("cost", {}).items()}
    rows = []
    for key in (key for key in SYSTEMS if key in metrics):
        models = metrics["experts"] if key == "monju" else metrics[key].get("models", {})
        tokens = sum(cost.get(name, 0) for name in models)
        rows.append(row(t(key if key in ENSEMBLES else f"lm_{key}"), metrics[key], clusters, tokens))
        rows += [row(f"– {name.rpartition('/')[2]}", found, clusters, cost.get(name, 0))
                 for name, found in models.items()]
    return [t("lm_of"), t("lm_token"), t("lm_byte"), *clusters, t("lm_trained")], rows


def row(title: str, numbers: dict[str, Any], clusters: list[str], tokens: int) -> tuple[Any, ...]:
    """Return the cells of a system or a model."""
    low, high = numbers["interval"]
    cells = [numbers.get("clusters", {}).get(name) for name in clusters]
    return (title, f"{numbers['perplexity']:,.1f} [{low:,.1f}, {high:,.1f}]", f"{numbers['per_byte']:.3f}",
            *("–" if cell is None or cell["perplexity"] is None
              else f"{cell['perplexity']:,.1f}{'' if cell['seen'] else ' *'}" for cell in cells),
            f"{tokens:,}" if tokens else "–")


def gates(metrics: dict[str, Any], t: Words) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return (heads, rows): the same experts under every gate, the lowest perplexity first."""
    rows = []
    for name, numbers in sorted(metrics.get("gates", {}).items(), key=lambda pair: pair[1]["perplexity"]):
        pair = numbers["against_monju"]
        low, high = map(change, pair["interval"])
        rows.append((name, f"{numbers['perplexity']:,.2f}", f"{change(pair['ratio'])} % [{low}, {high}]",
                     f"{numbers['models_per_token']:.2f}"))
    return [t("lm_gate"), t("lm_token"), t("lm_change"), t("lm_asked")], rows
