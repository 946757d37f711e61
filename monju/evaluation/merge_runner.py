"""A run's experts as one model: takes their weights, merges them in one of `merge_methods`'s ways, and answers with what comes of it.

Adapters are merged as what they add to their backbone, exactly.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import repeat, takewhile
from threading import Event, Lock

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

SCORED = 300  # sentences at most, drawn from those kept aside, on which a soup is scored
INFORMANTS = 24  # sentences at most from which an expert's Fisher information is estimated


class MergeRunner:
    """Merges the experts of a loaded run. Raises MonjuError for unlike architectures, and where a merge needs what the run
    lacks. `source`: where the run's own sentences may be, if they are not where they were."""

    def __init__(self, monju, source=None):
        self.monju, self.source, self.padding, self.device = monju, source, monju.tokenizer.pad_token_id, torch.device("cpu")

    @once
    def models(self):
        """What every expert was before fine-tuning, and each expert after: plain classifiers."""
        if len(self.monju.config.all_backbones) > 1:
            raise MonjuError("the experts have different backbones, and only models of one architecture can be merged")
        config, names = self.monju.config, self.monju.label_names
        start = Expert.start(config, names, self.padding, config.seed * 1000, self.device).model
        experts = [Expert.load(self.monju.run.path / "experts" / name, len(names), self.padding, self.device).model
                   for name in self.monju.experts]
        return [start.merge_and_unload() if config.finetuning == "lora" else start, *experts]

    @once
    def weights(self):
        """(before fine-tuning, each expert after) as dictionaries of tensors; integers are left alone."""
        found = [{name: weight.detach().float().clone() for name, weight in model.named_parameters()} for model in self.models]
        if any(one.keys() != found[0].keys() or any(one[name].shape != found[0][name].shape for name in one) for one in found):
            raise MonjuError("the experts are not of one architecture, and only such models can be merged")
        return found[0], found[1:]

    @once
    def learned(self):
        """Names of the weights in which the experts differ: a frozen backbone needs no merging."""
        experts = self.weights[1]
        return [name for name in experts[0] if any(not torch.equal(expert[name], experts[0][name]) for expert in experts)]

    def tokens(self, texts):
        return backbones.encode(self.monju.tokenizer, texts, self.monju.config.max_tokens)

    def logits(self, weights, texts):
        """A model with these weights reads texts [n] → logits [n, labels]."""
        model = self.models[0]  # lends its shape; its own weights are kept in `weights`
        model.load_state_dict(weights, strict=False)
        return Expert(model, self.padding, self.device).logits(self.tokens(texts))

    def per_sentence(self, texts, alpha):
        """Every sentence is read by a model of its own, the experts' weights averaged by its α [n, experts] → logits [n, labels]."""
        experts = [{name: expert[name] for name in self.learned} for expert in self.weights[1]]
        own, size = merge_methods.by_alpha(experts), sum(weight.numel() for weight in experts[0].values())
        alpha = torch.as_tensor(alpha, dtype=torch.float32)
        out, tokens = np.zeros((len(texts), len(self.monju.label_names)), np.float32), self.tokens(texts)

        def read(model, rows, over):
            with torch.inference_mode():
                room = torch.empty(size)
                for row in takewhile(lambda _: not over.is_set(), rows):
                    ids, mask = backbones.pad([tokens[row]], self.padding)
                    out[row] = torch.func.functional_call(model, own(alpha[row], room), (ids, mask)).logits[0]

        abreast(read, self.models[1:3], (range(0, len(texts), 2), range(1, len(texts), 2)))  # a model lends its shape to one thread
        return out

    # what some merges ask of the sentences that were kept aside from training

    @once
    def aside(self):
        """Those sentences, as `sources.Split`."""
        run = self.monju.run
        if not run.manifest["data"].get("tuning"):
            raise MonjuError("it needs sentences kept aside from training: train the run with --tuning-size 2000")
        try:
            return load_run_data(run).tuning
        except MonjuError as error:
            with suppress(MonjuError):  # of a source that does not hold them the run's own reason is told
                if self.source:
                    return read_again(run, run.manifest["data"]["fingerprint"], self.source).tuning
            raise error from None

    @once
    def scored(self):
        """(texts, labels) of those, every class in its proportion, on which soups are scored."""
        rows = sources.stratified(self.aside.labels, SCORED, self.monju.config.seed)
        return [self.aside.texts[row] for row in rows], self.aside.labels[rows]

    def score(self, weights):
        """The share of the scored sentences that a model with these weights gets right."""
        texts, labels = self.scored
        return float((self.logits(weights, texts).argmax(axis=1) == labels).mean())

    @once
    def informants(self):
        """For each expert, the rows of sentences kept aside that lie in its own clusters, every class in its proportion."""
        nearest, seed = load_predictions(self.monju.run, "tuning")[0].distances.argmin(axis=1), self.monju.config.seed
        own = [np.flatnonzero(np.isin(nearest, subset)) for subset in self.monju.subsets]
        return [rows[sources.stratified(self.aside.labels[rows], INFORMANTS, seed)] for rows in own]

    @once
    def fishers(self):
        """Each expert's Fisher information, the diagonal, over sentences kept aside that lie in its own clusters: the mean of
        Σ_y p(y|x) (∂ log p(y|x) / ∂θ)² (Matena & Raffel 2022, eq. 2). Weights which all experts share have none."""
        tokens = self.tokens(self.aside.texts)
        return abreast(self.fisher, self.models[1:], [[tokens[row] for row in rows] for rows in self.informants])

    def fisher(self, model, sentences, over=None):
        over = over or Event()
        weights = {name: weight.requires_grad_(name in self.learned) for name, weight in model.named_parameters()}
        found = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        asked = [weights[name] for name in self.learned]
        for sentence in takewhile(lambda _: not over.is_set(), sentences):
            log_p = model(*backbones.pad([sentence], self.padding)).logits[0].log_softmax(-1)
            for y, p in enumerate(log_p.exp().tolist()):
                for name, slope in zip(self.learned, torch.autograd.grad(log_p[y], asked, retain_graph=True)):
                    found[name] += p * slope**2 / len(sentences)
        return found


def abreast(work, *parts):
    """work(*each, over) for each of the zipped parts, two at a time: sentences one by one keep a single core busy. `over` is set
    when nobody waits any more, as after Ctrl-C, where the threads would keep this process from its end."""
    over = Event()
    with ThreadPoolExecutor(2) as pool:
        try:
            return list(pool.map(work, *parts, repeat(over)))
        finally:
            over.set()


def single_answers(monju, text):
    """What each merge and each student of a loaded run says of one sentence: {name: logits [labels]}, and {merge: why it is missing}."""
    lends, merges, lacking, one_at_a_time = monju.memo("merges", lambda: all_merges(monju))
    tokens, answers = backbones.encode(monju.tokenizer, [text], monju.config.max_tokens), {}
    with one_at_a_time:
        for name, weights in merges.items():
            lends.model.load_state_dict(weights, strict=False)
            answers[name] = lends.logits(tokens)[0]
    return answers | {name: logits[0] for name, logits in student_logits(monju, [text]).items()}, lacking


def all_merges(monju):
    """(a model that lends its shape, {merge: the weights in which it differs}, {merge: why there is none}, a lock on that model)."""
    runner, merges, lacking = MergeRunner(monju), {}, {}
    for name, merge in merge_methods.TABLE.items():
        try:
            weights = merge(runner)
            merges[name] = {part: weights[part] for part in runner.learned}
        except MonjuError as error:
            lacking[name] = str(error)
    return Expert(runner.models[0], runner.padding, runner.device) if merges else None, merges, lacking, Lock()
