"""Merging a run's experts into one model: their weights, the data that a merge needs, the outputs.

Adapters are merged as what they add to their backbone, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import repeat, takewhile
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from monju.data import sources
from monju.errors import MonjuError
from monju.evaluation import merge_methods
from monju.inference.students import student_logits
from monju.models import backbones
from monju.models.classifier import Expert
from monju.runs.prediction_store import load_predictions
from monju.runs.run_data import load_run_data, read_again
from monju.utils.cache import once

if TYPE_CHECKING:
    from monju.inference.pipeline import Monju

SCORED = 300  # sentences of the tuning split, at most, on which a soup is scored
INFORMANTS = 24  # sentences, at most, from which an expert's Fisher information is estimated


class MergeRunner:
    """Merges the experts of a loaded run.

    Its properties raise MonjuError for unlike architectures, and where a merge needs what the run lacks.

    Parameters
    ----------
    monju : Monju
        The loaded run.
    source : str or path, optional
        Where the run's own sentences may be, if its own source does not hold them any more.
    """

    def __init__(self, monju: Monju, source: sources.Source | None = None):
        self.monju, self.source = monju, source
        self.padding, self.device = monju.tokenizer.pad_token_id, torch.device("cpu")

    @once
    def models(self) -> list[Any]:
        """Plain classifiers: the experts' common start, and each expert after fine-tuning."""
        if len(self.monju.config.all_backbones) > 1:
            raise MonjuError("the experts have different backbones, "
                             "and only models of one architecture can be merged")
        config, names = self.monju.config, self.monju.label_names
        start = Expert.start(config, names, self.padding, config.seed * 1000, self.device).model
        folder = self.monju.run.path / "experts"
        experts = [Expert.load(folder / name, len(names), self.padding, self.device).model
                   for name in self.monju.experts]
        return [start.merge_and_unload() if config.finetuning == "lora" else start, *experts]

    @once
    def weights(self) -> tuple[merge_methods.Weights, list[merge_methods.Weights]]:
        """The weights of `models`: before fine-tuning, and each expert's after."""
        start, *experts = [{name: weight.detach().float().clone()
                            for name, weight in model.named_parameters()} for model in self.models]
        shapes = {name: weight.shape for name, weight in start.items()}
        if any({name: weight.shape for name, weight in expert.items()} != shapes for expert in experts):
            raise MonjuError("the experts are not of one architecture, and only such models can be merged")
        return start, experts

    @once
    def learned(self) -> list[str]:
        """Names of the weights in which the experts differ: a frozen backbone needs no merging."""
        first, *others = self.weights[1]
        return [name for name, weight in first.items()
                if any(not torch.equal(expert[name], weight) for expert in others)]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts, as the experts read them."""
        return backbones.encode(self.monju.tokenizer, texts, self.monju.config.max_tokens)

    def logits(self, weights: merge_methods.Weights, texts: Sequence[str]) -> np.ndarray:
        """Return the logits [n, labels] of a model with these weights on texts [n]."""
        model = self.models[0]  # used for its architecture; its own weights are kept in `weights`
        model.load_state_dict(weights, strict=False)
        return Expert(model, self.padding, self.device).logits(self.tokens(texts))

    def per_sentence(self, texts: Sequence[str], alpha: Any) -> np.ndarray:
        """Return logits [n, labels], each sentence's by a model of its own, averaged by α [n, experts]."""
        experts = [{name: expert[name] for name in self.learned} for expert in self.weights[1]]
        merged, size = merge_methods.by_alpha(experts), sum(weight.numel() for weight in experts[0].values())
        alpha = torch.as_tensor(alpha, dtype=torch.float32)
        out, tokens = np.zeros((len(texts), len(self.monju.label_names)), np.float32), self.tokens(texts)

        def read(model: Any, rows: Iterable[int], stop: Event) -> None:
            with torch.inference_mode():
                buffer = torch.empty(size)
                for row in takewhile(lambda _: not stop.is_set(), rows):
                    ids, mask = backbones.pad([tokens[row]], self.padding)
                    weights = merged(alpha[row], buffer)
                    out[row] = torch.func.functional_call(model, weights, (ids, mask)).logits[0]

        # one model per thread
        in_pairs(read, self.models[1:3], (range(0, len(texts), 2), range(1, len(texts), 2)))
        return out

    # what some merges need of the tuning split

    @once
    def tuning(self) -> Any:
        """The tuning split, a `Split`: training sentences from which no expert learned."""
        run = self.monju.run
        if not run.manifest["data"].get("tuning"):
            raise MonjuError("it needs a tuning split: train the run with --tuning-size 2000")
        try:
            return load_run_data(run).tuning
        except MonjuError as error:
            with suppress(MonjuError):  # if the given source fails, too, the run's own error is raised
                if self.source:
                    return read_again(run, run.manifest["data"]["fingerprint"], self.source).tuning
            raise error from None

    @once
    def scored(self) -> tuple[list[str], np.ndarray]:
        """Texts and labels of a stratified sample of the tuning split, on which soups are scored."""
        rows = sources.stratified(self.tuning.labels, SCORED, self.monju.config.seed)
        return [self.tuning.texts[row] for row in rows], self.tuning.labels[rows]

    def score(self, weights: merge_methods.Weights) -> float:
        """Return the accuracy of a model with these weights on `scored`."""
        texts, labels = self.scored
        return float((self.logits(weights, texts).argmax(axis=1) == labels).mean())

    @once
    def informants(self) -> list[np.ndarray]:
        """For each expert, rows of a stratified sample of the tuning split that lie in its own clusters."""
        outputs, _ = load_predictions(self.monju.run, "tuning")
        nearest, seed = outputs.distances.argmin(axis=1), self.monju.config.seed
        rows_of_expert = [np.flatnonzero(np.isin(nearest, subset)) for subset in self.monju.subsets]
        return [rows[sources.stratified(self.tuning.labels[rows], INFORMANTS, seed)]
                for rows in rows_of_expert]

    @once
    def fishers(self) -> list[merge_methods.Weights]:
        """Each expert's diagonal Fisher information over its `informants`; zero for weights that all share.

        The mean of Σ_y p(y|x) (∂ log p(y|x) / ∂θ)² (Matena & Raffel 2022, eq. 2).
        """
        tokens = self.tokens(self.tuning.texts)
        tokens_of_expert = [[tokens[row] for row in rows] for rows in self.informants]
        return in_pairs(self.fisher, self.models[1:], tokens_of_expert)

    def fisher(self, model: Any, tokens: Sequence[list[int]],
               stop: Event | None = None) -> merge_methods.Weights:
        """Return one model's diagonal Fisher information over tokenised sentences."""
        stop = stop or Event()
        weights = {name: weight.requires_grad_(name in self.learned)
                   for name, weight in model.named_parameters()}
        information = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        learned = [weights[name] for name in self.learned]
        for sentence in takewhile(lambda _: not stop.is_set(), tokens):
            log_p = model(*backbones.pad([sentence], self.padding)).logits[0].log_softmax(-1)
            for y, p in enumerate(log_p.exp().tolist()):
                gradients = torch.autograd.grad(log_p[y], learned, retain_graph=True)
                for name, gradient in zip(self.learned, gradients):
                    information[name] += p * gradient**2 / len(tokens)
        return information


def in_pairs(work: Callable[..., Any], *parts: Iterable) -> list:
    """Return work(*each, stop) for each of the zipped parts, two at a time: one sentence keeps one core busy.

    `stop` is set when the caller is gone, as after Ctrl-C: the threads would keep the process alive.
    """
    stop = Event()
    with ThreadPoolExecutor(2) as pool:
        try:
            return list(pool.map(work, *parts, repeat(stop)))
        finally:
            stop.set()


def single_answers(monju: Monju, text: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return each merge's and each student's logits [labels] of one sentence, and why merges are missing."""
    classifier, merges, missing, lock = monju.memo("merges", lambda: all_merges(monju))
    tokens, logits = backbones.encode(monju.tokenizer, [text], monju.config.max_tokens), {}
    with lock:
        for name, weights in merges.items():
            classifier.model.load_state_dict(weights, strict=False)
            logits[name] = classifier.logits(tokens)[0]
    students = {name: logits[0] for name, logits in student_logits(monju, [text]).items()}
    return logits | students, missing


def all_merges(monju: Monju) -> tuple[Expert | None, dict[str, merge_methods.Weights], dict[str, str], Any]:
    """Return a classifier to load merges into, their weights, why others are missing, and its lock."""
    runner, merges, missing = MergeRunner(monju), {}, {}
    for name, merge in merge_methods.TABLE.items():
        try:
            weights = merge(runner)
            merges[name] = {part: weights[part] for part in runner.learned}
        except MonjuError as error:
            missing[name] = str(error)
    classifier = Expert(runner.models[0], runner.padding, runner.device) if merges else None
    return classifier, merges, missing, Lock()
