"""Commands that train: data, train, sweep, distill."""

import argparse
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from monju import config as schema
from monju import presets
from monju.cli.flags import add_settings, report, settings_of
from monju.errors import MonjuError

INTERRUPTED = 130


def add_train(commands: Any) -> None:
    """Add the command `train`."""
    train = commands.add_parser("train", help="train a whole run: clusters, experts, baseline, evaluation",
                                argument_default=argparse.SUPPRESS)
    train.set_defaults(command=run_train)
    train.add_argument("--out", required=True, metavar="DIR", help="the run's folder")
    train.add_argument("--resume", action="store_true",
                       help="continue the unfinished run in --out with its own settings")
    train.add_argument("--preset", choices=("auto", *presets.PRESETS),
                       help="settings to start from; auto is poster where there is a GPU "
                       "and the hub answers, laptop elsewhere")
    train.add_argument("--json", action="store_true", help="print metrics.json instead of the table")
    add_engine(train)
    add_settings(train)


def run_train(args: argparse.Namespace) -> int | None:
    """Train a run, or resume one, and print its table."""
    from monju.reporting.console import show
    from monju.runs.run import Run, command
    from monju.training.pipeline import train

    settings = settings_of(args)
    if args.__dict__.get("resume"):
        if settings or "preset" in vars(args):
            extra = schema.flag(next(iter(settings), "preset"))
            raise MonjuError(f"--resume continues a run with its own settings: leave out {extra}, "
                             "or train a new run in another --out")
        chosen = None
    else:
        base, why = base_of(settings, vars(args).get("preset"))
        print(why, file=sys.stderr)
        chosen = schema.Config(**{**base, **settings})
    try:
        with redirect_stdout(sys.stderr):  # Ray prints what befalls its machines
            show(train(chosen, args.out, resume=chosen is None, engine=engine_of(args)))
    except KeyboardInterrupt:
        if not os.path.exists(os.path.join(args.out, "run.json")):
            raise  # stopped before there was anything to continue
        print(f"monju: stopped; continue with `{command(args.out)} --resume`.", file=sys.stderr)
        return INTERRUPTED
    return report(Run.open(args.out).read_json("metrics.json"), vars(args).get("json"))


def add_engine(command: argparse.ArgumentParser) -> None:
    """Add the flags of where models are trained, which change nothing of the result."""
    command.add_argument("--engine", choices=("local", "ray"),
                         help="where the models are trained: the processes of this machine, or a Ray "
                         "cluster (docs/cluster.md) [local]")
    command.add_argument("--address", metavar="HOST:PORT",
                         help="the Ray cluster's head ($RAY_ADDRESS, or the cluster of this machine)")


def engine_of(args: argparse.Namespace) -> Any:
    """Return the engine that a command's flags name."""
    from monju.training import engines

    return engines.make(vars(args).get("engine", "local"), vars(args).get("address"))


def base_of(settings: dict[str, Any], preset: str | None) -> tuple[dict[str, Any], str]:
    """Return the settings that a training starts from, and one line on which and why."""
    if settings.get("task") == "lm" and preset is None:
        return presets.choose_writer()
    preset, why = presets.choose_preset(preset or "auto")
    return presets.PRESETS[preset], why


def add_data(commands: Any) -> None:
    """Add the command `data`."""
    data = commands.add_parser("data", help="what would be read of a source, without training",
                               argument_default=argparse.SUPPRESS)
    data.set_defaults(command=run_data)
    data.add_argument("data", metavar="SOURCE",
                      help="a name, a hub dataset, a file or a folder, as for `train --data`")
    add_settings(data, only=("text_column", "label_column", "domain_column", "label_names", "keep_overlap",
                             "sample", "tuning_size", "backbone", "max_tokens", "seed"))
    data.add_argument("--json", action="store_true", help="print JSON")


def run_data(args: argparse.Namespace) -> None:
    """Print what is read of a source."""
    from monju.data import sources
    from monju.models import backbones
    from monju.reporting.console import print_data

    config = schema.Config(**settings_of(args))
    data = sources.load_for(config)
    tokens = backbones.token_summary(config.backbone, data.texts, config.max_tokens)
    summary = {"train": len(data.train.texts), "validation": len(data.validation.texts),
               "tuning": len(data.tuning.texts) if data.tuning else 0,
               "classes": data.classes, "overlap": data.overlap,
               "cut": tokens["cut"], "unknown_tokens": tokens["unknown_tokens"],
               "notes": [note.to_json() for note in [*data.notes, *tokens["notes"]]]}
    if vars(args).get("json"):
        print(json.dumps(summary, indent=1, ensure_ascii=False))
    else:
        print_data(summary)


def add_sweep(commands: Any) -> None:
    """Add the command `sweep`."""
    sweep = commands.add_parser("sweep",
                                help="several seeds, and every combination of a few settings, "
                                "each trained once",
                                argument_default=argparse.SUPPRESS)
    sweep.set_defaults(command=run_sweep)
    sweep.add_argument("--out", required=True, metavar="DIR",
                       help="the folder of its runs; what it holds already is not trained again")
    sweep.add_argument("--over", action="append", metavar="SETTING=A,B,C",
                       help="a setting and its values, such as k=3,4 or sharpness=0,1,4; "
                       "may be given several times")
    sweep.add_argument("--seeds", type=int, metavar="N",
                       help="runs of each combination, mean and sd over them are told [1]")
    sweep.add_argument("--budget", type=float, metavar="MINUTES",
                       help="refuse to start where the trainings would take longer")
    sweep.add_argument("--preset", choices=("auto", *presets.PRESETS), help="settings to start from")
    sweep.add_argument("--json", action="store_true", help="print sweep.json instead of the table")
    add_engine(sweep)
    add_settings(sweep)


def run_sweep(args: argparse.Namespace) -> None:
    """Train every combination of a few settings, and print their comparison."""
    from monju.reporting.console import print_sweep, show
    from monju.reporting.figures import sweep_plot
    from monju.training.sweep import sweep
    from monju.utils.files import write

    preset, why = presets.choose_preset(vars(args).get("preset", "auto"))
    print(why, file=sys.stderr)
    config = schema.Config(**{**presets.PRESETS[preset], **settings_of(args)})
    if config.task != "classify":
        raise MonjuError("a sweep compares accuracies: train language models one by one, with `train --task "
                         "lm`")
    over = {}
    for text in vars(args).get("over", []):
        name, _, values = text.partition("=")
        if not values:
            raise MonjuError(f"--over {text} names no values: write it as --over k=3,4")
        over[name.strip().removeprefix("--").replace("-", "_")] = values.split(",")
    not_varied = ("backbones", "orders", "label_names", "seed")
    if unknown := [name for name in over if name not in schema.SETTINGS or name in not_varied]:
        raise MonjuError(f"--over cannot vary {unknown[0]!r}: name a setting of `train` that has one value "
                         "(--seeds varies the seed)")
    with redirect_stdout(sys.stderr):  # as in `run_train`
        show(sweep(config, over, args.out, vars(args).get("seeds", 1), vars(args).get("budget"),
                   engine_of(args)))
    with open(os.path.join(args.out, "sweep.json"), encoding="utf-8") as file:
        results = json.load(file)
    path = os.path.join(args.out, "sweep.html")
    write(Path(path), sweep_plot(results).to_html(include_plotlyjs=True))
    print(f"The picture is in {path}.", file=sys.stderr)
    if vars(args).get("json"):
        print(json.dumps(results, indent=1, ensure_ascii=False))
    else:
        print_sweep(results)


def add_distill(commands: Any) -> None:
    """Add the command `distill`."""
    students = commands.add_parser("distill", help="teach one model what the ensemble of a finished run says")
    students.set_defaults(command=run_distill)
    students.add_argument("run", metavar="RUN",
                          help="a finished run's folder; its students are kept there, and `compare` has them")
    students.add_argument("--students", nargs="+", default=["same"], metavar="SIZE",
                          help="same: the backbone; half: every second layer of it [same]")
    students.add_argument("--targets", nargs="+", metavar="T",
                          default=["out-of-fold", "in-sample", "hard-labels"],
                          help="what they learn from [out-of-fold in-sample hard-labels]")
    students.add_argument("--data", metavar="SOURCE",
                          help="where the run's own sentences are now (where they were)")
    students.add_argument("--sample", type=int, metavar="N", help="training sentences to learn from (all)")
    students.add_argument("--epochs", type=float, metavar="N", help="number of epochs (the run's)")
    students.add_argument("--temperature", type=float, metavar="T",
                          help="softens the targets (chosen on the tuning split)")
    students.add_argument("--mixing", type=float, metavar="L",
                          help="weight of the teacher against the labels (chosen likewise)")
    students.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                          help="where to compute")


def run_distill(args: argparse.Namespace) -> None:
    """Train students of a run's ensemble."""
    from monju.reporting.console import show
    from monju.training.distill import distill

    show(distill(args.run, args.students, args.targets, args.sample, args.epochs, args.temperature,
                 args.mixing, args.device, args.data))
