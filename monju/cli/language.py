"""Commands on a run of language models: write; and what evaluate, compare and predict do for such a run."""

import argparse
import json
import sys
from typing import Any

from monju.cli.flags import add_device_and_json
from monju.errors import MonjuError


def add_write(commands: Any) -> None:
    """Add the command `write`."""
    write = commands.add_parser("write", help="continue a text with a run of language models, beside its "
                                "baseline")
    write.set_defaults(command=run_write)
    write.add_argument("run", metavar="RUN", help="a finished run's folder, trained with --task lm")
    write.add_argument("prompt", metavar="PROMPT", help="what the text begins with; it may be empty")
    for flag, kind, default, text in (
            ("--tokens", int, 60, "length at most"), ("--temperature", float, 0.8, "0: the likeliest token"),
            ("--top-p", float, 0.95, "draw from the likeliest tokens of this probability together"),
            ("--seed", int, 0, "of the draws"),
            ("--renew-every", int, None, "tokens after which α is worked out again (the run's)")):
        shown = "" if default is None else f" [{default}]"
        write.add_argument(flag, type=kind, default=default, metavar="N", help=text + shown)
    write.add_argument("--stop", nargs="+", default=[], metavar="TEXT", help="end before any of these")
    write.add_argument("--gate", metavar="NAME", help="a gate, uniform or likelihood (the run's)")
    write.add_argument("--no-baseline", action="store_true", help="leave the baseline's text out")
    add_device_and_json(write)


def run_write(args: argparse.Namespace) -> None:
    """Print a text as it is written, then the baseline's; with --json every token."""
    from monju.inference.language import LanguageRun
    from monju.inference.writer import Ended, Request, Started, Token, Writer

    request = Request(args.prompt, args.tokens, args.temperature, args.top_p, args.seed, tuple(args.stop),
                      args.gate, args.renew_every, not args.no_baseline)
    tokens, texts = [], {}
    for event in Writer(LanguageRun.load(args.run, args.device)).write(request):
        if isinstance(event, Started):
            for note in event.notes:
                print(note.text(), file=sys.stderr)
            if not args.json:
                print(event.prompt, end="", flush=True)
        elif isinstance(event, Ended):
            texts[event.stream] = {"text": event.text, "reason": event.reason, "tokens": event.tokens}
            if not args.json and event.stream == "monju":
                print(flush=True)
        elif isinstance(event, Token):
            tokens.append(token_json(event))
            if not args.json and event.stream == "monju":
                print(event.text, end="", flush=True)
    if args.json:
        print(json.dumps({"prompt": args.prompt, "texts": texts, "tokens": tokens}, indent=1,
                         ensure_ascii=False))
    elif "baseline" in texts:
        print(f"\nThe baseline, from the same prompt and seed:\n{args.prompt}{texts['baseline']['text']}")


def token_json(token: Any) -> dict[str, Any]:
    """Return a written token as JSON holds it."""
    values = {name: getattr(token, name) for name in ("stream", "index", "id", "text", "probability", "alpha",
                                                      "probabilities", "shares", "loudest", "runners_up")}
    return values | {"distances": token.place and token.place.distances}


def evaluate_texts(args: argparse.Namespace) -> None:
    """Print perplexities on held-out documents, or accuracies of label words on labelled sentences."""
    from monju.evaluation import label_words, perplexity
    from monju.reporting.perplexity import print_label_words, print_perplexities
    from monju.runs.run_data import held_out_documents

    language = loaded(args)
    if args.label_words:
        found = label_words.evaluate(language, args.data, args.label_words, args.shots, args.n,
                                     args.text_column, args.label_column)
        return printed(found, args.json, print_label_words)
    documents, notes = held_out_documents(language.run, args.data, args.text_column, args.keep_trained)
    tell(notes)
    cost = language.run.metrics().get("cost")
    found = perplexity.table(language, documents, cost) | {"notes": [note.to_json() for note in notes]}
    return printed(found, args.json, print_perplexities)


def compare_texts(args: argparse.Namespace) -> None:
    """Print every gate's perplexity beside the baseline's."""
    from monju.evaluation import perplexity
    from monju.reporting.perplexity import print_gates
    from monju.runs.run_data import held_out_documents

    language = loaded(args)
    documents, notes = held_out_documents(language.run, args.data, args.text_column, args.keep_trained)
    tell(notes)
    found = perplexity.table(language, documents, language.run.metrics().get("cost"))
    return printed(found | {"notes": [note.to_json() for note in notes]}, args.json, print_gates)


def predict_texts(args: argparse.Namespace, texts: list[str]) -> None:
    """Print each text token by token: α, and the log-probability under each model and the mixture."""
    from monju.evaluation.perplexity import tokens_of
    from monju.inference.language import LanguageRun
    from monju.reporting.perplexity import print_tokens

    language = LanguageRun.load(args.run, args.device)
    return printed([tokens_of(language, text) for text in texts], args.json, print_tokens)


def loaded(args: argparse.Namespace) -> Any:
    """Return the run with its controls."""
    from monju.inference.language import LanguageRun

    return LanguageRun.load(args.run, args.device, controls=True)


def tell(notes: list) -> None:
    """Print notes on standard error."""
    for note in notes:
        print(note.text(), file=sys.stderr)


def printed(found: Any, as_json: bool, show: Any) -> None:
    """Print figures as JSON, or as tables by `show`."""
    print(json.dumps(found, indent=1, ensure_ascii=False)) if as_json else show(found)


def add_texts(evaluate: argparse.ArgumentParser) -> None:
    """Add the flags of `evaluate` that only language models have."""
    group = evaluate.add_argument_group("language models")
    group.add_argument("--label-words", nargs="+", metavar="WORD", help="classify labelled sentences by the "
                       "likeliest of these words, one for each label in the labels' order")
    group.add_argument("--shots", type=int, default=4, metavar="N",
                       help="examples before each sentence [4]")
    group.add_argument("-n", type=int, default=100, metavar="N", help="sentences that are classified [100]")


def refuse_missing_data(args: argparse.Namespace) -> None:
    """Raise MonjuError where classifiers are to be measured on nothing."""
    if args.data is None:
        raise MonjuError("name the labelled sentences to count on with --data")
