"""The study: which ways of making and weighing the experts beat the equal-weight baseline, over several seeds.

    python docs/study.py --data sst2 --out trained/study

trains what the folder lacks (the whole takes about half an hour on two cores), then writes docs/study.json, the tables in
docs/study.md between its marks, and the picture docs/study.svg. Nothing in it is tuned on the sentences that are reported.
"""

import argparse
import json
import sys
from dataclasses import replace
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package beside this folder, installed or not
from monju.config import Config
from monju.data import sources  # noqa: E402
from monju.evaluation.comparison import compare  # noqa: E402
from monju.inference.pipeline import Monju  # noqa: E402
from monju.presets import PRESETS  # noqa: E402
from monju.reporting.console import show  # noqa: E402
from monju.runs.run import Run  # noqa: E402
from monju.training.distill import SIZES, TARGETS, distill  # noqa: E402
from monju.training.sweep import place, spread, sweep  # noqa: E402

HERE = Path(__file__).parent
VARIANTS = {
    "the poster's layout (k = 3, m = 2, balanced, sbert)": {},
    "one cluster an expert (m = 1)": {"subset_size": 1},
    "tf-idf vectors": {"embedder": "tfidf"},
    "Gaussian mixture": {"clusterer": "gmm"},
    "random subsets (control)": {"clusterer": "random"},
    "branch, train, merge: 2 rounds": {"rounds": 2},
    "a different order each": {"orders": "shuffled,short-to-long,easy-to-hard"},
}
READ = ("merge", "student")  # the kinds of rows for which every sentence must be read


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", default="sst2")
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("--sample", type=int, default=2400)
    asked.add_argument("--tuning-size", type=int, default=400)
    asked.add_argument("--epochs", type=float, default=2.0)
    asked.add_argument("--seeds", type=int, default=3)
    asked = asked.parse_args()
    base = Config(**{**PRESETS["laptop"], "data": asked.data, "sample": asked.sample, "tuning_size": asked.tuning_size,
                     "epochs": asked.epochs, "map_size": 100})
    found = {"settings": base.to_json() | {"data": Path(asked.data).name}, "seeds": asked.seeds, "variants": {}}
    for name, settings in VARIANTS.items():
        show(sweep(replace(base, **settings), {}, asked.out, asked.seeds))
        found["variants"][name] = json.loads((asked.out / "sweep.json").read_text())["rows"]
    for seed in range(asked.seeds):
        path = place(asked.out, replace(base, seed=seed))
        if len(Run.open(path).manifest.get("students", {})) < len(SIZES) * len(TARGETS):
            show(distill(path, tuple(SIZES)))
    found["one model"] = one_model(base, asked.out, asked.seeds)
    (HERE / "study.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write(found)


def one_model(base, out, seeds):
    """The merges and the students of the first variant's experts."""
    tables = []
    for seed in range(seeds):
        monju = Monju.load(place(out, replace(base, seed=seed)), controls=True)
        labelled = sources.load_labelled(base.data, monju.labels, monju.label_names)
        tables.append({row["name"]: row for row in compare(monju, labelled.labels, labelled.texts)["rows"] if row["kind"] in READ})
    return [{"name": name, "kind": tables[0][name]["kind"], "n": len(labelled.labels), "forward_passes": 1, "train_tokens": tables[0][name]["train_tokens"],
             **{key: spread([table[name][key] for table in tables]) for key in ("accuracy", "nll", "ece", "difference")},
             "p_value": [table[name]["p_value"] for table in tables]} for name in tables[0]]


def write(found):
    """docs/study.md's tables and the picture, from docs/study.json's content."""
    first = next(iter(found["variants"].values()))
    baseline = row_of(first, "baseline")
    lines = ["| how the experts are made | experts' tokens | mean expert | equal weights | Monju | Monju − baseline, points | p of each seed |",
             "|---|---|---|---|---|---|---|"]
    for name, rows in found["variants"].items():
        monju, its, members = row_of(rows, "monju"), row_of(rows, "baseline"), [row for row in rows if row["kind"] == "member" and "seed" not in row["name"]]
        mean = sum(row["accuracy"]["mean"] for row in members) / len(members)
        lines.append(f"| {name} | {monju['train_tokens'] / its['train_tokens']:.0%} | {100 * mean:.2f} | {told(row_of(rows, 'uniform'))} | "
                     f"{told(monju)} | {told(monju, 'difference')} | {', '.join(f'{p:.2g}' for p in monju['p_value'])} |")
    ways = sorted([row for row in first + found["one model"] if row["kind"] not in ("member",)], key=lambda row: -row["accuracy"]["mean"])
    more = ["| system | kind | accuracy | − baseline, points | p of each seed | NLL | ECE | passes |", "|---|---|---|---|---|---|---|---|"]
    more += [f"| {row['name']} | {row['kind']} | {told(row)} | {told(row, 'difference')} | {', '.join(f'{p:.2g}' for p in row['p_value'])} | "
             f"{row['nll']['mean']:.3f} | {row['ece']['mean']:.3f} | {row['forward_passes']} |" for row in ways]
    page = HERE / "study.md"
    text = page.read_text()
    for mark, table in (("variants", lines), ("systems", more)):
        before, rest = text.split(f"<!-- {mark} -->\n")[0], text.split(f"<!-- /{mark} -->")[1]
        text = before + f"<!-- {mark} -->\n" + "\n".join(table) + f"\n<!-- /{mark} -->" + rest
    page.write_text(text)
    points = [(name, row_of(rows, "monju")) for name, rows in found["variants"].items()]
    (HERE / "study.svg").write_text(picture([("baseline", baseline), *points]))


def row_of(rows, name):
    return next(row for row in rows if row["name"] == name)


def told(row, key="accuracy"):
    sd = row[key]["sd"]
    return f"{100 * row[key]['mean']:{'+.2f' if key == 'difference' else '.2f'}}" + (f" ± {100 * sd:.2f}" if sd is not None else "")


def picture(points):
    """Mean and standard deviation of each, one below another, and every seed as a dot."""
    values = [100 * value for _, row in points for value in row["accuracy"]["values"]]
    low, high = min(values) - 0.5, max(values) + 0.5
    drawn, width, left = "", 900, 390

    def x(value):
        return left + (width - left - 30) * (value - low) / (high - low)

    mean = x(100 * points[0][1]["accuracy"]["mean"])
    height = 60 + 40 * len(points)
    for i, (name, row) in enumerate(points):
        y, found, colour = 40 + 40 * i, row["accuracy"], "#d55e00" if i == 0 else "#0072b2"
        reach = 100 * (found["sd"] or 0)
        centre = 100 * found["mean"]
        drawn += f'<text x="{left - 14}" y="{y + 5}" text-anchor="end">{escape(name)}</text>'
        drawn += f'<path d="M{x(centre - reach):.1f} {y}H{x(centre + reach):.1f}" stroke="{colour}" stroke-width="3"/>'
        drawn += "".join(f'<circle cx="{x(100 * value):.1f}" cy="{y}" r="4" fill="none" stroke="{colour}"/>' for value in found["values"])
        drawn += f'<rect x="{x(centre) - 5:.1f}" y="{y - 5}" width="10" height="10" fill="{colour}"><title>{centre:.2f} %</title></rect>'
    ticks = "".join(f'<text x="{x(tick):.1f}" y="{height - 8}" text-anchor="middle" fill="#566174">{tick} %</text>'
                    for tick in range(int(low) + 1, int(high) + 1))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="15">'
            f'<rect width="{width}" height="{height}" fill="#fff"/><path d="M{mean:.1f} 20V{height - 30}" stroke="#d55e00" stroke-dasharray="4 4"/>'
            f"{drawn}{ticks}</svg>\n")


if __name__ == "__main__":
    main()
