"""Sweep: the same experiment with several seeds and combinations of settings, each trained once.

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
from monju.training.pipeline import train
from monju.training.progress import Stage
from monju.utils.files import write

GATED = [name for name in SETTINGS if group(name) == "fusion"]  # need no training
WEIGHTLESS = [*GATED, "workers", "device", "map_size"]  # change no weight


def combinations(config, over):
    """Return every configuration of a grid {setting: values}, as (settings, Config).

    Raises MonjuError for one that cannot be.
    """
    return [(settings, replace(config, **settings)) for values in product(*over.values())
            for settings in [dict(zip(over, values))]]


def place(out, config):
    """Return the folder of a configuration's run."""
    trained_with = {name: value for name, value in config.to_json().items() if name not in WEIGHTLESS}
    digest = hashlib.sha256(json.dumps(trained_with).encode()).hexdigest()[:10]
    return Path(out) / f"{digest}-seed{config.seed}"


def sweep(config, over, out, seeds=1, budget=None, engine=None):
    """Train the runs that the folder `out` lacks, then compare all of them and write sweep.json there.

    Parameters
    ----------
    config : Config
        The settings that all runs share.
    over : dict of str to list
        {setting: values}: every combination is trained.
    out : path
        The folder of the runs.
    seeds : int
        Runs of each combination, with config.seed and those that follow.
    budget : float, optional
        Minutes that the missing trainings may take, measured by a few real steps before the first starts.
    engine : Engine, optional
        Where the models of each run are trained: see `pipeline.train`.

    Yields
    ------
    Stage or Progress

    Raises
    ------
    MonjuError
        For a grid that cannot be, and where the trainings would take longer than the budget.
    """
    if seeds < 1:
        raise MonjuError("--seeds must be at least 1")
    grid = [(settings, [replace(run_config, seed=config.seed + i) for i in range(seeds)])
            for settings, run_config in combinations(config, over)]
    wanted = {place(out, run_config): run_config for _, repeats in grid for run_config in repeats}
    missing = {path: run_config for path, run_config in wanted.items() if not (path / "run.json").exists()
               or not Run.open(path).finished}
    yield Stage(f"{len(wanted)} runs, {len(wanted) - len(missing)} of them trained already.")
    if budget is not None:
        refuse_over(budget, missing)
    for number, (path, run_config) in enumerate(missing.items(), 1):
        yield Stage(f"Run {number} of {len(missing)}: {path.name}")
        yield from train(run_config, path, resume=(path / "run.json").exists(), siblings=finished(out),
                         engine=engine)
    yield Stage("Comparing on the stored predictions.")
    rows = [row for settings, repeats in grid for row in measured(settings, repeats, out)]
    result = {"seeds": [config.seed + i for i in range(seeds)], "over": over, "rows": rows}
    write(Path(out) / "sweep.json", json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def refuse_over(budget, missing):
    """Raise MonjuError where the trainings would take more than `budget` minutes."""
    minutes, minutes_of = 0.0, {}
    for run_config in missing.values():
        without_seed = json.dumps({**run_config.to_json(), "seed": 0})  # seeds take the same time
        if without_seed not in minutes_of:
            *_, last = estimate.estimate(run_config)
            minutes_of[without_seed] = last["seconds"] / 60
        minutes += minutes_of[without_seed]
    if minutes > budget:
        raise MonjuError(f"the {len(missing)} trainings would take about {minutes:.0f} minutes, more than "
                         f"--budget {budget:g}: "
                         "ask for fewer values or --seeds, a smaller --sample, or a larger --budget")


def finished(out):
    """Return the folders of the finished runs in `out`."""
    return [path.parent for path in sorted(Path(out).glob("*/run.json")) if Run.open(path.parent).finished]


def measured(settings, repeats, out):
    """Return the rows of one combination: each row of `compare`, over the seeds.

    Numbers become lists with their mean and standard deviation.
    """
    tables = []
    for run_config in repeats:
        run = Run.open(place(out, run_config)).check()
        gated = {name: getattr(run_config, name) for name in GATED}
        monju = Monju.of(run, run_config.device, controls=True).under(**gated)
        outputs, labels = load_predictions(run)
        tables.append({row["name"]: row for row in compare(monju, labels, outputs=outputs)["rows"]})
        n = len(labels)
    rows = []
    for name in (name for name in tables[0] if all(name in table for table in tables)):
        rows_of_seeds = [table[name] for table in tables]
        rows.append({"settings": settings, "name": name, "kind": rows_of_seeds[0]["kind"], "n": n,
                     **{key: spread([row[key] for row in rows_of_seeds])
                        for key in ("accuracy", "nll", "ece", "difference")},
                     "p_value": [row["p_value"] for row in rows_of_seeds],
                     "forward_passes": rows_of_seeds[0]["forward_passes"],
                     "train_tokens": rows_of_seeds[0]["train_tokens"]})
    return rows


def spread(values):
    """Return {"values", "mean", "sd"}; a single value has no standard deviation."""
    return {"values": values, "mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))
            if len(values) > 1 else None}
