"""Trunk: a decoder that no expert changes, up to its last state, and the cache of these states.

Where experts differ in what they make of the last state alone, all of them share one pass through the
decoder: in training each token's state is worked out once, and lies in the cache for all models and epochs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from monju.errors import MonjuError
from monju.models import backbones
from monju.models.causal import cache_name, decoder, edges, shifted
from monju.utils.files import cache

STALE_S = 86_400  # after which an unfinished folder is nobody's
KEPT = 4  # of the last states in the cache; 100,000 tokens of 576 numbers are 115 MB
BATCH_TOKENS, HEAD_TOKENS = 1024, 256  # of one pass through the decoder, and of one over the whole vocabulary
CLOSE = 1e-2  # of a logit, between the decoder's own and the product of state and head


class Trunk:
    """A decoder as it is, with its tokenizer.

    Parameters
    ----------
    name : str
        The backbone's name.
    device : torch.device
        Where it computes.

    Raises
    ------
    MonjuError
        For a decoder that cannot be had, or does more with its last state than one product.
    """

    def __init__(self, name: str, device: torch.device):
        self.name, self.device = name, device
        self.tokenizer = backbones.tokenizer(name)
        self.start, self.end = edges(self.tokenizer)
        self.model = decoder(name).eval().to(device)
        self.cache_name = cache_name(self.model)
        self.body, head = self.model.base_model, self.model.get_output_embeddings()
        self.head, self.bias = head.weight.detach(), getattr(head, "bias", None)
        self.vocabulary, self.width = self.head.shape
        self.context = getattr(self.model.config, "max_position_embeddings", None) or 1 << 20
        probe = torch.tensor([[self.start, 1, 2, 3]], device=device)
        with torch.inference_mode():
            own, ours = self.model(input_ids=probe).logits, self.logits(self.states(probe))
        if (own - ours).abs().max() > CLOSE:
            raise MonjuError(f"the decoder {name!r} does more with its last state than one product: use "
                             "--finetuning lora")

    def states(self, ids: Tensor, seen: Any = None) -> Tensor:
        """Return the last states [n, length, width] of input ids [n, length], behind what a cache has seen.

        The cache, transformers' own, is extended.
        """
        with torch.inference_mode():
            more = {"use_cache": False} if seen is None else {"use_cache": True, self.cache_name: seen}
            return self.body(input_ids=ids, **more).last_hidden_state

    def logits(self, states: Tensor) -> Tensor:
        """Return logits over the whole vocabulary [..., vocabulary] of states [..., width]."""
        return torch.nn.functional.linear(states, self.head, self.bias)

    def fingerprint(self) -> str:
        """Return a digest of the weights' shapes and a sample of their values."""
        digest = hashlib.sha256()
        for name, weight in self.model.named_parameters():
            flat = weight.detach().flatten()
            sample = flat[:: max(1, len(flat) // 64)].float().cpu().numpy()
            digest.update(f"{name}{tuple(weight.shape)}".encode() + sample.tobytes())
        return digest.hexdigest()


class TokenStates(NamedTuple):
    """What the trunk makes of rows of tokens, one after the other; memory-mapped from the cache.

    Parameters
    ----------
    states : ndarray of float16 [tokens, width]
        The last state before each token.
    outside : ndarray of float32 [tokens]
        log Σ exp of the trunk's logits of the words outside the cut.
    target : ndarray of float32 [tokens]
        The trunk's logit of the token itself.
    total : ndarray of float32 [tokens]
        log Σ exp of all its logits: target − total is the trunk's own log-probability.
    ids : ndarray of int64 [tokens]
        The tokens.
    starts : ndarray of int64 [rows + 1]
        Where each row begins.
    """

    states: np.ndarray
    outside: np.ndarray
    target: np.ndarray
    total: np.ndarray
    ids: np.ndarray
    starts: np.ndarray


FILES = {"states": np.float16, "outside": np.float32, "target": np.float32, "total": np.float32}


def work_out(trunk: Trunk, tokens: Sequence[list[int]], words: np.ndarray,
             found: TokenStates) -> Iterator[float]:
    """Fill the arrays of `found` for rows of tokens: a generator of the share that is done."""
    lengths, kept_words = np.diff(found.starts), torch.as_tensor(words, device=trunk.device)
    batch, done = max(1, BATCH_TOKENS // int(lengths.max())), 0
    for rows in backbones.length_batches(lengths.tolist(), batch):
        ids, mask = backbones.pad([tokens[row] for row in rows], trunk.start)
        states = trunk.states(shifted(ids, trunk.start).to(trunk.device))
        # as they are stored: what is measured on them is what the file gives again
        states, at = states[mask.bool().to(trunk.device)].half(), of_rows(found.starts, rows)
        found.states[at] = states.cpu().numpy()
        for array, part in zip((found.outside, found.target, found.total),
                               sums(trunk, states.float(), ids[mask.bool()], kept_words)):
            array[at] = part
        done += len(at)
        yield done / len(found.ids)


def sums(trunk: Trunk, states: Tensor, ids: Tensor, words: Tensor) -> list[np.ndarray]:
    """Return (outside, target, total) of states [tokens, width] that predict ids [tokens]."""
    parts = []
    with torch.inference_mode():
        for some, own in zip(states.split(HEAD_TOKENS), ids.split(HEAD_TOKENS)):
            logits = trunk.logits(some).float()
            target = logits.gather(1, own[:, None].to(logits.device))[:, 0]
            total = logits.logsumexp(1)
            logits[:, words] = -torch.inf
            parts.append([part.cpu().numpy() for part in (logits.logsumexp(1), target, total)])
    return [np.concatenate(part) for part in zip(*parts)]


def empty(tokens: Sequence[list[int]], make: Any) -> TokenStates:
    """Return unfilled TokenStates of rows of tokens; `make(name, tokens)` makes each array of FILES."""
    starts = np.concatenate([[0], np.cumsum([len(row) for row in tokens])]).astype(np.int64)
    ids = np.concatenate([np.asarray(row, np.int64) for row in tokens])
    states, outside, target, total = (make(name, len(ids)) for name in FILES)
    return TokenStates(states, outside, target, total, ids, starts)


def states_of(trunk: Trunk, tokens: Sequence[list[int]], words: np.ndarray) -> TokenStates:
    """Return the states of a few rows of tokens, in memory."""
    found = empty(tokens, lambda name, n: np.zeros((n, trunk.width) if name == "states" else n, FILES[name]))
    for _ in work_out(trunk, tokens, words, found):
        pass
    return found


class StateCache:
    """The states of some rows of tokens, in a folder of the cache named by their content.

    Parameters
    ----------
    trunk : Trunk
        The decoder.
    tokens : sequence [n] of list of int
        The rows: what is to be predicted.
    words : ndarray of int [cut]
        The words that experts may change.
    """

    def __init__(self, trunk: Trunk, tokens: Sequence[list[int]], words: np.ndarray):
        self.trunk: Trunk | None = trunk
        self.tokens, self.words = list(tokens), words
        key = hashlib.sha256(json.dumps([trunk.fingerprint(), trunk.start]).encode())
        for row in (words.tolist(), *tokens):
            key.update(json.dumps(row).encode())
        self.folder = cache("states") / key.hexdigest()

    def fill(self) -> Iterator[float]:
        """Work the states out where the cache lacks them: a generator of the share that is done.

        Raises MonjuError where they cannot be written.
        """
        if self.folder.exists() or self.trunk is None:
            os.utime(self.folder)
            return
        trunk, partial = self.trunk, None
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            for left in self.folder.parent.glob(".partial*"):  # by a process that was killed
                if time.time() - left.stat().st_mtime > STALE_S:
                    shutil.rmtree(left, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix=".partial", dir=self.folder.parent))

            def make(name: str, n: int) -> np.ndarray:
                shape = (n, trunk.width) if name == "states" else (n,)
                return np.lib.format.open_memmap(partial / f"{name}.npy", "w+", FILES[name], shape)

            found = empty(self.tokens, make)
            yield from work_out(trunk, self.tokens, self.words, found)
            for array in (found.states, found.outside, found.target, found.total):
                array.flush()  # type: ignore[attr-defined]  # memory-mapped
            os.replace(partial, self.folder)
            kept = [path for path in self.folder.parent.iterdir() if not path.name.startswith(".")]
            for old in sorted(kept, key=lambda path: path.stat().st_mtime)[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise no_room(self.folder.parent, error) from None
        finally:
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)

    def without_trunk(self) -> StateCache:
        """Return the same, filled, for another process, where the decoder is not needed."""
        other = copy(self)
        other.trunk = None
        return other

    def load(self) -> TokenStates:
        """Return what `fill` wrote, memory-mapped."""
        return empty(self.tokens, lambda name, n: np.load(self.folder / f"{name}.npy", mmap_mode="r",
                                                          allow_pickle=False))


def no_room(folder: Path, error: OSError) -> MonjuError:
    """Return the error of a cache that cannot be written."""
    return MonjuError(f"the decoder's states cannot be kept in {folder} ({error.strerror or error}): make "
                      "room there, or name another folder in MONJU_CACHE")


def words_in_use(ids: Sequence[list[int]], most: int) -> np.ndarray:
    """Return the ids of the `most` commonest tokens of some rows, ascending."""
    found, counts = np.unique(np.concatenate([np.asarray(row, np.int64) for row in ids]), return_counts=True)
    return np.sort(found[np.argsort(-counts, kind="stable")[:most]])


def of_rows(starts: np.ndarray, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the places of the tokens of some rows, row after row."""
    return np.concatenate([np.arange(starts[row], starts[row + 1]) for row in rows])


def kind_of(array: np.ndarray, device: Any) -> Tensor:
    """Return memory-mapped numbers as a float32 tensor of its own memory on a device."""
    return torch.from_numpy(np.array(array, np.float32)).to(device)
