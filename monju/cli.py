"""The command line: `python -m monju COMMAND`, with the commands of `parser`.

data, train, evaluate, compare, report, predict, distill, refresh, map, sweep, bench, app. Flags are drawn
from the schema in `config`; the work is done elsewhere. Bad input ends in one line and exit code 2.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from monju import config as schema
from monju import presets
from monju.errors import MonjuError
from monju.utils.quiet import quiet

INTERRUPTED = 130
# what a finished run can take on without training
REFRESHABLE = ("gate", "sharpness", "temperature", "power", "top_k", "fusion", "map_size", "device")
DEFAULTS = {"True": "yes", "False": "no"}  # what people read in their place


class Parser(argparse.ArgumentParser):
    """An argument parser whose error is one line."""

    def error(self, message):
        """Raise MonjuError in place of an exit."""
        raise MonjuError(f"{message} (see `{self.prog} --help`)")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    try:
        args = parser().parse_args(arguments)
        quiet()
        return args.command(args) or 0
    except MonjuError as error:
        print(f"monju: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("monju: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing is left to say
        return 1


def parser() -> Parser:
    """Return the parser of all commands and their flags."""
    root = Parser(prog="python -m monju",
                  description="Three language models, each an expert on two of three clusters, decide "
                  "together.")
    commands = root.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

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
    add_settings(train)

    data = commands.add_parser("data", help="what would be read of a source, without training",
                               argument_default=argparse.SUPPRESS)
    data.set_defaults(command=run_data)
    data.add_argument("data", metavar="SOURCE",
                      help="a name, a hub dataset, a file or a folder, as for `train --data`")
    add_settings(data, only=("text_column", "label_column", "domain_column", "label_names", "keep_overlap",
                             "sample", "tuning_size", "backbone", "max_tokens", "seed"))
    data.add_argument("--json", action="store_true", help="print JSON")

    evaluate = commands.add_parser("evaluate", help="the results table on a labelled source")
    evaluate.set_defaults(command=run_evaluate)
    add_evaluation_data(evaluate)
    add_device_and_json(evaluate)

    predict = commands.add_parser("predict", help="what every model and both ensembles say of sentences")
    predict.set_defaults(command=run_predict)
    predict.add_argument("run", metavar="RUN", help="a finished run's folder")
    predict.add_argument("texts", metavar="TEXT", nargs="+",
                         help="a sentence; - reads one a line from standard input")
    add_device_and_json(predict)

    compare = commands.add_parser("compare",
                                  help="every ensemble, gate and merge that the run allows, side by side")
    compare.set_defaults(command=run_compare)
    add_evaluation_data(compare)
    add_device_and_json(compare)

    report = commands.add_parser("report",
                                 help="a finished run's results as HTML, CSV or LaTeX, "
                                 "as the page gives them")
    report.set_defaults(command=run_report)
    report.add_argument("run", metavar="RUN", help="a finished run's folder")
    report.add_argument("--out", metavar="PATH", default=".",
                        help="an existing folder, or a new file; what is there is never overwritten "
                        "[monju-RUN.html here]")
    report.add_argument("--format", choices=("html", "csv", "latex"),
                        help="what to write (what the ending of --out says, else html)")
    report.add_argument("--language", choices=("en", "ja"), default="en", help="of the HTML [en]")

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

    refresh = commands.add_parser("refresh",
                                  help="measure a finished run again: predictions, table and map, also under "
                                  "another gate", argument_default=argparse.SUPPRESS)
    refresh.set_defaults(command=run_refresh)
    refresh.add_argument("run", metavar="RUN", help="a finished run's folder; it is rewritten in place")
    refresh.add_argument("--data", metavar="SOURCE",
                         help="where the run's own sentences are now, kept as its source (where they were)")
    add_settings(refresh, only=REFRESHABLE)
    refresh.add_argument("--json", action="store_true", help="print metrics.json instead of the table")

    map_command = commands.add_parser("map",
                                      help="draw, or draw again, the map of a finished run's sentences")
    map_command.set_defaults(command=run_map)
    map_command.add_argument("run", metavar="RUN", help="a finished run's folder")
    map_command.add_argument("--data", metavar="SOURCE",
                             help="where the run's own sentences are now (where they were)")
    map_command.add_argument("--size", type=int, default=10_000, metavar="N",
                             help="sentences on it, at most 10,000 [10000]")
    map_command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                             help="where to compute")

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
    add_settings(sweep)

    bench = commands.add_parser("bench", help="speed against what one would otherwise use")
    kinds = bench.add_subparsers(required=True, metavar="predict|train", parser_class=Parser)
    bench_predict = kinds.add_parser("predict",
                                     help="a run's models against transformers pipelines "
                                     "and ONNX Runtime sessions, on a GPU compiled pipelines")
    bench_predict.set_defaults(command=run_bench_predict)
    bench_predict.add_argument("run", metavar="RUN", nargs="?",
                               help="a finished run's folder (the one that ships)")
    bench_predict.add_argument("--data", metavar="SOURCE",
                               help="labelled sentences "
                               "(the run's own, or made-up ones where they are not here)")
    bench_predict.add_argument("--rounds", type=int, default=40, metavar="N",
                               help="sentences that are timed one at a time [40]")
    bench_predict.add_argument("--passes", type=int, default=1, metavar="N",
                               help="how often all sentences are timed together [1]")
    bench_predict.add_argument("--sentences", type=int, metavar="N",
                               help="how many sentences are read together (all)")
    add_device_and_json(bench_predict)
    bench_train = kinds.add_parser("train",
                                   help="three experts against transformers' Trainer, ordinary and tuned",
                                   argument_default=argparse.SUPPRESS)
    bench_train.set_defaults(command=run_bench_train)
    length = bench_train.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="steps of each model [100]")
    length.add_argument("--seconds", type=float, metavar="S",
                        help="about so long with the ordinary Trainer, instead of --steps")
    bench_train.add_argument("--rounds", type=int, metavar="N",
                             help="how often each is timed, in turn; the median counts [1]")
    bench_train.add_argument("--json", action="store_true", help="print JSON")
    add_settings(bench_train, without=("rounds",))  # a bench's rounds are its own

    app = commands.add_parser("app", help="the page in the browser")
    app.set_defaults(command=run_app)
    app.add_argument("run", metavar="RUN", nargs="?", help="the run to open on (the one that ships)")
    app.add_argument("--open-to-all", action="store_true",
                     help="let whoever reaches the page train and delete runs")
    return root


def add_evaluation_data(command: argparse.ArgumentParser) -> None:
    """Add the flags of the run, and of the labelled sentences for `evaluate` and `compare`."""
    command.add_argument("run", metavar="RUN", help="a finished run's folder")
    command.add_argument("--data", required=True, metavar="SOURCE",
                         help="labelled sentences: their held-out part where there is one")
    for name in ("text_column", "label_column"):
        command.add_argument(schema.flag(name), metavar="NAME")
    command.add_argument("--keep-trained", action="store_true",
                         help="also count sentences that the run trained on")


def add_settings(command: argparse.ArgumentParser, without: Sequence[str] = (),
                 only: Sequence[str] | None = None) -> None:
    """Add one flag per setting of the schema (or of those in `only`), grouped as the schema groups them."""
    args = [name for name in schema.SETTINGS if name not in without and (only is None or name in only)]
    for title, names in groupby(args, key=schema.group):
        group = command.add_argument_group(title)
        for name in names:
            kind, setting = schema.kind(name), schema.SETTINGS[name]
            text, default = setting.description, setting.default
            if default not in (None, []):
                text += f" [{DEFAULTS.get(str(default), default)}]"
            if kind is bool:
                options = {"action": argparse.BooleanOptionalAction}
            elif kind is list:
                options = {"nargs": "+", "metavar": "NAME"}
            else:
                options = {"type": kind, "choices": schema.choices(name),
                           "metavar": None if kind is str else "N"}
            group.add_argument(schema.flag(name), help=text.replace("%", "%%"), **options)


def settings_of(args: argparse.Namespace, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings that were given among a command's flags."""
    names = schema.SETTINGS.keys() - set(without)
    return {name: value for name, value in vars(args).items() if name in names}


def add_device_and_json(command: argparse.ArgumentParser) -> None:
    """Add the flags for the device, and for JSON in place of tables."""
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    command.add_argument("--json", action="store_true", help="print JSON")


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
        preset, why = presets.choose_preset(vars(args).get("preset", "auto"))
        print(why, file=sys.stderr)
        chosen = schema.Config(**{**presets.PRESETS[preset], **settings})
    try:
        show(train(chosen, args.out, resume=chosen is None))
    except KeyboardInterrupt:
        if not os.path.exists(os.path.join(args.out, "run.json")):
            raise  # stopped before there was anything to continue
        print(f"monju: stopped; continue with `{command(args.out)} --resume`.", file=sys.stderr)
        return INTERRUPTED
    return report(Run.open(args.out).read_json("metrics.json"), vars(args).get("json"))


def run_sweep(args: argparse.Namespace) -> None:
    """Train every combination of a few settings, and print their comparison."""
    from monju.reporting.console import print_sweep, show
    from monju.reporting.figures import sweep_plot
    from monju.training.sweep import sweep
    from monju.utils.files import write

    preset, why = presets.choose_preset(vars(args).get("preset", "auto"))
    print(why, file=sys.stderr)
    config = schema.Config(**{**presets.PRESETS[preset], **settings_of(args)})
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
    show(sweep(config, over, args.out, vars(args).get("seeds", 1), vars(args).get("budget")))
    with open(os.path.join(args.out, "sweep.json"), encoding="utf-8") as file:
        results = json.load(file)
    path = os.path.join(args.out, "sweep.html")
    write(Path(path), sweep_plot(results).to_html(include_plotlyjs=True))
    print(f"The picture is in {path}.", file=sys.stderr)
    if vars(args).get("json"):
        print(json.dumps(results, indent=1, ensure_ascii=False))
    else:
        print_sweep(results)


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


def evaluated(args: argparse.Namespace) -> tuple:
    """Return (run, labelled sentences, notes) of `evaluate` or `compare`; print the notes to stderr."""
    from monju.inference.pipeline import Monju
    from monju.runs.run_data import evaluation_data

    monju = Monju.load(args.run, args.device, controls=True)
    labelled, notes = evaluation_data(monju.run, args.data, text_column=args.text_column,
                                      label_column=args.label_column, keep_trained=args.keep_trained)
    for note in notes:
        print(note.text(), file=sys.stderr)
    return monju, labelled, [note.to_json() for note in notes]


def run_evaluate(args: argparse.Namespace) -> None:
    """Print a run's table on labelled sentences."""
    from monju.data import sources
    from monju.ensemble import gates
    from monju.evaluation import metrics, out_of_scope

    monju, labelled, notes = evaluated(args)
    cost, predictions = monju.run.read_json("metrics.json").get("cost"), monju.predict(labelled.texts)
    table = metrics.table(predictions, labelled.labels, cost, repr(gates.make(monju.config)))
    if outside := sources.load_out_of_scope(args.data, args.text_column):
        table["out_of_scope"] = out_of_scope.table(predictions, monju.predict(outside))
    return report(table | {"notes": notes}, args.json)


def run_compare(args: argparse.Namespace) -> None:
    """Print every gate, weighting and merge that a run allows, side by side."""
    from monju.evaluation.comparison import compare
    from monju.reporting.console import print_comparison

    monju, labelled, notes = evaluated(args)
    comparison = compare(monju, labelled.labels, labelled.texts, source=args.data) | {"notes": notes}
    print(json.dumps(comparison, indent=1, ensure_ascii=False)) if args.json else print_comparison(comparison)


def run_report(args: argparse.Namespace) -> None:
    """Write a run's results to a file."""
    from monju.reporting import report as reports
    from monju.runs.run import Run
    from monju.ui.i18n.translator import Translator
    from monju.utils.files import write

    out, into_folder = Path(args.out), os.path.isdir(args.out)
    by_ending = {ending: name for name, (ending, _) in reports.FORMATS.items()}
    ending, render = reports.FORMATS[args.format or (not into_folder and by_ending.get(out.suffix)) or "html"]
    results = reports.Results.of(Run.open(args.run))
    if not into_folder and out.suffix != ending:
        raise MonjuError(f"{out} is neither an existing folder nor a name that ends in {ending}: "
                         "choose another --out or --format")
    path = out / f"monju-{results.name}{ending}" if into_folder else out
    if os.path.lexists(path):
        raise MonjuError(f"{path} is there already: choose another --out, or delete it first")
    try:
        write(path, render(results, Translator(args.language)))
    except OSError as error:
        raise MonjuError(f"{path} cannot be written ({error.strerror}): choose another --out") from None
    print(path)


def run_predict(args: argparse.Namespace) -> None:
    """Print a run's readings of sentences."""
    from monju.inference.pipeline import Monju
    from monju.reporting.console import tell

    texts = [line for text in args.texts for line in (typed() if text == "-" else [text])]
    readings = Monju.load(args.run, args.device).read(texts)
    if args.json:
        print(json.dumps([reading.to_json() for reading in readings], indent=1, ensure_ascii=False))
    else:
        tell(readings)


def run_distill(args: argparse.Namespace) -> None:
    """Train students of a run's ensemble."""
    from monju.reporting.console import show
    from monju.training.distill import distill

    show(distill(args.run, args.students, args.targets, args.sample, args.epochs, args.temperature,
                 args.mixing, args.device, args.data))


def run_bench_predict(args: argparse.Namespace) -> None:
    """Print how fast a run reads sentences, compared with its peers."""
    from monju.benchmark import speed
    from monju.reporting.console import print_bench

    if min(args.rounds, args.passes, args.sentences or 1) < 1 or args.sentences == 0:
        raise MonjuError("--rounds, --passes and --sentences must be at least 1")
    result = speed.predict(args.run, args.data, args.rounds, args.passes, args.sentences, args.device,
                           tell_progress)
    print(json.dumps(result, indent=1, ensure_ascii=False)) if args.json else print_bench(result)


def run_bench_train(args: argparse.Namespace) -> None:
    """Print how fast experts are trained, compared with transformers' Trainer."""
    from monju.benchmark import speed
    from monju.reporting.console import print_bench

    settings = settings_of(args, without=("rounds",))
    limits = {name: vars(args)[name] for name in ("steps", "seconds", "rounds") if name in vars(args)}
    for name, value in limits.items():
        if not 0 < value < float("inf"):
            raise MonjuError(f"--{name} must be more than 0")
    result = speed.train(schema.Config(**{**presets.PRESETS["laptop"], **settings}), tell=tell_progress,
                         **limits)
    print(json.dumps(result, indent=1, ensure_ascii=False)) if vars(args).get("json") else print_bench(result)


def tell_progress(text: str) -> None:
    """Print a line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def typed() -> list[str]:
    """Return the lines of standard input."""
    try:
        lines = sys.stdin.read().split("\n")  # not splitlines, which also cuts at form feeds and the like
    except UnicodeDecodeError:
        raise MonjuError("standard input is not UTF-8: convert it first") from None
    if not lines[-1]:
        lines.pop()  # what follows the last line's end
    if not lines:
        raise MonjuError("there is no sentence on standard input: give one a line")
    return lines


def run_map(args: argparse.Namespace) -> None:
    """Draw a run's map of its sentences."""
    from monju.evaluation import cluster_map
    from monju.inference.pipeline import Monju
    from monju.runs.run import Run
    from monju.runs.run_data import read_again

    with Run.changing(args.run) as run:
        train = read_again(run, run.manifest["data"]["fingerprint"], args.data).train
        print(f"Drawing the map of {args.run}.", file=sys.stderr)
        cluster_map.build(run, Monju.of(run, args.device), train, args.size)
        run.finish()


def run_refresh(args: argparse.Namespace) -> None:
    """Measure a finished run again, and rewrite what follows from its models."""
    from monju.evaluation.results import refresh
    from monju.runs.run import Run

    with Run.changing(args.run) as run:
        print(f"Reading the sentences of {args.run} with every model, then drawing its map.", file=sys.stderr)
        table = refresh(run, settings_of(args))
    return report(table, vars(args).get("json"))


def run_app(args: argparse.Namespace) -> None:
    """Serve the page."""
    from monju.ui import launch

    # as the end of a program, which removes its files and ends its processes: by itself a signal ends one at
    # once, and the first process of a container not at all
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    launch(args.run, args.open_to_all)


def report(metrics: dict[str, Any], as_json: bool) -> None:
    """Print a metrics dictionary as JSON or as tables."""
    if as_json:
        print(json.dumps(metrics, indent=1, ensure_ascii=False))
    else:
        from monju.reporting.console import print_metrics

        print_metrics(metrics)
