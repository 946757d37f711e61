"""Adapters: low-rank ones on a frozen backbone, and the layers that stay as pretrained."""

import torch

from monju.errors import MonjuError


def lowest(model, layers):
    """{name: module} of what lies below so many layers of the encoder: its embeddings and these layers; nothing for 0.
    Raises MonjuError where the encoder has no layer left to learn, or none that can be told apart."""
    if not layers:
        return {}
    bare = model.get_base_model() if hasattr(model, "peft_config") else model
    there = bare.config.num_hidden_layers
    if layers >= there:
        raise MonjuError(f"--frozen-layers {layers} leaves nothing to learn: this backbone has {there} layers, freeze at most {there - 1}")
    parts = dict(bare.base_model.named_modules(prefix=bare.base_model_prefix))
    path = next((name for name, part in parts.items() if isinstance(part, torch.nn.ModuleList) and len(part) == there), None)
    if path is None:
        raise MonjuError("this backbone's layers cannot be told apart: leave --frozen-layers out")
    names = list(parts)  # in the order in which a sentence goes through them
    first = f"{path}.{layers}"
    return {name: parts[name] for name in names[: names.index(first)] if not f"{first}.".startswith(f"{name}.")}


def with_adapter(model, config, below=()):
    """The model frozen, with low-rank adapters on every linear layer of its encoder but those `below`, and a trainable head."""
    from peft import LoraConfig, get_peft_model

    head = [name for name, part in model.named_children() if name != model.base_model_prefix and any(True for _ in part.parameters())]
    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    bare = [name for name in linear if name in below or name.split(".")[0] in head]
    return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=config.lora_rank, lora_alpha=2 * config.lora_rank,
                                            target_modules="all-linear", modules_to_save=head, exclude_modules=bare))


def factors(adapted, device):
    """{layer's name: (A [rank, in], B [out, rank], scaled)} of an adapter's linear layers: it adds x Aᵀ Bᵀ there."""
    return {name: (layer.lora_A["default"].weight.detach().float().to(device),
                   layer.lora_B["default"].weight.detach().float().to(device) * layer.scaling["default"])
            for name, layer in adapted.base_model.model.named_modules() if hasattr(layer, "lora_A") and "default" in layer.lora_A}
