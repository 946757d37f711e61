"""Commands on a finished run: evaluate, compare, predict, report, refresh, map, prefetch."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from monju.cli import language
from monju.cli.flags import add_device_and_json, add_evaluation_data, add_settings, report, settings_of
from monju.errors import MonjuError
from monju.utils.files import ROOT

# what a finished run can take on without training
REFRESHABLE = ("gate", "sharpness", "temperature", "power", "top_k", "fusion", "map_size", "device")


def add_evaluate(commands: Any) -> None:
    """Add the command `evaluate`."""
    evaluate = commands.add_parser("evaluate", help="the results table on a labelled source")
    evaluate.set_defaults(command=run_evaluate)
    add_evaluation_data(evaluate)
    language.add_texts(evaluate)
    add_device_and_json(evaluate)


def run_evaluate(args: argparse.Namespace) -> None:
    """Print a run's table on labelled sentences, or of language models on documents."""
    if writes(args.run):
        return language.evaluate_texts(args)
    language.refuse_missing_data(args)
    from monju.data import sources
    from monju.ensemble import gates
    from monju.evaluation import out_of_scope, run_table
    from monju.runs.prediction_store import as_stored

    monju, labelled, notes = evaluated(args)
    cost = monju.run.read_json("metrics.json").get("cost")
    predictions = as_stored(monju.outputs(labelled.texts)).decide_as(monju.config)
    table = run_table.table(predictions, labelled.labels, cost, repr(gates.make(monju.config)))
    if outside := sources.load_out_of_scope(args.data, args.text_column):
        table["out_of_scope"] = out_of_scope.table(predictions, monju.predict(outside))
    return report(table | {"notes": notes}, args.json)


def add_predict(commands: Any) -> None:
    """Add the command `predict`."""
    predict = commands.add_parser("predict", help="what every model and both ensembles say of sentences")
    predict.set_defaults(command=run_predict)
    predict.add_argument("run", metavar="RUN", help="a finished run's folder")
    predict.add_argument("texts", metavar="TEXT", nargs="+",
                         help="a sentence; - reads one a line from standard input")
    add_device_and_json(predict)


def run_predict(args: argparse.Namespace) -> None:
    """Print a run's readings of sentences."""
    from monju.inference.pipeline import Monju
    from monju.reporting.console import tell

    texts = [line for text in args.texts for line in (typed() if text == "-" else [text])]
    if writes(args.run):
        return language.predict_texts(args, texts)
    readings = Monju.load(args.run, args.device).read(texts)
    if args.json:
        print(json.dumps([reading.to_json() for reading in readings], indent=1, ensure_ascii=False))
    else:
        tell(readings)


def add_compare(commands: Any) -> None:
    """Add the command `compare`."""
    compare = commands.add_parser("compare",
                                  help="every ensemble, gate and merge that the run allows, side by side")
    compare.set_defaults(command=run_compare)
    add_evaluation_data(compare)
    add_device_and_json(compare)


def run_compare(args: argparse.Namespace) -> None:
    """Print every gate, weighting and merge that a run allows, side by side."""
    if writes(args.run):
        return language.compare_texts(args)
    language.refuse_missing_data(args)
    from monju.evaluation.comparison import compare
    from monju.reporting.console import print_comparison

    monju, labelled, notes = evaluated(args)
    comparison = compare(monju, labelled.labels, labelled.texts, source=args.data) | {"notes": notes}
    print(json.dumps(comparison, indent=1, ensure_ascii=False)) if args.json else print_comparison(comparison)


def add_report(commands: Any) -> None:
    """Add the command `report`."""
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


def add_refresh(commands: Any) -> None:
    """Add the command `refresh`."""
    refresh = commands.add_parser("refresh",
                                  help="measure a finished run again: predictions, table and map, also under "
                                  "another gate", argument_default=argparse.SUPPRESS)
    refresh.set_defaults(command=run_refresh)
    refresh.add_argument("run", metavar="RUN", help="a finished run's folder; it is rewritten in place")
    refresh.add_argument("--data", metavar="SOURCE",
                         help="where the run's own sentences are now (where they were)")
    add_settings(refresh, only=REFRESHABLE)
    refresh.add_argument("--eight-bits", action="store_true",
                         help="store the adapters' factors in 8 bits: smaller files, almost the same logits")
    refresh.add_argument("--json", action="store_true", help="print metrics.json instead of the table")


def run_refresh(args: argparse.Namespace) -> None:
    """Measure a finished run again, and rewrite what follows from its models."""
    from monju.evaluation.results import refresh
    from monju.runs.run import Run

    with Run.changing(args.run) as run:
        print(f"Reading the sentences of {args.run} with every model, then drawing its map.", file=sys.stderr)
        table = refresh(run, settings_of(args, without=("data",)), vars(args).get("data"),
                        "eight_bits" in vars(args))
    return report(table, vars(args).get("json"))


def add_map(commands: Any) -> None:
    """Add the command `map`."""
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


def run_map(args: argparse.Namespace) -> None:
    """Draw a run's map of its sentences."""
    from monju.evaluation import cluster_map
    from monju.inference.pipeline import Monju
    from monju.runs.run import Run
    from monju.runs.run_data import read_again

    with Run.changing(args.run) as run:
        train = read_again(run, run.manifest["data"]["fingerprint"], args.data).train
        print(f"Drawing the map of {args.run}.", file=sys.stderr)
        with run.replacing() as new:
            cluster_map.build(new, Monju.of(new, args.device), train, args.size)


def writes(path: str) -> bool:
    """Return whether a run's models are language models. Raises MonjuError where there is no run."""
    from monju.runs.run import Run

    return Run.open(path).task == "lm"


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


def add_prefetch(commands: Any) -> None:
    """Add the command `prefetch`."""
    fetch = commands.add_parser("prefetch", help="keep a run's sentences and backbone for a start without a "
                                "network")
    fetch.set_defaults(command=run_prefetch)
    fetch.add_argument("run", metavar="RUN", nargs="?",
                       help="a finished run's folder, or its name there (all runs in trained/)")


def run_prefetch(args: argparse.Namespace) -> int:
    """Fetch what runs read from elsewhere; return 1 where something is missing."""
    from monju.runs import registry
    from monju.runs.prefetch import prefetch

    trained = Path(os.environ.get("MONJU_RUNS") or ROOT / "trained")
    if args.run is None:
        paths = sorted(manifest.parent for manifest in registry.manifests(trained))
    else:
        paths = [Path(args.run) if os.path.isdir(args.run) else trained / args.run]
    missing = 0
    for text, kept in prefetch(paths):
        print(text, file=sys.stdout if kept else sys.stderr, flush=True)
        missing += not kept
    return int(missing > 0)
