"""Text stores: what language models learn in lockstep, and their loss: −log p of every token of a passage.

A row's loss is divided by the mean length of all rows, so that every token weighs the same whatever its
passage's length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from monju.models.causal import shifted
from monju.training.lockstep import Lockstep, TokenStore
from monju.training.member import Member


class TextStore(TokenStore):
    """Passages for decoders with weights or adapters of their own in all layers."""

    def row_losses(self, lockstep: Lockstep, rows: Tensor, width: int, padded: bool) -> Tensor:
        """Return the loss [members, n] of each row at `rows` [members, n]."""
        ids, mask = self.batch(rows, width)
        with lockstep.autocast():
            # a token sees none to its right: what stands behind a row needs no mask
            logits = lockstep.joint(shifted(ids, self.padding), None).float()
        nll = cross_entropy(logits.flatten(0, 2), ids.flatten(), reduction="none").view(ids.shape)
        return (nll * mask).sum(-1) / self.lengths.float().mean()


class StateStore(TokenStore):
    """Passages whose last states are known, by their numbers in the corpus: a row's label is its number."""

    replayable = False

    def join(self, members: Sequence[Member], frozen_layers: int) -> Apart:  # type: ignore[override]
        """Return the members: each is worked out by itself."""
        return Apart()

    def row_losses(self, lockstep: Lockstep, rows: Tensor, width: int, padded: bool) -> Tensor:
        """Return the loss [members, n] of each row at `rows` [members, n]."""
        losses = []
        for member, own in zip(lockstep.members, rows):
            lengths = self.lengths[own].tolist()
            nll = member.expert.nll(self.labels[own].numpy())  # type: ignore[attr-defined]
            losses.append(torch.stack([part.sum() for part in nll.split(lengths)]))
        return torch.stack(losses) / self.lengths.float().mean()


class Apart:
    """Members that need no joining: they share a trunk that nobody trains."""

    def train(self) -> None:
        """Do nothing: there is no dropout."""

    def hand_out_gradients(self) -> None:
        """Do nothing: each has its own."""

    def release(self) -> None:
        """Do nothing: each has memory of its own."""
