"""Backbones: a pretrained model's name → its files, tokenizer and weights.

The only file that knows where pretrained weights come from: an installed package first (no network), a
folder, else the hub. Knows nothing of clusters or experts.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from monju.data import hub
from monju.data.inputs import sentences
from monju.data.notes import Note, refusal
from monju.errors import MonjuError
from monju.models import gguf
from monju.models.packaged import TABLE as PACKAGED
from monju.models.packaged import InGguf, InPieces

# transformers replaces functions of torch's and its own while it loads, for all threads: of two loads at
# once, one may leave them replaced
LOADING = threading.RLock()
CHARACTERS = 40  # characters of a sentence that are tokenised for each token that may be read


def hub_name(name: str) -> str:
    """Return the backbone's name on the hub: what a saved adapter should point to."""
    return PACKAGED[name].remote if name in PACKAGED else name


def locate(name: str) -> str:
    """Return a folder with the backbone's files, or the hub's name for it where it must be fetched.

    Raises MonjuError where it is in neither and the hub does not answer.
    """
    packaged = next((each for short, each in PACKAGED.items() if name in (short, each.remote)), None)
    if packaged:
        with LOADING:  # a GGUF file is unpacked by transformers
            folder = packaged.locate()
        if folder:
            return str(folder)
        if isinstance(packaged, InGguf):
            raise refusal("decoder_package", name=name, requirements=packaged.requirements)
        name = packaged.remote
    if name.lower().endswith(".gguf") and Path(name).is_file():
        with LOADING:
            return str(gguf.folder_of(Path(name)))
    if Path(name).is_dir():
        if not (Path(name) / "config.json").exists():
            raise MonjuError(f"the folder {name!r} holds no model (no config.json): "
                             "name a transformers model folder")
        return str(Path(name))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise MonjuError(f"there is no backbone folder {name!r}: "
                         "name an existing folder or a model on the hub")
    if not hub.cached(name) and not hub.answers():
        if isinstance(packaged, InPieces):
            raise refusal("backbone_packages", name=name, requirements=packaged.requirements)
        raise refusal("backbone_absent", name=name)
    return name


def from_pretrained(auto_class: Any, name: str, **options: Any) -> Any:
    """Return auto_class.from_pretrained of the located backbone. Raises MonjuError where it cannot be loaded.

    No code from the hub is ever run, and weights are read from safetensors alone. An adapter's folder gives
    its backbone with the adapter merged, and its backbone's tokenizer. A head for another number of labels is
    left as initialised.
    """
    path = locate(name)
    is_model = not issubclass(auto_class, transformers.AutoTokenizer)
    if is_model:
        options = {"dtype": torch.float32, "use_safetensors": True, "ignore_mismatched_sizes": True,
                   **options}
    try:
        if (Path(path) / "adapter_config.json").exists():
            if is_model:
                return merged(auto_class, Path(path), **options)
            path = locate(adapter_base(Path(path)))
        with LOADING:
            return auto_class.from_pretrained(path, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError) as error:
        raise MonjuError(f"the backbone {name!r} cannot be loaded ({str(error).strip().splitlines()[0]}): "
                         "name a model that transformers knows") from error


def merged(auto_class: Any, folder: Path, **options: Any) -> Any:
    """Return the backbone of the adapter in a folder, with the adapter merged into it."""
    model = from_pretrained(auto_class, adapter_base(folder), **options)
    labels = transformers.AutoConfig.from_pretrained(folder).num_labels
    adapted_model = adapted(folder, labels).merge_and_unload()
    if type(adapted_model) is not type(model):
        adapted_model = adapted_model.base_model
    weights = model.state_dict()
    model.load_state_dict({name: weight for name, weight in adapted_model.state_dict().items()
                           if name in weights and weights[name].shape == weight.shape}, strict=False)
    return model


def adapted(folder: Path, labels: int) -> Any:
    """Return a classifier with the adapter in a folder, as peft's model. Raises OSError etc. if broken."""
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():  # peft would look for a pickle
        raise OSError("adapter_model.safetensors is missing")
    model = from_pretrained(transformers.AutoModelForSequenceClassification, adapter_base(folder),
                            num_labels=labels)
    with LOADING:
        return PeftModel.from_pretrained(model, folder)


def adapter_base(folder: Path) -> str:
    """Return the name of the backbone that an adapter was trained on."""
    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]


def tokenizer(name: str) -> Any:
    """Return the backbone's fast tokenizer."""
    return from_pretrained(transformers.AutoTokenizer, name)


def encode(tokenizer: Any, texts: Iterable[str], max_tokens: int) -> list[list[int]]:
    """Return the token ids of sentences, with special tokens, cut at max_tokens and the model's own limit.

    A far longer sentence is cut before tokenising: 100,000 characters cost nothing.
    """
    limit = min(max_tokens, tokenizer.model_max_length)
    clipped = [text[: limit * CHARACTERS] for text in sentences(texts)]
    return tokenizer(clipped, truncation=True, max_length=limit, add_special_tokens=True)["input_ids"]


def is_clipped(tokenizer: Any, text: str, max_tokens: int) -> bool:
    """Return whether `encode` cuts the sentence before tokenising, so that its tokens are not counted."""
    return len(text) > min(max_tokens, tokenizer.model_max_length) * CHARACTERS


def token_counts(tokenizer: Any, texts: Sequence[str],
                 max_tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count each sentence's tokens, without special ones, of as much text as `encode` tokenises.

    Returns
    -------
    total, read, unknown : ndarray of int64 [n]
        Tokens that a sentence has; that the models read; that they read and the backbone does not know (none
        for a tokenizer without an unknown token, such as a byte-level one).
    """
    limit = min(max_tokens, tokenizer.model_max_length)
    if not len(texts):
        none = np.zeros(0, np.int64)
        return none, none, none
    encoded = tokenizer([text[: limit * CHARACTERS] for text in texts], truncation=True, max_length=limit,
                        add_special_tokens=True)
    special, unknown_id = tokenizer.num_special_tokens_to_add(), tokenizer.unk_token_id
    total = [sum(len(part) - special for part in (one, *one.overflowing)) for one in encoded.encodings]
    read = [len(ids) - special for ids in encoded["input_ids"]]
    unknown = [0 if unknown_id is None else ids.count(unknown_id) for ids in encoded["input_ids"]]
    return np.array(total), np.array(read), np.array(unknown)


def token_summary(name: str, texts: Sequence[str], max_tokens: int) -> dict[str, Any]:
    """Return what a backbone does not read of sentences.

    "cut" is the number of sentences longer than it reads, "unknown_tokens" the share of tokens that it does
    not know, "notes" the Notes on both.
    """
    encoder = tokenizer(name)
    total, read, unknown = token_counts(encoder, texts, max_tokens)
    cut, share, notes = int((total > read).sum()), float(unknown.sum() / max(1, read.sum())), []
    if cut:
        limit = min(max_tokens, encoder.model_max_length)
        notes.append(Note("cut", {"n": cut, "total": len(texts), "limit": limit}))
    if share:
        notes.append(Note("unknown_tokens", {"share": share, "backbone": hub_name(name),
                                             "n": int((unknown > 0).sum()), "total": len(texts)}))
    return {"cut": cut, "unknown_tokens": share, "notes": notes}


def token_notes(names: Iterable[str], texts: Sequence[str], max_tokens: int) -> list[Note]:
    """Return the notes of `token_summary` for each backbone."""
    return [note for name in names for note in token_summary(name, texts, max_tokens)["notes"]]


def length_batches(lengths: Sequence[int], size: int) -> list[np.ndarray]:
    """Return indices of `lengths` in batches of `size`, like lengths together: little padding."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def pad(tokens: Sequence[list[int]], padding: int, multiple: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return input ids and attention mask, int64 [n, longest], the longest rounded up to a `multiple`."""
    longest = -(-max(map(len, tokens)) // multiple) * multiple
    ids = torch.full((len(tokens), longest), padding)
    mask = torch.zeros((len(tokens), longest), dtype=torch.long)
    for row, sentence in enumerate(tokens):
        ids[row, : len(sentence)] = torch.tensor(sentence)
        mask[row, : len(sentence)] = 1
    return ids, mask


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the tensor on the device, sent without waiting: a GPU computes while the next batch is made."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def pick_device(name: str = "auto") -> torch.device:
    """Return the torch device for `auto`, `cpu` or `cuda`. Raises MonjuError for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise MonjuError("--device cuda: torch sees no GPU on this machine; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether the device has instructions for bf16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
