"""A finished run's results to take away: CSV, a LaTeX table, and HTML that opens from disk with no network.

`Results` is what they are drawn from. Words come through `say`, escaped there; whatever comes from a run is escaped here.
Knows nothing of the page, which draws the same pieces of HTML. No sentence of any data set is written.
"""

import csv as csv_format
import io
import json
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import numpy as np

from monju.config import Config
from monju.data.notes import Note
from monju.data.readers import no_formula
from monju.ensemble.outputs import Predictions
from monju.evaluation.metrics import (
    POSTER,
    TITLES,
    agreement,
    calibration,
    compare_gains,
    cost_share,
    ensembles,
    majority,
    mean_agreement,
    trained_on,
    turned,
)
from monju.reporting import figures
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run, damaged

SIGNIFICANT = 0.05
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
    def of(cls, run):
        """Raises MonjuError for a run that is not finished, or whose results are not as they were written."""
        run.check("metrics.json", "predictions.parquet")
        try:
            metrics = run.read_json("metrics.json")
        except (OSError, ValueError):
            raise damaged(run.path / "metrics.json") from None
        votes, labels = load_predictions(run)
        metrics.setdefault("majority", majority(labels))  # runs of an earlier version did not store it
        return cls(run, run.config, metrics, votes.decide_as(run.config), labels)

    @property
    def name(self):
        return self.run.path.resolve().name

    @property
    def data(self):
        return self.run.manifest["data"]

    @property
    def commonest(self):
        """The name of the commonest held-out label."""
        return self.data["label_names"][self.metrics["majority"]["label"]]

    @cached_property
    def gains(self):
        """Monju's gain less the baseline's, or None."""
        return compare_gains(self.predictions, self.labels)

    @cached_property
    def turned(self):
        """Indices of the sentences that Monju rescued and broke against the baseline; nothing of either without one."""
        if self.predictions.baseline is None:
            return np.array([], int), np.array([], int)
        return turned(self.predictions.monju.argmax(axis=1), self.predictions.baseline.argmax(axis=1), self.labels)


# rows: the table as plain numbers, CSV and LaTeX


def rows(metrics):
    """The table, a dictionary a row: each ensemble, then its members. What a row has no number for is left out."""
    found = []
    for key, ensemble, models in ensembles(metrics):
        pair = metrics.get(f"monju_vs_{key}")
        against = {} if pair is None else {
            "monju_minus_this": pair["difference"], "monju_minus_this_low": pair["interval"][0],
            "monju_minus_this_high": pair["interval"][1], "rescued": pair["rescued"], "broken": pair["broken"],
            "mcnemar_p": pair["p_value"]}
        found.append({"ensemble": TITLES[key], "model": "", "trained_on": "", **numbers(ensemble),
                      "mean_member": ensemble["mean_member"], "gain": ensemble["gain"], "gain_low": ensemble["gain_interval"][0],
                      "gain_high": ensemble["gain_interval"][1], **against, **spent(metrics, models)})
        found += [{"ensemble": TITLES[key], "model": name, "trained_on": trained_on(name, model), **numbers(model),
                   **spent(metrics, {name: model})} for name, model in models.items()]
    return [{"n": metrics["n"], **row} for row in found]


def numbers(model):
    low, high = model["interval"]
    return {"accuracy": model["accuracy"], "accuracy_low": low, "accuracy_high": high, **{name: model[name] for name in QUALITY}}


def spent(metrics, models):
    cost, share = metrics.get("cost", {}), cost_share(metrics, models)
    if not cost.keys() >= models.keys():
        return {}
    return {"training_tokens": sum(cost[name]["tokens"] for name in models),
            **({} if share is None else {"share_of_baseline_tokens": share})}


def csv(results):
    """The table as CSV: fractions, a row an ensemble or model and one for the majority class, empty where there is no number."""
    table = rows(results.metrics)
    table.append({"n": results.metrics["n"], "ensemble": "Majority class", "model": results.commonest,
                  "accuracy": results.metrics["majority"]["accuracy"]})
    columns = list(dict.fromkeys(name for row in table for name in row))
    out = io.StringIO()
    writer = csv_format.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: no_formula(value) for name, value in row.items()} for row in table)
    return out.getvalue()


def latex(results):
    """The poster's table for LaTeX with booktabs, accuracies in %, the test under it as its caption."""
    metrics, body = results.metrics, []
    for key, ensemble, models in ensembles(metrics):
        gain = f"${percent(ensemble['gain'], '+.2f')}${brackets(ensemble['gain_interval'], '+.2f')}"
        members = [f"\\quad {tex(trained_on(name, model))} & {percent(model['accuracy'])}{brackets(model['interval'])} & & \\\\"
                   for name, model in models.items()]
        body += ["\\midrule", f"{TITLES[key]} & {percent(ensemble['mean_member'])} mean & "
                 f"\\textbf{{{percent(ensemble['accuracy'])}}}{brackets(ensemble['interval'])} & {gain} \\\\", *members]
    majority_right = percent(metrics["majority"]["accuracy"])
    body += ["\\midrule", f"Always the commonest label ({tex(results.commonest)}) & {majority_right} & & \\\\"]
    config, caption = results.config, [f"Accuracy in \\% on {metrics['n']} sentences"]
    caption[0] += (f" of {tex(Path(config.data).name)} ({tex(Path(config.backbone).name)}, $k = {config.k}$, $m = {config.subset_size}$), "
                   "with 95\\,\\% bootstrap intervals.")
    for key in TITLES:
        if (pair := metrics.get(f"monju_vs_{key}")) and pair["rescued"] + pair["broken"]:
            caption.append(f"Monju $-$ {TITLES[key].lower()}: ${percent(pair['difference'], '+.2f')}$ points"
                           f"{brackets(pair['interval'], '+.2f')}, exact McNemar $p = {pair['p_value']:.3g}$.")
        elif pair:
            caption.append(f"Monju is right on the same sentences as {TITLES[key].lower()}.")
    caption.append(f"One sentence is {100 / metrics['n']:.2f} points.")
    lines = ["% needs \\usepackage{booktabs}", "\\begin{table}", "\\centering", f"\\caption{{{' '.join(caption)}}}",
             "\\begin{tabular}{lrrr}", "\\toprule", "Training data & Accuracy & Ensemble & Gain over the mean member \\\\",
             *body, "\\bottomrule", "\\end{tabular}", "\\end{table}"]
    return "\n".join(lines) + "\n"


TEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def tex(text):
    """Text as LaTeX prints it."""
    return "".join(TEX.get(letter, letter) for letter in text)


def brackets(bounds, form=".1f"):
    return f" {{\\footnotesize $[{percent(bounds[0], form)}, {percent(bounds[1], form)}]$}}" if bounds[0] < bounds[1] else ""


# pieces of HTML, for the report and for the page


def accuracy_table(results, say):
    """The poster's table for this run; beside a run on the poster's data the poster's own numbers."""
    metrics, beside, alike, body = results.metrics, posters_data(results.config), poster_is_alike(results.config), ""
    heads = [("", "col_run", ("col_accuracy", "col_ensemble", "col_gain", "col_cost"))]
    heads += [(' class="poster"', "col_poster", ("col_accuracy", "col_ensemble", "col_poster_gain"))] if beside else []
    groups = "".join(f'<th scope="colgroup" colspan="{len(keys)}"{kind}>{say(title)}</th>' for kind, title, keys in heads)
    head = "".join(f'<th scope="col"{kind}>{say(key)}</th>' for kind, _, keys in heads for key in keys)
    columns = [f"{say(title)}: {say(key)}" if kind else say(key) for kind, title, keys in heads for key in keys]
    for key, ensemble, models in ensembles(metrics):
        share = cost_share(metrics, models)
        theirs = POSTER.get(key)
        members = theirs and (theirs.get("models") or POSTER["experts"])
        cells = [f"{percent(ensemble['mean_member'])} <small>{say('mean_member')}</small>",
                 f"<b>{percent(ensemble['accuracy'])}</b>{interval(ensemble['interval'])}",
                 f"<b>{percent(ensemble['gain'], '+.2f')}</b>{interval(ensemble['gain_interval'], '+.2f')}",
                 "–" if share is None else f"{100 * share:.0f}\u202f%"]
        mean = theirs and np.mean([model["accuracy"] for model in members.values()])
        cells += [f"{percent(mean)} <small>{say('mean_member')}</small>", percent(theirs["accuracy"]),
                  percent(theirs["accuracy"] - mean, "+.2f")] if theirs else ["–"] * 3
        title = f'{say(key)}<small>{say("row_" + key, n=len(models))}</small>'
        body += row(title, cells, "ensemble", f' data-row="{key}"', columns)
        for name, model in models.items():
            known = members[name]["accuracy"] if theirs and alike and name in members else None
            cells = [percent(model["accuracy"]) + interval(model["interval"]), "", "", "",
                     "–" if known is None else percent(known), "", ""]
            body += row(escape(trained_on(name, model)), cells, "member", f' data-model="{escape(name)}"', columns)
    cells = [percent(metrics["majority"]["accuracy"])] + [""] * 6
    body += row(say("row_majority", label=say.label(results.commonest)), cells, "member", ' data-row="majority"', columns)
    return (f'<div class="wide" tabindex="0" role="region" aria-label="{table_title(results, say)}">'
            '<table class="results"><thead>'
            f'<tr><th scope="col" rowspan="2">{say("col_trained")}</th>{groups}</tr><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def table_title(results, say):
    return say("table_title" if posters_data(results.config) else "table_alone")


def poster_is_alike(config):
    """Whether this run's experts are the poster's: then each has a row to stand beside."""
    return (config.k, config.subset_size) == (3, 2)


def posters_data(config):
    """Whether the run is on SST-2, by its source's name."""
    return Path(config.data).stem.casefold() in ("sst2", "sst-2")


def row(title, cells, kind, more, columns):
    """A row of the table under these columns, the poster's last; each cell carries its column's name for narrow screens."""
    kinds = [""] * 4 + [' class="poster"'] * 3
    cells = "".join(f'<td{poster} data-column="{column}">{cell}</td>' for poster, column, cell in zip(kinds, columns, cells))
    return f'<tr class="{kind}"{more}><th scope="row">{title}</th>{cells}</tr>'


def told(results, say):
    """What the table says and what it does not, in words."""
    metrics, parts = results.metrics, []
    point = f"{100 / metrics['n']:.2f}"
    for key in ("baseline", "equal_cost"):
        if pair := metrics.get(f"monju_vs_{key}"):
            parts.append(told_pair(say(key), pair, say))
    if "monju_vs_baseline" not in metrics:
        parts.append(say("told_no_baseline"))
    if gains := results.gains:
        low, high = gains["interval"]
        means = {"experts": percent(metrics["monju"]["mean_member"]), "members": percent(metrics["baseline"]["mean_member"])}
        points = {"points": gains["difference"], "low": low, "high": high}
        points = {name: percent(value, "+.2f") for name, value in points.items()}
        sure = say("told_gains_sure" if low > 0 or high < 0 else "told_gains_unsure")
        parts.append(say("told_gains", **means, **points) + " " + sure if low < high else say("told_gains_same", **means))
    alpha = metrics["alpha"]
    parts.append(say("told_gate", changed=f"{alpha['fused_differs_from_uniform']:,}", n=f"{metrics['n']:,}",
                     sorted=" / ".join(f"{weight:.2f}" for weight in alpha["sorted_mean"]), equal=f"{1 / len(alpha['mean']):.2f}"))
    listed = "".join(f"<li>{part}</li>" for part in parts)
    other_than_posters = posters_data(results.config) and not poster_setting(results.config)
    caution = say("told_caution") + (" " + say("told_poster") if other_than_posters else "")
    return (f'<p class="point">{say("told_point", n=f"""{metrics["n"]:,}""", point=point)}</p>'
            f'<ul class="told-list">{listed}</ul><p class="faint">{caution}</p>')


def told_pair(other, pair, say):
    """Monju against another ensemble, and whether luck could do it."""
    if not pair["changed"]:
        return say("told_same", other=other)
    if not pair["rescued"] + pair["broken"]:
        return say("told_both_wrong", other=other, changed=f"{pair['changed']:,}")
    low, high = pair["interval"]
    bounds = f" [{percent(low, '+.2f')}, {percent(high, '+.2f')}]" if low < high else ""
    verdict = "told_luck" if pair["p_value"] >= SIGNIFICANT else "told_better" if pair["difference"] > 0 else "told_worse"
    return say("told_pair", other=other, points=percent(pair["difference"], "+.2f"), bounds=bounds,
               rescued=f"{pair['rescued']:,}", broken=f"{pair['broken']:,}", p=f"{pair['p_value']:.3g}") + " " + say(verdict)


def poster_setting(config):
    return "roberta-base" in config.backbone.casefold() and posters_data(config) and poster_is_alike(config)


def quality_table(results, say):
    """Macro-F1, NLL, Brier and ECE of the ensembles."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("", "Macro-F1 ↑", "NLL ↓", "Brier ↓", "ECE ↓"))
    body = "".join(f'<tr><th scope="row">{say(key)}</th>' + "".join(f"<td>{found[name]:.4f}</td>" for name in QUALITY) + "</tr>"
                   for key, found, _ in ensembles(results.metrics))
    return f'<div class="wide"><table class="results small"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def drawn(results, say):
    """The figures: (file's name, title, what it says in words, plotly Figure), each by the page and the report alike."""
    metrics, predictions = results.metrics, results.predictions
    names, same = agreement(predictions)
    count = len(predictions.experts)
    among = [mean_agreement(same[:count, :count]), mean_agreement(same[count:, count:])]
    said = say("note_same" if among[1] is not None else "note_same_alone", **{
        key: f"{100 * share:.1f}" for key, share in zip(("experts", "members"), among) if share is not None})
    curves = {key: calibration(predictions[key], results.labels) for key in ("monju", "baseline") if predictions[key] is not None}
    errors = say("comma").join(f"{say(key)} {metrics[key]['ece']:.3f}" for key in curves)
    found = [("clusters", say("fig_cluster"), say("note_cluster"), figures.cluster_accuracy(metrics, say)),
             ("agreement", say("fig_agreement"), said, figures.model_agreement(names, same, say)),
             ("calibration", say("fig_calibration"), say("note_calibration") + " ECE: " + errors,
              figures.calibration_curve(curves, metrics["labels"], say)),
             ("alpha", say("fig_alpha"), say("note_alpha"), figures.alpha_distribution(predictions.experts, predictions.alpha, say))]
    if "rounds" in metrics:
        found.append(("rounds", say("fig_rounds"), say("note_rounds"), figures.rounds_curve(metrics["rounds"], say)))
    return found


# the report


def html(results, say):
    """One self-contained page: table, words, figures, settings, machine, data. plotly.js is inlined once."""
    from plotly.offline import get_plotlyjs

    manifest = results.run.manifest
    figures_html, scripts = "", ""
    for name, title, note, figure in drawn(results, say):
        figures_html += f'<figure><h2>{title}</h2><div id="{name}" role="img" aria-label="{title}"></div><figcaption>{note}</figcaption></figure>'
        # "<" as \u003c: no name in the data can end the script
        scripts += f'draw("{name}", {figure.to_json()});\n'.replace("<", "\\u003c")
    facts = [(say("facts_data"), data_facts(results, say)), (say("facts_settings"), results.config.to_json()),
             (say("facts_machine"), {**manifest.get("machine", {}), **manifest.get("versions", {})})]
    facts[1][1]["data"], facts[1][1]["backbone"] = Path(results.config.data).name, Path(results.config.backbone).name
    lists = "".join(f"<section><h2>{title}</h2>{listing(values)}</section>" for title, values in facts)
    title = say("report_title", run=results.name)
    return REPORT.format(language=say.language, title=title, table_title=table_title(results, say),
                         table=accuracy_table(results, say), told=told(results, say), quality_title=say("quality_title"),
                         quality=quality_table(results, say),
                         figures=figures_html, facts=lists, plotly=get_plotlyjs(), scripts=scripts)


def data_facts(results, say):
    """What the manifest says of the data: names, numbers and notes; an older run's notes are plain sentences."""
    data, place = results.data, results.config.data
    return {"data": Path(place).name, "train": data["train"], "validation": data["validation"],
            "labels": ", ".join(map(str, data["label_names"])), "overlap": data["overlap"], "fingerprint": data["fingerprint"],
            **{f"cluster {name}": size for name, size in results.run.manifest.get("clusters", {}).items()},
            "notes": " ".join(told if isinstance(told, str) else Note.of(told).text(say.language)
                              for told in data.get("notes", [])).replace(place, Path(place).name)}


def listing(values):
    cells = "".join(f'<tr><th scope="row">{escape(str(name))}</th><td>{escape(value if isinstance(value, str) else json.dumps(value))}</td></tr>'
                    for name, value in values.items() if value not in (None, "", []))
    return f'<table class="facts"><tbody>{cells}</tbody></table>'


FORMATS = {  # what is taken away: its file's ending, and its content
    "html": (".html", html),
    "csv": (".csv", lambda results, say: csv(results)),
    "latex": (".tex", lambda results, say: latex(results)),
}


REPORT = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ font: 16px/1.5 system-ui, "Noto Sans", "Hiragino Sans", "Noto Sans CJK JP", "Yu Gothic", sans-serif; color: #17202e;
  background: #fff; max-width: 1080px; margin: 0 auto; padding: 24px 16px; font-variant-numeric: tabular-nums; }}
h1 {{ font-size: 28px; line-height: 1.25; }} h2 {{ font-size: 19px; margin: 28px 0 8px; }}
small, .faint, figcaption {{ color: #566174; font-size: 14px; font-weight: 400; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }} .results {{ width: 100%; font-size: 15px; }}
.results td, .results th {{ padding: 4px 8px; text-align: right; white-space: nowrap; font-weight: 400;
  border-bottom: 1px solid #d5dbe4; }}
.results th[scope="row"] {{ text-align: left; padding-left: 20px; white-space: normal; }}
.results thead th {{ white-space: normal; font-size: 14px; color: #566174; }}
.results .ensemble th, .results .ensemble td {{ background: #f3f8fc; }} .results .ensemble th {{ font-weight: 700; padding-left: 8px; }}
.results thead tr:first-child th:first-child {{ text-align: left; }}
.results .ensemble th small {{ display: block; }} .results .poster {{ color: #566174; }}
figure {{ margin: 0; break-inside: avoid; }}
.facts th {{ text-align: left; font-weight: 400; color: #566174; padding: 2px 16px 2px 0; vertical-align: top; white-space: nowrap; }}
.facts td {{ overflow-wrap: anywhere; }}
@media (max-width: 1100px) {{ .results td small {{ display: block; }} }}
@media (max-width: 860px) {{ /* no room for the columns: every cell is a line that names its column */
  .results:not(.small), .results:not(.small) :is(tbody, tr, th, td) {{ display: block; width: auto; }}
  .results:not(.small) :is(thead, td:empty) {{ display: none; }}
  .results:not(.small) :is(td, th) {{ border-bottom: 0; white-space: normal; }}
  .results:not(.small) tr {{ border-top: 1px solid #d5dbe4; }}
  .results:not(.small) td {{ padding-left: 20px; }}
  .results:not(.small) td::before {{ content: attr(data-column); float: left; color: #566174; font-size: 14px; }}
  .results td small {{ display: inline; }} .results.small td, .results.small th {{ padding: 4px 3px; }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
<h2>{table_title}</h2>
{table}
{told}
<h2>{quality_title}</h2>
{quality}
{figures}
{facts}
<script>{plotly}</script>
<script>
function draw(id, figure) {{ Plotly.newPlot(id, figure.data, figure.layout, {{responsive: true, displaylogo: false}}); }}
{scripts}</script>
</body>
</html>
"""


# small pieces


def percent(fraction, form=".2f"):
    """A fraction in %, with a true minus in no case of zero."""
    return format(round(100 * fraction, 2) + 0.0, form)  # + 0.0: no "-0.00"


def interval(bounds, form=".1f"):
    """" [low, high]"; nothing where the interval has no width."""
    return f" <small>[{percent(bounds[0], form)}, {percent(bounds[1], form)}]</small>" if bounds[0] < bounds[1] else ""
