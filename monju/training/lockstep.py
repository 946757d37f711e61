"""Lockstep: members learn together, one forward and one backward pass for the next batch of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from monju.config import Config
from monju.errors import MonjuError
from monju.models import backbones
from monju.models.cuda_graphs import Replay
from monju.models.joint import Joint
from monju.training.member import Member
from monju.training.reports import CHECKS, Check, Fetch, HeldOut, Step

# lengths that batches are padded to where every length costs a recording
WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128)


class TokenStore:
    """The members' sentences as token ids on the device, where batches are put together."""

    replayable = True  # all of a step's tensors have the shapes of its batch

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

    def join(self, members: Sequence[Member], frozen_layers: int) -> Joint:
        """Return the members as one model. Raises CannotJoin where they cannot be."""
        return Joint([member.expert for member in members], [member.words for member in members],
                     frozen_layers)

    def row_losses(self, lockstep: Lockstep, rows: Tensor, width: int, padded: bool) -> Tensor:
        """Return the loss [members, n] of each row at `rows` [members, n], read as so wide a batch."""
        ids, mask = self.batch(rows, width)
        with lockstep.autocast():
            logits = lockstep.joint(ids, mask if padded else None).float()
        if any(member.training.loss_of for member in lockstep.members):
            return torch.stack([member.training.loss_of(own, at - self.first[member.number])
                                for member, own, at in zip(lockstep.members, logits, rows)])
        return cross_entropy(logits.flatten(0, 1), self.labels[rows].flatten(),
                             reduction="none").view(rows.shape)


class Lockstep:
    """Members that learn together, one optimizer step at a time.

    Parameters
    ----------
    members : sequence of Member
        The models in training.
    config : Config
        The settings of training.
    store : TokenStore
        Their sentences.
    report_every, longest : int
        Steps between two reports, and of the longest training: one clock for all of a run, so that one pass
        over the held-out sentences checks all.
    writer : Executor
        Writes their checkpoints.
    held_out : HeldOut, optional
        What they are checked on.
    pinned : callable, optional
        () → {text: token ids}, sentences that are read at each check, too.
    note : str
        For their reports.
    """

    def __init__(self, members: Sequence[Member], config: Config, store: TokenStore, report_every: int,
                 longest: int, writer: Executor, held_out: HeldOut | None = None, note: str = "",
                 pinned: Callable[[], dict[str, list[int]]] | None = None):
        self.members, self.config, self.store, self.note = list(members), config, store, note
        self.report_every, self.longest = report_every, longest
        self.writer, self.held_out, self.pinned = writer, held_out, pinned or dict
        self.device = members[0].expert.device
        self.bf16, self.parts = wants_bf16(config.precision, self.device), max(m.parts for m in members)
        self.joint = store.join(members, config.frozen_layers)
        self.losses = torch.stack([member.loss_sum for member in members])  # since each one's last report
        for member, loss_sum in zip(members, self.losses):
            member.loss_sum = loss_sum
        self.on_gpu = members[0].on_gpu
        # positions that the backbone has; RoBERTa's kind counts from 2
        self.most = getattr(members[0].expert.model.config, "max_position_embeddings", WIDTHS[-1]) - 2
        self.rows = self.shares = torch.empty(0)
        self.run_step = self._replayed()

    def run(self, failed: list[str]) -> Iterator[tuple[int, Step]]:
        """Train until a member is done, yielding (its number, Step); appends to `failed` who fails."""
        start, before = Fetch(self.losses), [member.seconds for member in self.members]
        try:
            while not any(member.done for member in self.members):
                padded = self._step()
                for member, earlier in zip(self.members, before):
                    member.learned(padded)
                    member.seconds = earlier + (time.perf_counter() - start.made) / len(self.members)
                texts, said = self._check() if any(map(self._is_checked, self.members)) else ([], None)
                for i, (member, earlier) in enumerate(zip(self.members, before)):
                    numbers = [member.loss_sum[None]] if said is None else [member.loss_sum[None], said[i]]
                    yield from self._report(member, numbers, texts, start, earlier, failed)
        finally:
            self._forget()
            self.joint.release()

    def _reports(self, member: Member) -> bool:
        return member.step % self.report_every == 0 or member.step == member.steps

    def _is_checked(self, member: Member) -> bool:
        """Return whether the member is due a look at held-out sentences: with some of its reports."""
        before = member.step - member.unreported
        return self.held_out is not None and self._reports(member) and (
            not before or member.step == member.steps
            or member.step * CHECKS // self.longest > before * CHECKS // self.longest)

    def _check(self) -> tuple[list[str], Tensor]:
        """Read the held-out and the pinned sentences.

        Returns the pinned texts, and on the device [members, held out + pinned · labels]: 1 for each held-out
        sentence that a member gets right, in the batches' order, then its logits of the pinned ones.
        """
        for member in self.members:
            member.words.put_back()
        parts = [(self.joint.logits(ids, mask).argmax(2) == labels).float()
                 for ids, mask, labels in self.held_out.batches]
        pinned = self.pinned()
        if pinned:
            ids, mask = backbones.pad(list(pinned.values()), self.store.padding)
            logits = self.joint.logits(ids.to(self.device), mask.to(self.device))
            parts.append(logits.float().flatten(1))
        return list(pinned), torch.cat(parts, 1)

    def _report(self, member: Member, numbers: list[Tensor], texts: list[str], start: Fetch, earlier: float,
                failed: list[str]) -> Iterator[tuple[int, Step]]:
        """Yield the member's Step where it is due, and keep its checkpoint after an epoch.

        On a GPU, where the losses are still to be computed, a Step is yielded when the next is due, when the
        member ends, or before its checkpoint, which must not be kept of a member that has failed.
        """
        ended = member.step == member.steps
        keeps = not ended and member.training.checkpoints and member.step % member.per_epoch == 0
        if ended:
            member.saved()  # whoever hears of the end may remove the checkpoints
        if self._reports(member):
            yield from self._tell(member, failed)
            if member.done:
                return
            step = Step(member.step, member.steps, member.sentences, member.read, np.nan,
                        member.learning_rate(member.step - 1), earlier, self.parts, len(self.members),
                        member.padded, self.note or getattr(self.run_step, "note", ""))
            member.report = step, member.unreported, texts, Fetch(torch.cat(numbers), start)
            member.loss_sum.zero_()
            member.unreported = 0
        if ended or keeps or not self.on_gpu:
            yield from self._tell(member, failed)
        if member.done:
            return
        if ended:
            member.done = True
            member.expert.model.eval()
        elif keeps:
            member.save(self.writer)

    def _tell(self, member: Member, failed: list[str]) -> Iterator[tuple[int, Step]]:
        """Yield the Step whose losses are awaited, if any; a member whose loss is not finite is done."""
        if member.report is None:
            return
        (step, steps, texts, fetch), member.report = member.report, None
        loss, *said = fetch.wait()
        if not np.isfinite(loss):
            name = f"{member.training.name}: " if member.training.name else ""
            failed.append(f"{name}the loss became {loss} at step {step.step}")
            member.done = True
            return
        member.words.put_back()  # whoever looks at the model between two steps finds it whole
        step = replace(step, loss=loss / steps, seconds=step.seconds + fetch.seconds / step.lockstep)
        yield member.number, self._checked(step, texts, said) if said else step

    def _checked(self, step: Step, texts: list[str], said: list[float]) -> Step:
        """Return the step with a member's row of `_check`."""
        count = len(self.held_out.order)
        right = np.empty(count, int)
        right[self.held_out.order] = said[:count]
        logits = np.reshape(said[count:], (len(texts), -1)).tolist() if texts else []
        return replace(step, held_out_accuracy=sum(said[:count]) / count,
                       check=Check("".join(map(str, right)), dict(zip(texts, logits))))

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
            part = (self.store.row_losses(self, rows, width, padded) * shares).sum(1)
            part.sum().backward()
            losses += part.detach()
        self.joint.hand_out_gradients()
        for member in self.members:
            torch.nn.utils.clip_grad_norm_(member.weights, 1.0)
            member.optimizer.step()
            member.optimizer.zero_grad()
        self.losses += losses

    def autocast(self) -> torch.autocast:
        """Return the context in which the models compute."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16,
                              cache_enabled=not self.on_gpu)

    def _replayed(self) -> Callable[[tuple[int, bool]], None]:
        return Replay(self._learn, self._forget) if self.on_gpu and self.store.replayable else self._learn

    def _forget(self) -> None:
        """Drop the gradients of a step that did not end."""
        self.joint.hand_out_gradients()
        for member in self.members:
            member.optimizer.zero_grad()


def filled(old: Tensor, new: np.ndarray, device: torch.device) -> Tensor:
    """Return `new` on the device, in the place of `old` where it has the same shape."""
    sent = backbones.sent(torch.from_numpy(new), device)
    return old.copy_(sent, non_blocking=True) if old.shape == sent.shape else sent


def padded_length(longest: int) -> int:
    """Return the length to which a batch is padded so that there are few different ones."""
    return next((width for width in WIDTHS if width >= longest), -(-longest // 64) * 64)


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Return whether to train under bf16 autocast: as asked, or with "auto" where the machine can."""
    return backbones.computes_in_bf16(device) if precision == "auto" else precision == "bf16"
