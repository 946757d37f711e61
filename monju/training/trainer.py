"""Trainer: fine-tunes classifiers on token ids and label numbers; resumable, reporting step by step.

Several models are trained in lockstep: one forward, one backward pass for the next batch of each. A model of
its own is the same thing alone, and so is a baseline on all sentences. Knows nothing of clusters, gates or
experts.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from monju.config import Config
from monju.errors import MonjuError
from monju.models import backbones
from monju.models.classifier import Expert
from monju.models.cuda_graphs import Replay
from monju.models.joint import CannotJoin, Joint, SparseEmbedding
from monju.training import samplers

REPORTS = 200  # of a training at most, beside the last
# lengths that batches are padded to where every length costs a recording
WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class Step:
    """How far one model's training is.

    Parameters
    ----------
    step, steps : int
        Optimizer steps done, and in all.
    sentences, tokens : int
        Read so far; no padding is counted.
    loss : float
        The mean since the last report.
    learning_rate : float
        Of this step.
    seconds : float
        Time trained so far; of several models in lockstep, each counts its share.
    parts : int
        In how many pieces a batch is read: more than one where the GPU's memory is too small for it whole.
    lockstep : int
        How many models are trained in lockstep with it, itself counted.
    padded : int
        Tokens computed so far, padding counted.
    note : str
        A sentence on what makes the training slower than it could be, if anything does.
    """

    step: int
    steps: int
    sentences: int
    tokens: int
    loss: float
    learning_rate: float
    seconds: float
    parts: int = 1
    lockstep: int = 1
    padded: int = 0
    note: str = ""


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


def fit(expert: Expert, config: Config, tokens: list[list[int]], labels: np.ndarray, seed: int,
        steps: int | None = None, report_every: int | None = None, **given: Any) -> Iterator[Step]:
    """Fine-tune one classifier: see `Training` and `fit_in_lockstep`."""
    one = Training(expert, tokens, labels, seed, steps, **given)
    return (step for _, step in fit_in_lockstep([one], config, report_every))


def fit_in_lockstep(trainings: Sequence[Training], config: Config,
                    report_every: int | None = None) -> Iterator[tuple[int, Step]]:
    """Fine-tune classifiers on one backbone together: a generator that trains as it is read.

    Each as if it were alone: AdamW, linear warm-up and decay to zero, gradient norm clipped at 1. A model
    whose training ends leaves; so does one whose loss is no longer finite, and the others go on. Models that
    cannot be joined, or for which the GPU's memory is too small together, are trained one group after
    another.

    Parameters
    ----------
    trainings : sequence of Training
        The models and what they learn; all on one device.
    config : Config
        Epochs, batch size, learning rate and the other settings of training.
    report_every : int, optional
        Steps between two reports; by default at most 200 reports of a model are made.

    Yields
    ------
    tuple of int and Step
        Which training, and how far it is.

    Raises
    ------
    MonjuError
        Where a loss is no longer finite, after the others have ended; where the GPU's memory is too small
        for one sentence.
    """
    together = len(trainings) > 1
    members = [Member(number, training, config, report_every, together)
               for number, training in enumerate(trainings)]
    store = TokenStore(members)
    groups, failed, note = [members], [], ""
    while groups:
        group = [member for member in groups.pop(0) if member.step < member.steps]
        while group:
            try:
                lockstep = Lockstep(group, config, store, note)
                yield from lockstep.run(failed)
                group = [member for member in group if not member.done]
            except (CannotJoin, torch.OutOfMemoryError) as error:
                if isinstance(error, CannotJoin):
                    note, rest = f"These models do not run as one ({error}): they are trained in turn.", 1
                else:
                    note = (f"The memory does not do for {len(group)} models in lockstep: "
                            "they are trained in groups.")
                    rest = -(-len(group) // 2)
                    torch.cuda.empty_cache()
                groups.insert(0, group[rest:])
                group = group[:rest]
    if failed:
        raise MonjuError("; ".join(failed) + ": choose a smaller --learning-rate or --precision fp32")


class Member:
    """One model in training: its weights, its optimizer, the order of its batches and how far it is."""

    def __init__(self, number: int, training: Training, config: Config, report_every: int | None,
                 together: bool):
        self.number, self.training, self.expert = number, training, training.expert
        self.tensors, facts = training.checkpoints.load() if training.checkpoints else ({}, {"step": 0})
        self.expert.model.load_state_dict({name: tensor for name, tensor in self.tensors.items()
                                           if name in self.expert.trained}, strict=False)
        torch.manual_seed(training.seed)
        self.lengths = np.array([len(sentence) for sentence in training.tokens])
        self.per_epoch = -(-len(training.tokens) // config.batch_size)
        self.steps = training.steps or max(1, round(config.epochs * self.per_epoch))
        self.report_every = report_every or max(1, self.steps // REPORTS)
        used = np.unique(np.concatenate([*training.tokens, [self.expert.padding]]).astype(np.int64))
        self.words = SparseEmbedding(self.expert.model, used, self.expert.device)
        self.weights = self.words.instead_of_table(list(self.expert.trained.values()))
        on_gpu = is_gpu(self.expert.device)  # where a recorded step reads the rate from the device
        self.rate = torch.zeros((), device=self.expert.device) if on_gpu else 0.0
        self.optimizer = torch.optim.AdamW(self.weights, lr=self.rate, weight_decay=config.weight_decay,
                                           fused=True, capturable=on_gpu)
        self.peak, self.weight_decay = config.learning_rate, config.weight_decay
        self.factor = linear_schedule(self.steps, config.warmup)
        self.loss_sum = torch.zeros((), device=self.expert.device)
        self.step, self.parts = facts["step"], facts.get("parts", 1)
        self.sentences, self.read = facts.get("seen", 0), facts.get("read", 0)
        self.padded, self.seconds = facts.get("padded", 0), facts.get("seconds", 0.0)
        self.done = False
        self.sentence_losses = self.tensors.get("lost")
        if self.tensors:
            self.loss_sum.copy_(self.tensors["loss_sum"])
            restore(self.optimizer, self.tensors)
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
        self.step += 1
        self.sentences, self.read = self.sentences + len(rows), self.read + int(self.lengths[rows].sum())

    def save(self, seconds: float) -> None:
        """Keep a checkpoint, from which a training resumes with the same bits."""
        self.words.put_back()
        lost = {} if self.sentence_losses is None else {"lost": self.sentence_losses}
        self.training.checkpoints.save(
            self.step, {**self.expert.trained, **state(self.optimizer), "loss_sum": self.loss_sum, **lost},
            seen=self.sentences, read=self.read, padded=self.padded, seconds=seconds, parts=self.parts)


class TokenStore:
    """The members' sentences as token ids on the device, where batches are put together."""

    def __init__(self, members: Sequence[Member]):
        expert, lengths = members[0].expert, np.concatenate([member.lengths for member in members])
        self.padding, self.longest = expert.padding, int(lengths.max())
        ids = np.fromiter(chain.from_iterable(chain.from_iterable(member.training.tokens
                                                                  for member in members)), np.int64)
        self.ids, self.lengths, self.labels, self.start = (
            torch.as_tensor(numbers, device=expert.device)
            for numbers in (ids, lengths, np.concatenate([member.training.labels for member in members]),
                            np.cumsum(lengths) - lengths))
        firsts = np.cumsum([0, *(len(member.lengths) for member in members)])
        self.first = {member.number: int(first) for member, first in zip(members, firsts)}

    def batch(self, rows: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Return ids and attention mask [..., width] of the sentences at `rows` [...]."""
        at = torch.arange(width, device=rows.device)
        mask = at < self.lengths[rows][..., None]
        ids = self.ids[torch.where(mask, self.start[rows][..., None] + at, 0)]
        return torch.where(mask, ids, self.padding), mask.long()


class Lockstep:
    """Members that learn together, one optimizer step at a time."""

    def __init__(self, members: Sequence[Member], config: Config, store: TokenStore, note: str = ""):
        self.members, self.config, self.store, self.note = list(members), config, store, note
        self.device = members[0].expert.device
        self.bf16, self.parts = wants_bf16(config.precision, self.device), max(m.parts for m in members)
        self.joint = Joint([member.expert for member in members], [member.words for member in members],
                           config.frozen_layers)
        self.losses = torch.stack([member.loss_sum for member in members])  # since each one's last report
        for member, loss_sum in zip(members, self.losses):
            member.loss_sum = loss_sum
        self.on_gpu = is_gpu(self.device)
        # positions that the backbone has; RoBERTa's kind counts from 2
        self.most = getattr(members[0].expert.model.config, "max_position_embeddings", WIDTHS[-1]) - 2
        self.rows = self.shares = torch.empty(0)
        self.run_step = self._replayed()

    def run(self, failed: list[str]) -> Iterator[tuple[int, Step]]:
        """Train until a member is done, yielding (its number, Step); appends to `failed` who fails."""
        began, before = time.perf_counter(), [member.seconds for member in self.members]
        try:
            while not any(member.done for member in self.members):
                padded = self._step()
                for member, earlier in zip(self.members, before):
                    member.learned(padded)
                    member.seconds = earlier + (time.perf_counter() - began) / len(self.members)
                    yield from self._report(member, failed)
        finally:
            self._forget()
            self.joint.release()

    def _report(self, member: Member, failed: list[str]) -> Iterator[tuple[int, Step]]:
        """Yield the member's Step where it is due, and keep its checkpoint after an epoch."""
        ended = member.step == member.steps
        if member.step % member.report_every == 0 or ended:
            mean = member.loss_sum.item() / (member.step % member.report_every or member.report_every)
            member.loss_sum.zero_()
            if not np.isfinite(mean):
                name = f"{member.training.name}: " if member.training.name else ""
                failed.append(f"{name}the loss became {mean} at step {member.step}")
                member.done = True
                return
            member.words.put_back()  # whoever looks at the model between two steps finds it whole
            yield member.number, Step(member.step, member.steps, member.sentences, member.read, mean,
                                      member.learning_rate(member.step - 1), member.seconds, self.parts,
                                      len(self.members), member.padded,
                                      self.note or getattr(self.run_step, "note", ""))
        if ended:
            member.done = True
            member.expert.model.eval()
        elif member.training.checkpoints and member.step % member.per_epoch == 0:
            member.save(member.seconds)

    def _step(self) -> int:
        """Let every member learn its next batch; return that batch's tokens, padding counted."""
        batches = [member.draw() for member in self.members]
        lengths = [member.lengths[rows] for member, rows in zip(self.members, batches)]
        longest = max(int(own.max()) for own in lengths)
        width = padded_length(longest) if self.on_gpu else longest
        if width > self.most:
            width = self.store.longest
        padded = self.on_gpu or any((own < width).any() for own in lengths)
        size = self.config.batch_size if self.on_gpu else max(map(len, batches))
        rows, shares = np.zeros((len(batches), size), np.int64), np.zeros((len(batches), size), np.float32)
        for i, (member, own) in enumerate(zip(self.members, batches)):
            rows[i] = self.store.first[member.number]  # what is missing to a whole batch weighs nothing
            rows[i, : len(own)] += own
            shares[i, : len(own)] = 1 / len(own)
            member.set_rate()
        self.rows, self.shares = (filled(old, new, self.device)
                                  for old, new in ((self.rows, rows), (self.shares, shares)))
        while True:
            try:
                self.run_step((width, padded))
                return width * size
            except torch.OutOfMemoryError:
                if len(self.members) > 1:
                    raise
                if self.parts >= size:
                    raise MonjuError("the GPU's memory does not do for one sentence: choose --finetuning "
                                     "lora, a smaller --max-tokens or a smaller --backbone") from None
                self.parts = self.members[0].parts = self.parts * 2
                self._forget()
                self.run_step = self._replayed()
                if self.on_gpu:
                    torch.cuda.empty_cache()

    def _learn(self, shape: tuple[int, bool]) -> None:
        """One forward pass, one backward, one optimizer step; `shape` is (width, whether any is padded)."""
        (width, padded), losses = shape, torch.zeros_like(self.losses)
        self.joint.train()
        for rows, shares in zip(*(given.tensor_split(min(self.parts, given.shape[1]), 1)
                                  for given in (self.rows, self.shares))):
            ids, mask = self.store.batch(rows, width)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16,
                                cache_enabled=not self.on_gpu):
                logits = self.joint(ids, mask if padded else None)
            part = (self._row_losses(logits.float(), rows) * shares).sum(1)
            part.sum().backward()
            losses += part.detach()
        self.joint.hand_out_gradients()
        for member in self.members:
            torch.nn.utils.clip_grad_norm_(member.weights, 1.0)
            member.optimizer.step()
            member.optimizer.zero_grad()
        self.losses += losses

    def _row_losses(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return the loss [members, n] of each sentence under logits [members, n, labels]."""
        if any(member.training.loss_of for member in self.members):
            return torch.stack([member.training.loss_of(own, at - self.store.first[member.number])
                                for member, own, at in zip(self.members, logits, rows)])
        return cross_entropy(logits.flatten(0, 1), self.store.labels[rows].flatten(),
                             reduction="none").view(rows.shape)

    def _replayed(self) -> Callable[[tuple[int, bool]], None]:
        return Replay(self._learn, self._forget) if self.on_gpu else self._learn

    def _forget(self) -> None:
        """Drop the gradients of a step that did not end."""
        self.joint.hand_out_gradients()
        for member in self.members:
            member.optimizer.zero_grad()


def is_gpu(device: torch.device) -> bool:
    """Return whether steps can be recorded and replayed on the device."""
    return device.type == "cuda"


def filled(old: Tensor, new: np.ndarray, device: torch.device) -> Tensor:
    """Return `new` on the device, in the place of `old` where it has the same shape."""
    sent = backbones.sent(torch.from_numpy(new), device)
    return old.copy_(sent, non_blocking=True) if old.shape == sent.shape else sent


def padded_length(longest: int) -> int:
    """Return the length to which a batch is padded so that there are few different ones."""
    return next((width for width in WIDTHS if width >= longest), -(-longest // 64) * 64)


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


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Return whether to train under bf16 autocast: as asked, or with "auto" where the machine can."""
    return backbones.computes_in_bf16(device) if precision == "auto" else precision == "bf16"
