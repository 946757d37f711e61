"""The command line: `python -m monju COMMAND`, with the commands of `parser`.

data, train, evaluate, compare, report, predict, write, distill, refresh, map, sweep, bench, prefetch, app.
Flags are drawn from the schema in `config`; the work is done elsewhere. Bad input ends in one line and exit
code 2.
"""

import argparse
import signal
import sys
from typing import Any

from monju.cli.bench import add_bench
from monju.cli.language import add_write
from monju.cli.runs import (
    add_compare,
    add_evaluate,
    add_map,
    add_predict,
    add_prefetch,
    add_refresh,
    add_report,
)
from monju.cli.training import INTERRUPTED, add_data, add_distill, add_sweep, add_train
from monju.errors import MonjuError
from monju.utils.quiet import quiet


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
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_train, add_data, add_evaluate, add_predict, add_write, add_compare, add_report,
                add_distill, add_refresh, add_map, add_sweep, add_bench, add_prefetch, add_app):
        add(commands)
    return root


def add_app(commands: Any) -> None:
    """Add the command `app`."""
    app = commands.add_parser("app", help="the page in the browser")
    app.set_defaults(command=run_app)
    app.add_argument("run", metavar="RUN", nargs="?", help="the run to open on (the one that ships)")
    app.add_argument("--open-to-all", action="store_true",
                     help="let whoever reaches the page train and delete runs")


def run_app(args: argparse.Namespace) -> None:
    """Serve the page."""
    from monju.ui import launch

    # as the end of a program, which removes its files and ends its processes: by itself a signal ends one at
    # once, and the first process of a container not at all
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    launch(args.run, args.open_to_all)
