"""Trainer: fine-tunes classifiers on token ids and label numbers; resumable, reporting step by step.

Several models are trained in lockstep: one forward, one backward pass for the next batch of each. A model of
its own is the same thing alone, and so is a baseline on all sentences. Knows nothing of clusters, gates or
experts.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from monju.config import Config
from monju.errors import MonjuError
from monju.models.classifier import Expert
from monju.models.joint import CannotJoin
from monju.training.lockstep import Lockstep, TokenStore
from monju.training.member import Member, Training
from monju.training.reports import REPORTS, HeldOut, Step


def fit(expert: Expert, config: Config, tokens: list[list[int]], labels: np.ndarray, seed: int,
        steps: int | None = None, report_every: int | None = None, **given: Any) -> Iterator[Step]:
    """Fine-tune one classifier: see `Training` and `fit_in_lockstep`."""
    one = Training(expert, tokens, labels, seed, steps, **given)
    return (step for _, step in fit_in_lockstep([one], config, report_every))


def fit_in_lockstep(trainings: Sequence[Training], config: Config, report_every: int | None = None,
                    held_out: tuple[list[list[int]], np.ndarray] | None = None,
                    store_of: type[TokenStore] = TokenStore,
                    pinned: Callable[[], dict[str, list[int]]] | None = None) -> Iterator[tuple[int, Step]]:
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
    held_out : (list [n] of list of int, ndarray of int [n]), optional
        Token ids and labels of sentences on which the models are checked some ten times.
    store_of : type
        Holds what they learn, and knows their loss.
    pinned : callable, optional
        () → {text: token ids}, sentences that are read at each check, too. They change nothing of the
        training.

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
    members = [Member(number, training, config, together) for number, training in enumerate(trainings)]
    store, longest = store_of(members), max(member.steps for member in members)
    every = report_every or max(1, longest // REPORTS)
    checks = held_out and HeldOut(*held_out, store.padding, config.batch_size, members[0].expert.device)
    groups, failed, note = [members], [], ""
    with ThreadPoolExecutor() as writer:  # ends when all is written
        while groups:
            group = [member for member in groups.pop(0) if member.step < member.steps]
            while group:
                lockstep = None  # of the group before: its memory is needed
                torch.cuda.empty_cache()
                try:
                    lockstep = Lockstep(group, config, store, every, longest, writer, checks, note,
                                        pinned)
                    yield from lockstep.run(failed)
                    group = [member for member in group if not member.done]
                except (CannotJoin, torch.OutOfMemoryError) as error:
                    if isinstance(error, CannotJoin):
                        note, rest = f"These models do not run as one ({error}): they are trained in turn.", 1
                    else:
                        note = (f"The memory does not do for {len(group)} models in lockstep: "
                                "they are trained in groups.")
                        rest = -(-len(group) // 2)
                    groups.insert(0, group[rest:])
                    group = group[:rest]
    if failed:
        raise MonjuError("; ".join(failed) + ": choose a smaller --learning-rate or --precision fp32")
