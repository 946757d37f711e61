"""Causal: one language model on a pretrained decoder, whole or with adapters in all its layers.

Has the face of a classifier's `Expert` to the trainer. Also how texts become rows of tokens: a row is what a
model predicts, one token after the other, behind the beginning-of-text token. Knows nothing of clusters or
gates.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from monju.config import Config
from monju.errors import MonjuError
from monju.models import backbones

DOCUMENT_END = "<|endoftext|>"  # GPT-2's kind separates documents by it, whatever a chat's tokens are


class Rows(NamedTuple):
    """Passages of documents as token ids: what is predicted, without the beginning-of-text token."""

    texts: list[str]
    tokens: list[list[int]]
    documents: np.ndarray  # [n] the number of each passage's document


def edges(tokenizer: Any) -> tuple[int, int]:
    """Return the ids of the tokens before a text and behind it. Raises MonjuError where there is none."""
    separator = tokenizer.get_vocab().get(DOCUMENT_END)
    if separator is not None:
        return separator, separator
    end = tokenizer.eos_token_id
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else end
    if start is None:
        raise MonjuError("this decoder's tokenizer has no token for the beginning of a text: "
                         "choose another --backbone")
    return start, start if end is None else end


def passages(tokenizer: Any, texts: Sequence[str], most: int, ends: bool = True) -> Rows:
    """Cut documents into passages of at most `most` tokens, as equal as whole tokens allow.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        The decoder's.
    texts : sequence of str
        The documents.
    most : int
        Longest passage in tokens.
    ends : bool
        Let a document's last passage end with the end-of-text token.

    Returns
    -------
    Rows
        No token of a document is lost.
    """
    _, end = edges(tokenizer)
    rows, pieces, numbers = [], [], []
    for number, text in enumerate(texts):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        parts = -(-len(ids) // most)
        cuts = np.linspace(0, len(ids), parts + 1).round().astype(int).tolist() if parts else []
        for at, until in zip(cuts[:-1], cuts[1:]):
            rows.append(ids[at:until] + [end] * (ends and until == len(ids)))
            pieces.append(text[offsets[at][0] : offsets[until - 1][1]])
            numbers.append(number)
    return Rows(pieces, rows, np.array(numbers, np.int64))


class CausalExpert:
    """A language model of its own weights or adapters: make one with `start`, open one with `load`."""

    def __init__(self, model: Any, start_token: int, device: torch.device):
        self.model, self.padding, self.device = model.to(device), start_token, device

    @classmethod
    def start(cls, config: Config, start_token: int, seed: int, device: torch.device) -> CausalExpert:
        """Return a decoder before fine-tuning; an adapter's first weights depend on `seed` alone."""
        with backbones.LOADING:
            torch.manual_seed(seed)
            model = decoder(config.backbone)
            model.name_or_path = model.config._name_or_path = backbones.hub_name(config.backbone)
            if config.finetuning == "lora":
                from peft import LoraConfig, get_peft_model

                rank = config.lora_rank
                model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank,
                                                         target_modules="all-linear"))
        for weight in model.parameters():  # torch aligns its own
            weight.data = weight.data.clone()
        return cls(model, start_token, device)

    @property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The weights that training changes, by name."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def losses(self, tokens: Sequence[list[int]], labels: Any = None) -> np.ndarray:
        """Return −log p of each row a token, [n]."""
        return np.array([-row.mean() for row in self.scores(tokens)])

    def scores(self, tokens: Sequence[list[int]], batch: int = 8) -> list[np.ndarray]:
        """Return the log-probability of each token of each row."""
        self.model.eval()
        out: list[Any] = [None] * len(tokens)
        for rows in backbones.length_batches([len(row) for row in tokens], batch):
            ids, _ = backbones.pad([tokens[row] for row in rows], self.padding)
            with torch.inference_mode():
                logits = self.model(input_ids=shifted(ids, self.padding).to(self.device)).logits.float()
                found = logits.log_softmax(-1).gather(-1, ids[..., None].to(self.device))[..., 0].cpu()
            for row, log_p in zip(rows, found):
                out[row] = log_p[: len(tokens[row])].numpy()
        return out

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write a folder that plain transformers, or for an adapter peft, loads."""
        if hasattr(self.model, "peft_config"):
            halves = {name: tensor.half() for name, tensor in self.model.state_dict().items()
                      if "lora_" in name}
            self.model.save_pretrained(folder, state_dict=halves, save_embedding_layers=False)
        else:
            self.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card


def decoder(name: str) -> Any:
    """Return a decoder for language modelling. Raises MonjuError where it cannot be had."""
    return backbones.from_pretrained(transformers.AutoModelForCausalLM, name)


def cache_name(model: Any) -> str:
    """Return the name of the argument that takes keys and values seen before: transformers renames it."""
    parameters = inspect.signature(model.base_model.forward).parameters
    return "cache" if "cache" in parameters else "past_key_values"


def shifted(ids: torch.Tensor, start_token: int) -> torch.Tensor:
    """Return a model's input ids [..., length] for the rows that it is to predict."""
    start = torch.full_like(ids[..., :1], start_token)
    return torch.cat([start, ids[..., :-1]], dim=-1)
