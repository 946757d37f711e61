"""Classifier: one sequence classifier on a pretrained backbone, with or without an adapter: start, logits, save, load.

It sees token ids and label numbers; it knows nothing of training, clusters, gates or the other experts.
"""

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy

from monju.errors import MonjuError
from monju.models import backbones, dropout
from monju.models.adapters import factors, lowest, with_adapter


class Expert:
    """A sequence classifier with its tokenizer's padding: fit, logits, save, load."""

    def __init__(self, model, padding, device, low_rank=None):
        self.model, self.padding, self.device = model.to(device), padding, device
        self.low_rank = low_rank  # {layer's name: (A [rank, in], B [out, rank])}: what a merged adapter added

    @classmethod
    def start(cls, config, label_names, padding, seed, device):
        """An untrained classifier for these labels; the head's first weights follow from `seed` alone."""
        torch.manual_seed(seed)
        # eager attention: on sentences of a dozen tokens the CPU's fused kernel has a backward ten times slower. Elsewhere
        # transformers takes SDPA for each architecture that has it
        attention = {"attn_implementation": "eager"} if device.type == "cpu" else {}
        model = backbones.from_pretrained(transformers.AutoModelForSequenceClassification, config.backbone,
                                          id2label=dict(enumerate(label_names)),
                                          label2id={name: number for number, name in enumerate(label_names)},
                                          **attention)
        for weight in model.parameters():  # as read they lie anywhere, and the last bits of products depend on where: torch aligns its own
            weight.data = weight.data.clone()
        # what is saved must point to where anyone finds the backbone, not to this machine's copy
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
    def trained(self):
        """The weights that training changes, by name."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def logits(self, tokens, batch=64):
        """tokens (n lists of ids) → float32 [n, labels], in full precision whatever the training used."""
        self.model.eval()
        out = np.zeros((len(tokens), self.model.config.num_labels), np.float32)
        for rows in backbones.length_batches([len(sentence) for sentence in tokens], batch):
            ids, mask = self._padded([tokens[row] for row in rows])
            with torch.inference_mode():
                out[rows] = self.model(input_ids=ids, attention_mask=mask).logits.float().cpu().numpy()
        return out

    def losses(self, tokens, labels):
        """−log p of the right label of each sentence: tokens (n lists of ids), labels [n] → [n]."""
        logits = torch.from_numpy(self.logits(tokens))
        return cross_entropy(logits, torch.as_tensor(labels), reduction="none").numpy()

    def save(self, folder, tokenizer):
        """Write a folder that plain transformers (a full model) or peft (an adapter) loads.

        Adapters are kept in fp16, half the size; the run's table is drawn from what is kept.
        """
        if hasattr(self.model, "peft_config"):
            halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in self.model.state_dict().items()}
            self.model.save_pretrained(folder, state_dict=halves, save_embedding_layers=False)  # they are frozen; peft would ask the hub
        else:
            self.model.save_pretrained(folder)
        self.model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card

    @classmethod
    def load(cls, folder, labels, padding, device):
        """A saved expert, ready to answer; an adapter is merged into its backbone. Raises MonjuError for a broken folder."""
        try:
            if (folder / "adapter_config.json").exists():
                adapted = backbones.adapted(folder, labels)
                low_rank = factors(adapted, device)
                return cls(adapted.merge_and_unload().eval(), padding, device, low_rank)
            model, found = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder, trust_remote_code=False, dtype=torch.float32, use_safetensors=True, output_loading_info=True)
        except MonjuError:
            raise
        except Exception as error:  # each library has its own for a broken file
            raise MonjuError(f"the model in {folder} cannot be loaded ({str(error).strip().splitlines()[0]}): "
                             "restore the folder or train the run again") from error
        if found["missing_keys"] or found["mismatched_keys"] or model.config.num_labels != labels:
            raise MonjuError(f"the model in {folder} is not this run's: restore the folder or train the run again")
        return cls(model.eval(), padding, device)

    def _padded(self, tokens, multiple=1):
        return (backbones.sent(part, self.device) for part in backbones.pad(tokens, self.padding, multiple))


