"""Last state: experts that share a whole decoder and differ in what they make of its last state.

    h′ = h + B A h,   logit_w = w · h′ + b_w  for the words w of the cut, the commonest in the corpus

The logits of all other words are the trunk's: an expert is a few thousand numbers, and a probability over the
whole vocabulary. Has the face of a classifier's `Expert` to the trainer. Knows nothing of clusters or gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from monju.errors import MonjuError
from monju.models.trunk import TokenStates, kind_of, of_rows

CUT = 4096  # words at most that experts may change
SCORED_TOKENS = 1024  # at a time


@dataclass(frozen=True, eq=False)
class Shared:
    """What a run's experts share in training: the words of the cut, their head, the corpus's states."""

    words: np.ndarray
    head: Tensor  # [cut, width]
    bias: Tensor | None  # [cut]
    states: TokenStates
    places: np.ndarray  # [vocabulary] of each word in the cut, −1 outside


class Adapter(nn.Module):
    """B A and b: `down` [rank, width], `up` [width, rank], `bias` [cut]. At first it changes nothing."""

    config = None  # there is no limit to a text's length

    def __init__(self, width: int, cut: int, rank: int, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.down = nn.Parameter(torch.randn(rank, width, generator=generator) / width**0.5)
        self.up = nn.Parameter(torch.zeros(width, rank))
        self.bias = nn.Parameter(torch.zeros(cut))

    def get_input_embeddings(self) -> None:
        """Return None: it has no words of its own."""

    def table(self, head: Tensor) -> Tensor:
        """Return w B of all words of the cut, whose vectors are `head` [cut, width]: [rank, cut]."""
        return (head @ self.up).T

    def logits(self, states: Tensor, trunk: Tensor, table: Tensor) -> Tensor:
        """Return logits [tokens, cut] of states [tokens, width] and the trunk's logits [tokens, cut].

        w · B A h is worked out as (w B) (A h): a product over the rank in place of one over the width.
        """
        return torch.addmm(trunk + self.bias, states @ self.down.T, table)


class LastStateExpert:
    """One expert in training or in use."""

    def __init__(self, model: Adapter, shared: Shared | None, start_token: int, device: torch.device):
        self.model, self.shared, self.padding, self.device = model.to(device), shared, start_token, device

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The weights that training changes, by name."""
        return dict(self.model.named_parameters())

    def losses(self, tokens: Any, rows: np.ndarray) -> np.ndarray:
        """Return −log p a token of the corpus's rows of these numbers, [n]."""
        assert self.shared is not None
        lengths = np.diff(self.shared.states.starts)[rows]
        with torch.no_grad():
            nll = torch.cat([self.nll(rows[start : start + 8]) for start in range(0, len(rows), 8)])
        return np.array([part.mean() for part in np.split(nll.cpu().numpy(), np.cumsum(lengths)[:-1])])

    def nll(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        """Return −log p of each token of the corpus's rows of these numbers, one after the other."""
        shared = self.shared
        assert shared is not None
        at, found = of_rows(shared.states.starts, rows), shared.states
        states, outside, target = (kind_of(part[at], self.device)
                                   for part in (found.states, found.outside, found.target))
        place = torch.as_tensor(shared.places[found.ids[at]], device=self.device)
        with torch.no_grad():
            trunk = nn.functional.linear(states, shared.head, shared.bias)
        return nll_of(self.model, states, trunk, outside, target, place, shared.head)

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write the adapter, in half precision."""
        save_file({name: weight.detach().half().contiguous().cpu() for name, weight in self.trained.items()},
                  folder / "adapter.safetensors")


def nll_of(adapter: Adapter, states: Tensor, trunk: Tensor, outside: Tensor, target: Tensor, place: Tensor,
           head: Tensor) -> Tensor:
    """Return −log p [tokens] over the whole vocabulary.

    Parameters
    ----------
    adapter : Adapter
        The expert.
    states : Tensor [tokens, width]
        The trunk's last states.
    trunk : Tensor [tokens, cut]
        Its logits of the words of the cut.
    outside, target : Tensor [tokens]
        log Σ exp of its other logits, and its logit of the right token.
    place : Tensor of int [tokens]
        The right token's place in the cut, −1 outside.
    head : Tensor [cut, width]
        The words' vectors.
    """
    total = torch.logaddexp(adapter.logits(states, trunk, adapter.table(head)).logsumexp(1), outside)
    # of the right token alone: gathered from all logits, its gradient would be as large as they are
    inside, at = place >= 0, place.clamp(min=0)
    change = ((states @ adapter.down.T) * (head[at] @ adapter.up)).sum(1) + adapter.bias[at]
    return total - target - torch.where(inside, change, 0.0)


def load_adapter(folder: Path, width: int, cut: int) -> Adapter:
    """Return the adapter in a folder. Raises MonjuError for one that is not there or not this run's."""
    try:
        weights = load_file(folder / "adapter.safetensors")
        adapter = Adapter(width, cut, weights["down"].shape[0])
        adapter.load_state_dict({name: weight.float() for name, weight in weights.items()})
        if not all(weight.isfinite().all() for weight in adapter.parameters()):
            raise ValueError("numbers that are not finite")
        return adapter.requires_grad_(False)
    except (OSError, KeyError, IndexError, RuntimeError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MonjuError(f"the expert in {folder} cannot be loaded ({reason}): restore the folder or train "
                         "the run again") from None


def soup(adapters: Sequence[Adapter]) -> Adapter:
    """Return the model of the adapters' mean weights: mean B A, as one product of all their ranks, mean b."""
    down = torch.cat([adapter.down for adapter in adapters])
    merged = Adapter(down.shape[1], len(adapters[0].bias), len(down))
    merged.load_state_dict({"down": down,
                            "up": torch.cat([adapter.up for adapter in adapters], 1) / len(adapters),
                            "bias": torch.stack([adapter.bias for adapter in adapters]).mean(0)})
    return merged.requires_grad_(False)
