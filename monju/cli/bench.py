"""The command bench: speed beside what one would otherwise use."""

import argparse
import json
from typing import Any

from monju import config as schema
from monju import presets
from monju.cli.flags import add_device_and_json, add_settings, settings_of, tell_progress
from monju.errors import MonjuError


def add_bench(commands: Any) -> None:
    """Add the command `bench`."""
    bench = commands.add_parser("bench", help="speed against what one would otherwise use")
    kinds = bench.add_subparsers(required=True, metavar="predict|train")
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
