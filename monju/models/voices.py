"""Voices: all language models of a run together: the log-probabilities of given tokens, and of the next one.

Two kinds with one face. `SharedVoices` differ in what they make of one trunk's last state: one pass and one
cache of keys and values serve all. `LayerVoices` differ in all layers: each model reads for itself, and one
that is not asked reads nothing. Knows nothing of clusters, gates or texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from torch import Tensor

from monju.models import backbones
from monju.models.causal import CausalExpert, cache_name, decoder, edges
from monju.models.last_state import SCORED_TOKENS, Adapter, load_adapter, nll_of
from monju.models.trunk import TokenStates, Trunk, kind_of

BASE = "base"  # the decoder before any fine-tuning


class Prefix(Protocol):
    """One or several streams of tokens that began alike, ready for their next token."""

    def push(self, tokens: Sequence[int]) -> None:
        """Append a token to each stream."""
        ...

    def log_probabilities(self, stream: int, names: Sequence[str]) -> Tensor:
        """Return log p [names, vocabulary] of a stream's next token under the models named."""
        ...


class SharedVoices:
    """Models that share a trunk.

    Parameters
    ----------
    trunk : Trunk
        The decoder.
    words : ndarray of int [cut]
        The words that the models change.
    adapters : mapping of str to Adapter
        The models by name.

    Attributes
    ----------
    asked : int
        How many times a model was worked out for a next token: what top-k spares can be counted.
    """

    def __init__(self, trunk: Trunk, words: np.ndarray, adapters: Mapping[str, Adapter]):
        self.trunk, self.words, self.adapters = trunk, words, dict(adapters)
        self.names, self.asked = [BASE, *adapters], 0
        self.places = np.full(trunk.vocabulary, -1, np.int64)
        self.places[words] = np.arange(len(words))
        self.at = torch.as_tensor(words, device=trunk.device)
        self.head = trunk.head[self.at].contiguous()
        self.bias = None if trunk.bias is None else trunk.bias[self.at]
        self.tables = {name: adapter.table(self.head) for name, adapter in adapters.items()}

    @property
    def tokenizer(self) -> Any:
        """The trunk's tokenizer."""
        return self.trunk.tokenizer

    def scores(self, found: TokenStates, names: Sequence[str]) -> np.ndarray:
        """Return log p [tokens, names] of the tokens whose states are given."""
        out = np.zeros((len(found.ids), len(names)), np.float32)
        with torch.inference_mode():
            for start in range(0, len(found.ids), SCORED_TOKENS):
                at = slice(start, start + SCORED_TOKENS)
                states, outside, target = (kind_of(part[at], self.trunk.device)
                                           for part in (found.states, found.outside, found.target))
                place = torch.as_tensor(self.places[found.ids[at]], device=self.trunk.device)
                trunk = torch.nn.functional.linear(states, self.head, self.bias)
                for i, name in enumerate(names):
                    out[at, i] = (found.target[at] - found.total[at] if name == BASE else
                                  -nll_of(self.adapters[name], states, trunk, outside, target, place,
                                          self.head).cpu().numpy())
        return out

    def begin(self, ids: Sequence[int], streams: int = 1) -> SharedPrefix:
        """Return streams that begin with these tokens, the beginning-of-text token left out."""
        return SharedPrefix(self, ids, streams)


class SharedPrefix:
    """Streams on one trunk with one cache, a row of the batch each."""

    def __init__(self, voices: SharedVoices, ids: Sequence[int], streams: int):
        self.voices, trunk = voices, voices.trunk
        self.seen = transformers.DynamicCache(config=trunk.model.config)
        first = torch.tensor([[trunk.start, *ids]], device=trunk.device)
        self._next(trunk.states(first, self.seen)[:, -1].repeat(streams, 1))
        if streams > 1:
            self.seen.batch_repeat_interleave(streams)

    def push(self, tokens: Sequence[int]) -> None:
        """Append a token to each stream."""
        ids = torch.tensor(tokens, device=self.state.device)[:, None]
        self._next(self.voices.trunk.states(ids, self.seen)[:, -1])

    def _next(self, state: Tensor) -> None:
        """Keep each stream's last state and the trunk's logits of it."""
        self.state = state.float()
        with torch.inference_mode():
            self.logits = self.voices.trunk.logits(self.state).float()

    def log_probabilities(self, stream: int, names: Sequence[str]) -> Tensor:
        """Return log p [names, vocabulary] of a stream's next token under the models named."""
        voices, state = self.voices, self.state[stream : stream + 1]
        with torch.inference_mode():
            logits = self.logits[stream : stream + 1]
            trunk = logits[:, voices.at]
            rows = logits.repeat(len(names), 1)
            for row, name in zip(rows, names):
                voices.asked += 1
                if name != BASE:
                    row[voices.at] = voices.adapters[name].logits(state, trunk, voices.tables[name])[0]
            return rows.double().log_softmax(-1)  # float32 would sum to 1 but for 2e-6


class LayerVoices:
    """Models of their own in all layers: adapters on one decoder, or whole decoders.

    Parameters
    ----------
    backbone : str
        The decoder that they were fine-tuned from.
    folders : mapping of str to Path
        Each model's folder, by name.
    device : torch.device
        Where they compute.
    """

    def __init__(self, backbone: str, folders: Mapping[str, Path], device: torch.device):
        self.tokenizer, self.device = backbones.tokenizer(backbone), device
        self.start, self.end = edges(self.tokenizer)
        self.names, self.asked = [BASE, *folders], 0
        self.base = decoder(backbone).eval().to(device)
        self.cache_name = cache_name(self.base)
        self.context = getattr(self.base.config, "max_position_embeddings", None) or 1 << 20
        self.adapted: Any = None
        self.whole: dict[str, Any] = {}
        self.numbers = {name: f"model{number}" for number, name in enumerate(folders)}
        for name, folder in folders.items():
            if not (folder / "adapter_config.json").exists():
                self.whole[name] = decoder(str(folder)).eval().to(device)
            elif self.adapted is None:
                from peft import PeftModel

                with backbones.LOADING:
                    self.adapted = PeftModel.from_pretrained(self.base, folder, self.numbers[name]).eval()
            else:
                with backbones.LOADING:
                    self.adapted.load_adapter(folder, self.numbers[name])
        if self.adapted is not None:
            self.adapted.to(device)

    def run(self, name: str, **inputs: Any) -> Any:
        """Return a model's outputs."""
        if name in self.whole:
            return self.whole[name](**inputs)
        if self.adapted is None:
            return self.base(**inputs)
        if name == BASE:
            with self.adapted.disable_adapter():
                return self.adapted(**inputs)
        self.adapted.set_adapter(self.numbers[name])
        return self.adapted(**inputs)

    def scores(self, tokens: Sequence[list[int]], names: Sequence[str]) -> np.ndarray:
        """Return log p [tokens, names] of rows of tokens, one after the other."""
        columns = []
        for name in names:
            model = CausalExpert(Running(self, name), self.start, self.device)
            columns.append(np.concatenate(model.scores(tokens)))
        return np.stack(columns, axis=1)

    def begin(self, ids: Sequence[int], streams: int = 1) -> LayerPrefix:
        """Return streams that begin with these tokens, the beginning-of-text token left out."""
        return LayerPrefix(self, ids, streams)


class Running(torch.nn.Module):
    """One of `LayerVoices` as a model of its own."""

    def __init__(self, voices: LayerVoices, name: str):
        super().__init__()
        self.run = partial(voices.run, name)  # no submodule: nothing of it is moved

    def forward(self, **inputs: Any) -> Any:
        """Return its outputs."""
        return self.run(**inputs)


class LayerPrefix:
    """Streams of tokens, and of each model as much of them as it was asked to read."""

    def __init__(self, voices: LayerVoices, ids: Sequence[int], streams: int):
        self.voices = voices
        self.ids = [[voices.start, *ids] for _ in range(streams)]
        self.seen: dict[tuple[int, str], tuple[Any, int]] = {}

    def push(self, tokens: Sequence[int]) -> None:
        """Append a token to each stream."""
        for row, token in zip(self.ids, tokens):
            row.append(token)

    def log_probabilities(self, stream: int, names: Sequence[str]) -> Tensor:
        """Return log p [names, vocabulary] of a stream's next token under the models named."""
        return torch.stack([self._next(stream, name) for name in names])

    def _next(self, stream: int, name: str) -> Tensor:
        cache, read = self.seen.get((stream, name)) or (transformers.DynamicCache(), 0)
        ids = torch.tensor([self.ids[stream][read:]], device=self.voices.device)
        self.voices.asked += 1
        with torch.inference_mode():
            outputs = self.voices.run(name, input_ids=ids, use_cache=True, **{self.voices.cache_name: cache})
        self.seen[stream, name] = cache, len(self.ids[stream])
        return outputs.logits[0, -1].double().log_softmax(-1)


def load_adapters(trunk: Trunk, words: np.ndarray, folders: Mapping[str, Path]) -> dict[str, Adapter]:
    """Return the adapters in these folders, by name. Raises MonjuError for a damaged one."""
    return {name: load_adapter(folder, trunk.width, len(words)).to(trunk.device)
            for name, folder in folders.items()}


def heard(names: Iterable[str], weights: np.ndarray) -> list[str]:
    """Return the names whose weight is not zero: the others need not be worked out."""
    return [name for name, weight in zip(names, weights) if weight > 0]
