"""Flags that several commands share, drawn from the schema in `config`, and how a command prints."""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from monju import config as schema

DEFAULTS = {"True": "yes", "False": "no"}  # what people read in their place


def add_evaluation_data(command: argparse.ArgumentParser) -> None:
    """Add the flags of the run, and of the labelled sentences for `evaluate` and `compare`."""
    command.add_argument("run", metavar="RUN", help="a finished run's folder")
    command.add_argument("--data", metavar="SOURCE",
                         help="labelled sentences, or documents for language models: their held-out part "
                         "where there is one (documents: the run's own)")
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


def report(metrics: dict[str, Any], as_json: bool) -> None:
    """Print a metrics dictionary as JSON or as tables."""
    if as_json:
        print(json.dumps(metrics, indent=1, ensure_ascii=False))
    else:
        from monju.reporting.console import print_metrics
        from monju.reporting.perplexity import print_perplexities

        (print_perplexities if metrics.get("task") == "lm" else print_metrics)(metrics)


def tell_progress(text: str) -> None:
    """Print a line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)
