"""Classifier: one sequence classifier on a pretrained backbone, with or without an adapter.

Sees token ids and label numbers. Knows nothing of training, clusters, gates or the other experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy

from monju.config import Config
from monju.errors import MonjuError
from monju.models import backbones, dropout
from monju.models.adapters import factors, lowest, with_adapter


class Expert:
    """A sequence classifier: make one with `Expert.start`, open one with `Expert.load`.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        The classifier.
    padding : int
        Its tokenizer's padding id.
    device : torch.device
        Where it computes.
    low_rank : mapping of str to (Tensor [rank, in], Tensor [out, rank]), optional
        What a merged adapter added to each layer, by the layer's name: B A.
    """

    def __init__(self, model: Any, padding: int, device: torch.device,
                 low_rank: Mapping[str, tuple[torch.Tensor, torch.Tensor]] | None = None):
        self.model, self.padding, self.device = model.to(device), padding, device
        self.low_rank = low_rank

    @classmethod
    def start(cls, config: Config, label_names: Sequence[str], padding: int, seed: int,
              device: torch.device) -> Expert:
        """Return an untrained classifier for these labels; its head's weights depend on `seed` alone."""
        # eager attention: for sentences of a dozen tokens the backward of the CPU's fused kernel is ten times
        # slower. Elsewhere transformers takes SDPA for each architecture that has it
        attention = {"attn_implementation": "eager"} if device.type == "cpu" else {}
        labels = {"id2label": dict(enumerate(label_names)),
                  "label2id": {name: number for number, name in enumerate(label_names)}}
        with backbones.LOADING:  # another load would draw from the same random numbers
            torch.manual_seed(seed)
            model = backbones.from_pretrained(transformers.AutoModelForSequenceClassification,
                                              config.backbone, **labels, **attention)
        # weights as read are not aligned, and the last bits of products depend on that: torch aligns its own
        for weight in model.parameters():
            weight.data = weight.data.clone()
        # what is saved must name the backbone as anyone finds it, not this machine's copy
        model.name_or_path = model.config._name_or_path = backbones.hub_name(config.backbone)
        below = lowest(model, config.frozen_layers)
        for part in below.values():
            part.requires_grad_(False)
        if config.finetuning == "lora":
            model = with_adapter(model, config, below)
        if device.type == "cpu":
            dropout.install(model)
        return cls(model, padding, device)

    @property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The weights that training changes, by name."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def logits(self, tokens: Sequence[list[int]], batch: int = 64) -> np.ndarray:
        """Return float32 logits [n, labels] of n lists of ids, in full precision whatever training used."""
        self.model.eval()
        out = np.zeros((len(tokens), self.model.config.num_labels), np.float32)
        for rows in backbones.length_batches([len(sentence) for sentence in tokens], batch):
            ids, mask = self._padded([tokens[row] for row in rows])
            with torch.inference_mode():
                out[rows] = self.model(input_ids=ids, attention_mask=mask).logits.float().cpu().numpy()
        return out

    def losses(self, tokens: Sequence[list[int]], labels: np.ndarray) -> np.ndarray:
        """Return −log p of each sentence's right label: n lists of ids, labels [n] → [n]."""
        logits = torch.from_numpy(self.logits(tokens))
        return cross_entropy(logits, torch.as_tensor(labels), reduction="none").numpy()

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write a folder that plain transformers (a full model) or peft (an adapter) loads.

        Adapters are stored in fp16, half the size, and without a tokenizer: it is their backbone's.
        """
        if hasattr(self.model, "peft_config"):
            halves = {name: tensor.half() if tensor.is_floating_point() else tensor
                      for name, tensor in self.model.state_dict().items()}
            # no embeddings: they are frozen, and peft would ask the hub about them
            self.model.save_pretrained(folder, state_dict=halves, save_embedding_layers=False)
        else:
            self.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        self.model.config.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card

    @classmethod
    def load(cls, folder: Path, labels: int, padding: int, device: torch.device) -> Expert:
        """Return a saved expert, an adapter merged into its backbone. Raises MonjuError if it is broken."""
        try:
            if (folder / "adapter_config.json").exists():
                adapted = backbones.adapted(folder, labels)
                low_rank = factors(adapted, device)
                return cls(adapted.merge_and_unload().eval(), padding, device, low_rank)
            with backbones.LOADING:
                model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
                    folder, trust_remote_code=False, dtype=torch.float32, use_safetensors=True,
                    output_loading_info=True)
        except MonjuError:
            raise
        except Exception as error:  # each library has its own for a broken file
            reason = str(error).strip().splitlines()[0]
            raise MonjuError(f"the model in {folder} cannot be loaded ({reason}): "
                             "restore the folder or train the run again") from error
        if info["missing_keys"] or info["mismatched_keys"] or model.config.num_labels != labels:
            raise MonjuError(f"the model in {folder} is not this run's: "
                             "restore the folder or train the run again")
        return cls(model.eval(), padding, device)

    def _padded(self, tokens: Sequence[list[int]], multiple: int = 1) -> Iterator[torch.Tensor]:
        """Input ids and attention mask of a batch, on the device."""
        return (backbones.sent(part, self.device) for part in backbones.pad(tokens, self.padding, multiple))
