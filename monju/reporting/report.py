"""A finished run's results as files: CSV, a LaTeX table, and HTML that opens from disk with no network.

`Results` is what they are drawn from; HTML comes from the templates beside this file. Words come through
`t`. Knows nothing of the web app, which shows the same pieces of HTML. No sentence of any data set is
written.
"""

from __future__ import annotations

import csv as csv_format
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from monju.config import Config
from monju.data.notes import Note
from monju.data.readers import no_formula
from monju.ensemble.outputs import Predictions
from monju.evaluation.gate_meter import agreement, mean_agreement
from monju.evaluation.metrics import calibration, compare_gains, majority, turned
from monju.evaluation.run_table import POSTER, TITLES, Row, cost_share, ensembles, table_rows
from monju.reporting import figures
from monju.reporting.figures import Words
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run
from monju.utils.format import interval, percent
from monju.utils.templates import render

SIGNIFICANT = 0.05
TEMPLATES = "monju.reporting"
QUALITY = ("macro_f1", "nll", "brier", "ece")


@dataclass(frozen=True)
class Results:
    """A run's table and its held-out predictions, as they were stored."""

    run: Run
    config: Config
    metrics: dict
    predictions: Predictions
    labels: np.ndarray

    @classmethod
    def of(cls, run: Run) -> Results:
        """Return the results of a run.

        Raises MonjuError for a run that is not finished, or whose results are not as they were written.
        """
        run.refuse_task("classify")
        metrics = run.check("predictions.parquet").metrics()
        outputs, labels = load_predictions(run)
        metrics.setdefault("majority", majority(labels))  # runs of an earlier version did not store it
        return cls(run, run.config, metrics, outputs.decide_as(run.config), labels)

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.run.path.resolve().name

    @property
    def data(self) -> dict:
        """What the manifest says of the data."""
        return self.run.manifest["data"]

    @property
    def commonest(self) -> str:
        """The name of the commonest held-out label."""
        return self.data["label_names"][self.metrics["majority"]["label"]]

    @cached_property
    def gains(self) -> dict | None:
        """Monju's gain less the baseline's, or None."""
        return compare_gains(self.predictions, self.labels)

    @cached_property
    def turned(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the sentences that Monju rescued and broke against the baseline."""
        if self.predictions.baseline is None:
            return np.array([], int), np.array([], int)
        return turned(self.predictions.monju.argmax(axis=1), self.predictions.baseline.argmax(axis=1),
                      self.labels)


# rows: the table as plain numbers, CSV and LaTeX


def rows(metrics: dict) -> list[dict]:
    """Return the table, a dictionary a row, without what a row has no number for."""
    lines = []
    for row in table_rows(metrics):
        low, high = row.numbers["interval"]
        line = {"n": metrics["n"], "ensemble": TITLES[row.key], "model": row.model,
                "trained_on": row.title if row.model else "",
                "accuracy": row.numbers["accuracy"], "accuracy_low": low, "accuracy_high": high,
                **{name: row.numbers[name] for name in QUALITY}}
        if not row.model:
            low, high = row.numbers["gain_interval"]
            line |= {"mean_member": row.numbers["mean_member"], "gain": row.numbers["gain"], "gain_low": low,
                     "gain_high": high}
            if pair := metrics.get(f"monju_vs_{row.key}"):
                low, high = pair["interval"]
                line |= {"monju_minus_this": pair["difference"], "monju_minus_this_low": low,
                         "monju_minus_this_high": high,
                         "rescued": pair["rescued"], "broken": pair["broken"], "mcnemar_p": pair["p_value"]}
        if row.cost:
            line["training_tokens"] = row.cost["tokens"]
        if row.share is not None:
            line["share_of_baseline_tokens"] = row.share
        lines.append(line)
    return lines


def csv(results: Results) -> str:
    """Return the table as CSV: fractions, a row an ensemble, a model and the majority class."""
    table = rows(results.metrics)
    table.append({"n": results.metrics["n"], "ensemble": "Majority class", "model": results.commonest,
                  "accuracy": results.metrics["majority"]["accuracy"]})
    columns = list(dict.fromkeys(name for row in table for name in row))
    out = io.StringIO()
    writer = csv_format.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: no_formula(value) for name, value in row.items()} for row in table)
    return out.getvalue()


def latex(results: Results) -> str:
    """Return the poster's table for LaTeX with booktabs, accuracies in %, with the test in its caption."""
    metrics, body = results.metrics, []
    for row in table_rows(metrics):
        numbers = row.numbers
        accuracy = percent(numbers["accuracy"])
        if row.model:
            body.append(f"\\quad {tex(row.title)} & {accuracy}{brackets(numbers['interval'])} & & \\\\")
        else:
            gain = f"${percent(numbers['gain'], sign='+')}${brackets(numbers['gain_interval'], 2, '+')}"
            body += ["\\midrule", f"{row.title} & {percent(numbers['mean_member'])} mean & "
                     f"\\textbf{{{accuracy}}}{brackets(numbers['interval'])} & {gain} \\\\"]
    majority_right = percent(metrics["majority"]["accuracy"])
    body += ["\\midrule",
             f"Always the commonest label ({tex(results.commonest)}) & {majority_right} & & \\\\"]
    config, caption = results.config, [f"Accuracy in \\% on {metrics['n']} sentences"]
    caption[0] += (f" of {tex(Path(config.data).name)} ({tex(Path(config.backbone).name)}, "
                   f"$k = {config.k}$, $m = {config.subset_size}$), "
                   "with 95\\,\\% bootstrap intervals.")
    for key in TITLES:
        if (pair := metrics.get(f"monju_vs_{key}")) and pair["rescued"] + pair["broken"]:
            bounds = brackets(pair["interval"], 2, "+")
            caption.append(f"Monju $-$ {TITLES[key].lower()}: "
                           f"${percent(pair['difference'], sign='+')}$ points{bounds}, "
                           f"exact McNemar $p = {pair['p_value']:.3g}$.")
        elif pair:
            caption.append(f"Monju is right on the same sentences as {TITLES[key].lower()}.")
    caption.append(f"One sentence is {100 / metrics['n']:.2f} points.")
    lines = ["% needs \\usepackage{booktabs}", "\\begin{table}", "\\centering",
             f"\\caption{{{' '.join(caption)}}}",
             "\\begin{tabular}{lrrr}", "\\toprule",
             "Training data & Accuracy & Ensemble & Gain over the mean member \\\\",
             *body, "\\bottomrule", "\\end{tabular}", "\\end{table}"]
    return "\n".join(lines).replace("−", "-") + "\n"  # LaTeX draws a hyphen in $…$ as a minus


TEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
       "_": r"\_",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def tex(text: str) -> str:
    """Return text escaped for LaTeX."""
    return "".join(TEX.get(letter, letter) for letter in text)


def brackets(bounds: list[float], digits: int = 1, sign: str = "") -> str:
    """Return an interval as LaTeX to follow its number."""
    return f" {{\\footnotesize ${text}$}}" if (text := interval(bounds, digits, sign)) else ""


# pieces of HTML, for the report and for the web app


def accuracy_table(results: Results, t: Words) -> Markup:
    """Return the poster's table for this run; beside a run on the poster's data the poster's own numbers."""
    metrics, config = results.metrics, results.config
    return render(TEMPLATES, "accuracy.html", t=t, title=table_title(results, t),
                  beside=posters_data(config),
                  rows=[(row, poster_numbers(row, config)) for row in table_rows(metrics)],
                  commonest=results.commonest, majority=metrics["majority"]["accuracy"])


def poster_numbers(row: Row, config: Config) -> dict | float | None:
    """Return the poster's numbers for a row (of a member, its accuracy), or None where it has none."""
    poster = POSTER.get(row.key)
    if poster is None:
        return None
    members = poster.get("models", POSTER["experts"])
    if row.model:
        return members[row.model]["accuracy"] if poster_is_alike(config) and row.model in members else None
    mean = np.mean([model["accuracy"] for model in members.values()])
    return {"mean_member": mean, "accuracy": poster["accuracy"], "gain": poster["accuracy"] - mean}


def table_title(results: Results, t: Words) -> str:
    """Return the table's title: without the poster where the data is not the poster's."""
    return t("table_title" if posters_data(results.config) else "table_alone")


def poster_is_alike(config: Config) -> bool:
    """Return whether this run's experts are the poster's: then each has a row to compare with."""
    return (config.k, config.subset_size) == (3, 2)


def posters_data(config: Config) -> bool:
    """Return whether the run is on SST-2, by its source's name."""
    return Path(config.data).stem.casefold() in ("sst2", "sst-2")


def headline(results: Results, t: Words) -> Markup:
    """Return the result in one card: Monju beside the baseline and the control, and what a gate can do."""
    metrics = results.metrics
    found = [(key, metrics[key]) for key in ("monju", "baseline", "equal_cost") if key in metrics]
    accuracies = {key: percent(numbers["accuracy"], 1) for key, numbers in found}
    pair, share = metrics.get("monju_vs_baseline"), cost_share(metrics, metrics["experts"])
    if pair is None:
        claim, verdict = t("claim_alone", monju=accuracies["monju"]), t("told_no_baseline")
    else:
        claim = t("claim", monju=accuracies["monju"], baseline=accuracies["baseline"],
                  points=percent(pair["difference"], sign="+"))
        verdict = t("told_same", other=t("baseline")) if not pair["changed"] else t(
            "told_luck" if pair["p_value"] >= SIGNIFICANT else
            "told_better" if pair["difference"] > 0 else "told_worse")
        if share is not None:
            verdict = t("claim_cost", share=percent(share, 0), p=f"{pair['p_value']:.2g}") + " " + verdict
    axis = interval_axis([(t(key), 100 * numbers["accuracy"], [100 * bound for bound in numbers["interval"]])
                          for key, numbers in found], " %", most=100)
    return render(TEMPLATES, "headline.html", t=t, claim=claim, verdict=verdict, **axis,
                  meter=meter_summary(metrics, t))


def interval_axis(rows: list[tuple[str, float, list[float]]], unit: str = "",
                  most: float = float("inf")) -> dict[str, Any]:
    """Return what the headline draws of (name, number, interval): "bars" on one axis, its ends."""
    bounds = [bound for _, _, interval in rows for bound in interval]
    left, right = max(0.0, np.floor(min(bounds)) - 1), min(most, np.ceil(max(bounds)) + 1)

    def at(value: float) -> float:
        return (value - left) / (right - left)

    return {"bars": [(name, f"{number:.1f}{unit}", f"[{low:.1f}, {high:.1f}]", at(low), at(high), at(number))
                     for name, number, (low, high) in rows],
            "left": f"{left:.0f}{unit}", "right": f"{right:.0f}{unit}"}


def meter_summary(metrics: dict, t: Words) -> str:
    """Return what a gate can do here and did, in words; "" where it was not measured."""
    meter = metrics.get("gate_meter")
    if not meter or meter["gap"]["difference"] is None:
        return ""
    shares = {name: percent(meter["gap"][name], 1) for name in ("seen", "unseen")}
    return t("told_gate_meter", **shares, gap=percent(meter["gap"]["difference"], 1, sign="+"),
             could=percent(meter["could_flip"], 1), did=percent(meter["did_flip"], 1))


def interpretation(results: Results, t: Words) -> Markup:
    """Return the interpretation of the table, in words."""
    metrics, parts = results.metrics, []
    for key in ("baseline", "equal_cost"):
        if pair := metrics.get(f"monju_vs_{key}"):
            parts.append(pair_summary(t(key), pair, t))
    if "monju_vs_baseline" not in metrics:
        parts.append(t("told_no_baseline"))
    if gains := results.gains:
        low, high = gains["interval"]
        means = {"experts": percent(metrics["monju"]["mean_member"]),
                 "members": percent(metrics["baseline"]["mean_member"])}
        points = {"points": gains["difference"], "low": low, "high": high}
        points = {name: percent(value, sign="+") for name, value in points.items()}
        verdict = t("told_gains_sure" if low > 0 or high < 0 else "told_gains_unsure")
        parts.append(t("told_gains", **means, **points) + " " + verdict if low < high
                     else t("told_gains_same", **means))
    alpha = metrics["alpha"]
    parts.append(t("told_gate", changed=f"{alpha['fused_differs_from_uniform']:,}", n=f"{metrics['n']:,}",
                     sorted=" / ".join(f"{weight:.2f}" for weight in alpha["sorted_mean"]),
                     equal=f"{1 / len(alpha['mean']):.2f}"))
    unlike_poster = posters_data(results.config) and not poster_setting(results.config)
    return render(TEMPLATES, "told.html", t=t, n=metrics["n"], parts=parts, unlike_poster=unlike_poster)


def pair_summary(other: str, pair: dict, t: Words) -> str:
    """Return Monju against another ensemble in words, and whether chance could explain it."""
    if not pair["changed"]:
        return t("told_same", other=other)
    if not pair["rescued"] + pair["broken"]:
        return t("told_both_wrong", other=other, changed=f"{pair['changed']:,}")
    bounds = interval(pair["interval"], 2, "+")
    better = "told_better" if pair["difference"] > 0 else "told_worse"
    verdict = "told_luck" if pair["p_value"] >= SIGNIFICANT else better
    return t("told_pair", other=other, points=percent(pair["difference"], sign="+"),
               bounds=bounds and f" {bounds}",
               rescued=f"{pair['rescued']:,}", broken=f"{pair['broken']:,}",
               p=f"{pair['p_value']:.3g}") + " " + t(verdict)


def poster_setting(config: Config) -> bool:
    """Return whether the run is the poster's in all that its table says."""
    return "roberta-base" in config.backbone.casefold() and posters_data(config) and poster_is_alike(config)


def quality_table(results: Results, t: Words) -> Markup:
    """Return macro-F1, NLL, Brier and ECE of the ensembles."""
    return render(TEMPLATES, "quality.html", t=t, ensembles=ensembles(results.metrics), measures=QUALITY)


def all_figures(results: Results, t: Words) -> list[tuple]:
    """Return the figures: (file's name, title, description, plotly Figure)."""
    metrics, predictions = results.metrics, results.predictions
    names, agreement_matrix = agreement(predictions)
    n_experts = len(predictions.experts)
    means = {"experts": mean_agreement(agreement_matrix[:n_experts, :n_experts]),
             "members": mean_agreement(agreement_matrix[n_experts:, n_experts:])}
    description = t("note_same_alone" if means["members"] is None else "note_same",
                    **{key: percent(share, 1) for key, share in means.items() if share is not None})
    curves = {key: calibration(predictions[key], results.labels)
              for key in ("monju", "baseline") if predictions[key] is not None}
    errors = t("comma").join(f"{t(key)} {metrics[key]['ece']:.3f}" for key in curves)
    drawings = [("clusters", t("fig_cluster"), t("note_cluster"), figures.cluster_accuracy(metrics, t)),
                ("agreement", t("fig_agreement"), description,
                 figures.model_agreement(names, agreement_matrix, t)),
                ("calibration", t("fig_calibration"), t("note_calibration") + " ECE: " + errors,
                 figures.calibration_curve(curves, metrics["labels"], t)),
                ("alpha", t("fig_alpha"), t("note_alpha"),
                 figures.alpha_distribution(predictions.experts, predictions.alpha, t))]
    if "rounds" in metrics:
        drawings.append(("rounds", t("fig_rounds"), t("note_rounds"),
                         figures.rounds_curve(metrics["rounds"], t)))
    return drawings


# the report


def html(results: Results, t: Words) -> str:
    """Return one self-contained page: table, words, figures, settings, machine, data.

    plotly.js is inlined once.
    """
    from plotly.offline import get_plotlyjs

    manifest, config = results.run.manifest, results.config
    # markup: a script, and JSON in a script, where "<" as \u003c lets no name in the data end it
    figures = [(*words, Markup(figure.to_json().replace("<", "\\u003c")))
               for *words, figure in all_figures(results, t)]
    settings = {**config.to_json(), "data": Path(config.data).name, "backbone": Path(config.backbone).name}
    facts = [(t("facts_data"), data_facts(results, t)), (t("facts_settings"), settings),
             (t("facts_machine"), {**manifest.get("machine", {}), **manifest.get("versions", {})})]
    facts = [(title,
              {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()
                      if value not in (None, "", [])}) for title, values in facts]
    return render(TEMPLATES, "report.html", t=t, title=t("report_title", run=results.name),
                  headline=headline(results, t), table_title=table_title(results, t),
                  table=accuracy_table(results, t), told=interpretation(results, t),
                  quality=quality_table(results, t),
                  figures=figures, facts=facts, plotly=Markup(get_plotlyjs()))


def data_facts(results: Results, t: Words) -> dict:
    """Return what the manifest says of the data; an older run's notes are plain sentences."""
    data, source = results.data, results.config.data
    return {"data": Path(source).name, "train": data["train"], "validation": data["validation"],
            "labels": ", ".join(map(str, data["label_names"])), "overlap": data["overlap"],
            "fingerprint": data["fingerprint"],
            **{f"cluster {name}": size for name, size in results.run.manifest.get("clusters", {}).items()},
            "notes": " ".join(note if isinstance(note, str) else known.text(t.language)
                              for note in data.get("notes", []) if isinstance(note, str)
                              or (known := Note.of(note))).replace(source, Path(source).name)}


FORMATS = {  # what is taken away: its file's ending, and its content
    "html": (".html", html),
    "csv": (".csv", lambda results, t: csv(results)),
    "latex": (".tex", lambda results, t: latex(results)),
}
