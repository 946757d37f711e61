"""Sweep: the same experiment with several seeds, and with every combination of a few settings, trained once
each.

Runs lie in one folder, each named by what it was trained with: a second sweep over the same folder trains
only what is new, models that two runs share (a baseline, under other clusters) are copied, and settings of
the gate and the fusion train nothing at all. Its rows are those of `compare` on the stored predictions, over
the seeds.
"""

import hashlib
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from monju.config import SETTINGS, group
from monju.errors import MonjuError
from monju.evaluation.comparison import compare
from monju.inference.pipeline import Monju
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run
from monju.training import estimate
from monju.training.pipeline import Stage, train
from monju.utils.files import write

GATED = [name for name in SETTINGS if group(name) == "fusion"]  # need no training
ASIDE = [*GATED, "workers", "device", "map_size"]  # change no weight


def combinations(config, over):
    """Every configuration of a grid {setting: values}, as (settings, Config). Raises MonjuError for one that
    cannot be."""
    return [(settings, replace(config, **settings)) for values in product(*over.values())
            for settings in [dict(zip(over, values))]]


def place(out, config):
    """The folder of a configuration's run."""
    said = {name: value for name, value in config.to_json().items() if name not in ASIDE}
    return Path(out) / f"{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:10]}-seed{config.seed}"


def sweep(config, over, out, seeds=1, budget=None):
    """Train what the folder `out` lacks, then measure: a generator of Stage and Progress, which leaves
    sweep.json there.

    `over`: {setting: values}; `seeds`: as many runs of each combination, with config.seed and those that
    follow; `budget`: minutes that the missing trainings may take, measured by a few real steps before the
    first starts. Raises MonjuError for a grid that cannot be, and where the budget would not do.
    """
    if seeds < 1:
        raise MonjuError("--seeds must be at least 1")
    asked = [(settings, [replace(one, seed=config.seed + i) for i in range(seeds)])
             for settings, one in combinations(config, over)]
    wanted = {place(out, one): one for _, repeats in asked for one in repeats}
    missing = {path: one for path, one in wanted.items() if not (path / "run.json").exists()
               or not Run.open(path).finished}
    yield Stage(f"{len(wanted)} runs, {len(wanted) - len(missing)} of them trained already.")
    if budget is not None:
        refuse_over(budget, missing)
    for number, (path, one) in enumerate(missing.items(), 1):
        yield Stage(f"Run {number} of {len(missing)}: {path.name}")
        yield from train(one, path, resume=(path / "run.json").exists(), siblings=finished(out))
    yield Stage("Comparing on the stored predictions.")
    rows = [row for settings, repeats in asked for row in measured(settings, repeats, out)]
    found = {"seeds": [config.seed + i for i in range(seeds)], "over": over, "rows": rows}
    write(Path(out) / "sweep.json", json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def refuse_over(budget, missing):
    """Raise MonjuError where the trainings would take more than `budget` minutes."""
    minutes, told = 0.0, {}
    for one in missing.values():
        alike = json.dumps({**one.to_json(), "seed": 0})  # seeds take the same time
        if alike not in told:
            *_, last = estimate.estimate(one)
            told[alike] = last["seconds"] / 60
        minutes += told[alike]
    if minutes > budget:
        raise MonjuError(f"the {len(missing)} trainings would take about {minutes:.0f} minutes, more than "
                         f"--budget {budget:g}: "
                         "ask for fewer values or --seeds, a smaller --sample, or a larger --budget")


def finished(out):
    """The folders of the finished runs in `out`."""
    return [path.parent for path in sorted(Path(out).glob("*/run.json")) if Run.open(path.parent).finished]


def measured(settings, repeats, out):
    """The rows of one combination, each `compare` row over its seeds: lists, and mean and standard deviation
    of them."""
    tables = []
    for one in repeats:
        run = Run.open(place(out, one)).check()
        monju = Monju.of(run, one.device, controls=True).under(**{name: getattr(one, name) for name in GATED})
        votes, labels = load_predictions(run)
        tables.append({row["name"]: row for row in compare(monju, labels, votes=votes)["rows"]})
        n = len(labels)
    rows = []
    for name in (name for name in tables[0] if all(name in table for table in tables)):
        found = [table[name] for table in tables]
        rows.append({"settings": settings, "name": name, "kind": found[0]["kind"], "n": n,
                     **{key: spread([row[key] for row in found])
                        for key in ("accuracy", "nll", "ece", "difference")},
                     "p_value": [row["p_value"] for row in found],
                     "forward_passes": found[0]["forward_passes"],
                     "train_tokens": found[0]["train_tokens"]})
    return rows


def spread(values):
    """{"values", "mean", "sd"}; a single value has no standard deviation."""
    return {"values": values, "mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))
            if len(values) > 1 else None}
