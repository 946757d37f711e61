"""Reports: what a training tells of itself, and what it must wait for on the device to tell it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from monju.models import backbones

REPORTS = 200  # of a training at most, beside the last
CHECKS = 10  # points on a model's held-out curve, beside the first


@dataclass(frozen=True)
class Check:
    """What one model said when it was checked.

    Parameters
    ----------
    right : str
        Of each held-out sentence, in the order given, 1 where it was right, else 0.
    pinned : dict of str to list of float
        Logits [labels] of each pinned sentence.
    """

    right: str
    pinned: dict[str, list[float]]


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
    place : str
        The node of a cluster and the device where it is trained.
    held_out_accuracy : float, optional
        On the held-out sentences, where it was measured after this step.
    check : Check, optional
        The same check, sentence by sentence.
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
    place: str = ""
    held_out_accuracy: float | None = None
    check: Check | None = None


class Fetch:
    """Numbers on their way from the device, while it computes on.

    Parameters
    ----------
    numbers : Tensor [n]
        As they are now; they may change afterwards.
    start : Fetch, optional
        From which `seconds` is counted.
    """

    def __init__(self, numbers: Tensor, start: Fetch | None = None):
        self.start, self.made = start, time.perf_counter()
        self.numbers = torch.empty_like(numbers, device="cpu", pin_memory=numbers.is_cuda)
        self.numbers.copy_(numbers, non_blocking=True)
        self.arrived = torch.cuda.Event(enable_timing=True) if numbers.is_cuda else None
        if self.arrived:
            self.arrived.record()

    def wait(self) -> list[float]:
        """Return the numbers, once they are here."""
        if self.arrived:
            self.arrived.synchronize()
        return self.numbers.tolist()

    @property
    def seconds(self) -> float:
        """From when the device had computed `start` to when it had these, once they are here."""
        assert self.start is not None
        if self.arrived and self.start.arrived:  # a GPU's clock: this process is ahead of it
            return self.start.arrived.elapsed_time(self.arrived) / 1000
        return self.made - self.start.made


class HeldOut:
    """Held-out sentences on the device, in batches of like length.

    Parameters
    ----------
    tokens : list [n] of list of int
        Token ids.
    labels : ndarray of int [n]
        Label numbers.
    padding : int
        The tokenizer's padding id.
    size : int
        Sentences in a batch.
    device : torch.device
        Where the models compute.
    """

    def __init__(self, tokens: list[list[int]], labels: np.ndarray, padding: int, size: int,
                 device: torch.device):
        rows_of = list(backbones.length_batches([len(each) for each in tokens], size))
        self.order = np.concatenate(rows_of)  # of the sentences, batch after batch
        self.batches = [[part.to(device) for part in (*backbones.pad([tokens[row] for row in rows], padding),
                                                      torch.as_tensor(labels[rows]))] for rows in rows_of]
