"""Member: one model in training: what it learns, in which order, with which optimizer, and how far it is."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monju.config import Config
from monju.models.classifier import Expert
from monju.models.joint import SparseEmbedding
from monju.training import samplers
from monju.training.reports import Fetch, Step


@dataclass(frozen=True)
class Training:
    """What one model is trained on.

    Parameters
    ----------
    expert : Expert
        The classifier to train.
    tokens : list [n] of list of int
        Token ids.
    labels : ndarray of int [n]
        Label numbers.
    seed : int
        Of the order of batches and, with the others' in lockstep, of dropout.
    steps : int, optional
        Overrides the number that `config.epochs` asks for.
    order : str
        A key of `samplers.TABLE`.
    clusters : ndarray of int [n], optional
        The sentences' clusters, for a sampler that uses them.
    loss_of : callable, optional
        (logits [batch, labels], row numbers [batch]) → losses [batch], in place of cross-entropy.
    checkpoints : Checkpoints, optional
        Training goes on after the last one's step, and keeps one after every epoch.
    name : str
        The model's name in messages.
    """

    expert: Expert
    tokens: list[list[int]]
    labels: np.ndarray
    seed: int
    steps: int | None = None
    order: str = "buckets"
    clusters: np.ndarray | None = None
    loss_of: Callable[[Tensor, Tensor], Tensor] | None = None
    checkpoints: Any = None
    name: str = ""


class Member:
    """One model in training: its weights, its optimizer, the order of its batches and how far it is."""

    def __init__(self, number: int, training: Training, config: Config, together: bool):
        self.number, self.training, self.expert = number, training, training.expert
        tensors, facts = training.checkpoints.load() if training.checkpoints else ({}, {"step": 0})
        self.expert.model.load_state_dict({name: tensor for name, tensor in tensors.items()
                                           if name in self.expert.trained}, strict=False)
        torch.manual_seed(training.seed)
        self.lengths = np.array([len(sentence) for sentence in training.tokens])
        self.per_epoch = -(-len(training.tokens) // config.batch_size)
        self.steps = training.steps or max(1, round(config.epochs * self.per_epoch))
        used = np.unique(np.concatenate([*training.tokens, [self.expert.padding]]).astype(np.int64))
        self.words = SparseEmbedding(self.expert.model, used, self.expert.device)
        self.weights = self.words.instead_of_table(list(self.expert.trained.values()))
        self.on_gpu = is_gpu(self.expert.device)
        # a recorded step reads the rate from the device
        self.rate = torch.zeros((), device=self.expert.device) if self.on_gpu else 0.0
        self.optimizer = torch.optim.AdamW(self.weights, lr=self.rate, weight_decay=config.weight_decay,
                                           fused=True, capturable=self.on_gpu)
        self.peak, self.weight_decay = config.learning_rate, config.weight_decay
        self.factor = linear_schedule(self.steps, config.warmup)
        self.loss_sum = torch.zeros((), device=self.expert.device)
        self.step, self.parts = facts["step"], facts.get("parts", 1)
        self.sentences, self.read = facts.get("seen", 0), facts.get("read", 0)
        self.padded, self.seconds = facts.get("padded", 0), facts.get("seconds", 0.0)
        self.unreported = facts.get("unreported", 0)  # steps since the last report
        # with its steps and the pinned texts, whose losses and logits are on their way
        self.report: tuple[Step, int, list[str], Fetch] | None = None
        self.writing: Future | None = None  # its checkpoint
        self.done = False
        self.sentence_losses = tensors.get("lost")
        if tensors:
            self.loss_sum.copy_(tensors["loss_sum"])
            restore(self.optimizer, tensors)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate
        draws = np.random.default_rng(config.seed) if together else None
        context = samplers.SamplerContext(self.lengths, training.clusters, self.losses, draws)
        batches = samplers.TABLE[training.order](context, config.batch_size,
                                                 np.random.default_rng(training.seed))
        self.batches = islice(batches, self.step, None)  # the order is drawn again up to there
        self.batch: np.ndarray | None = None  # drawn, and not learned yet

    def losses(self) -> np.ndarray:
        """Return the model's loss on each sentence, as it was when first asked."""
        if self.sentence_losses is None:
            self.words.put_back()
            self.sentence_losses = torch.from_numpy(self.expert.losses(self.training.tokens,
                                                                       self.training.labels))
        return self.sentence_losses.numpy()

    def draw(self) -> np.ndarray:
        """Return the rows of the next batch; the same ones until they are learned."""
        if self.batch is None:
            self.batch = next(self.batches)
        return self.batch

    def set_rate(self) -> None:
        """Set the learning rate of the next step."""
        rate = self.learning_rate(self.step)
        if isinstance(self.rate, Tensor):
            self.rate.fill_(rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.peak * self.factor(step)

    def learned(self, padded: int) -> None:
        """Count a batch of so many tokens, padding counted, as learned."""
        rows, self.batch = self.draw(), None
        self.padded += padded
        self.words.shrink *= 1 - self.learning_rate(self.step) * self.weight_decay
        self.step, self.unreported = self.step + 1, self.unreported + 1
        self.sentences, self.read = self.sentences + len(rows), self.read + int(self.lengths[rows].sum())

    def save(self, writer: Executor) -> None:
        """Keep a checkpoint, from which a training resumes with the same bits.

        On a GPU a copy of it is written while the training goes on: the file of a large model takes seconds.
        """
        self.words.put_back()
        lost = {} if self.sentence_losses is None else {"lost": self.sentence_losses}
        tensors = {**self.expert.trained, **state(self.optimizer), "loss_sum": self.loss_sum, **lost}
        if self.on_gpu:
            tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        self.saved()
        self.writing = writer.submit(self.training.checkpoints.save, self.step, tensors, seen=self.sentences,
                                     read=self.read, padded=self.padded, seconds=self.seconds,
                                     parts=self.parts, unreported=self.unreported)
        if not self.on_gpu:
            self.saved()

    def saved(self) -> None:
        """Wait until the last checkpoint is there. Raises what its writing raised."""
        if self.writing:
            self.writing.result()


def is_gpu(device: torch.device) -> bool:
    """Return whether steps can be recorded and replayed on the device."""
    return device.type == "cuda"


def state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what a training goes on from, beside its weights: by name, tensors.

    They are the optimizer's moments and the random state.
    """
    moments = {f"moment.{number}.{name}": tensor
               for number, weight_state in optimizer.state_dict()["state"].items()
               for name, tensor in weight_state.items()}
    cuda_state = {"random.cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {**moments, "random": torch.get_rng_state(), **cuda_state}


def restore(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what `state` returned."""
    moments = {}
    for key, tensor in tensors.items():
        if key.startswith("moment."):
            _, number, name = key.split(".")
            moments.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    torch.set_rng_state(tensors["random"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])


def linear_schedule(steps: int, warmup: float) -> Callable[[int], float]:
    """Return a function from the step to the learning-rate factor.

    It rises over the first `warmup` share of the steps, then falls to zero at the last.
    """
    rising = max(1, round(warmup * steps))
    return lambda step: min((step + 1) / rising, max(0.0, (steps - step) / max(1, steps - rising)))
