"""Adapters: low-rank ones on a frozen backbone, and the layers that stay as pretrained."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from monju.config import Config
from monju.errors import MonjuError
from monju.utils.files import write

SHIFT = 32.0  # factors are about 0.01, below float8's smallest normal number: they are stored so much larger


def lowest(model: Any, layers: int) -> dict[str, torch.nn.Module]:
    """Return {name: module} of an encoder's embeddings and lowest layers; nothing for 0.

    Raises MonjuError where no layer is left to train, or the layers cannot be found.
    """
    if not layers:
        return {}
    bare = model.get_base_model() if hasattr(model, "peft_config") else model
    total = bare.config.num_hidden_layers
    if layers >= total:
        raise MonjuError(f"--frozen-layers {layers} leaves nothing to learn: "
                         f"this backbone has {total} layers, freeze at most {total - 1}")
    parts = dict(bare.base_model.named_modules(prefix=bare.base_model_prefix))
    path = next((name for name, part in parts.items()
                 if isinstance(part, torch.nn.ModuleList) and len(part) == total), None)
    if path is None:
        raise MonjuError("this backbone's layers cannot be told apart: leave --frozen-layers out")
    names = list(parts)  # in the order of the forward pass
    first = f"{path}.{layers}"
    return {name: parts[name] for name in names[: names.index(first)]
            if not f"{first}.".startswith(f"{name}.")}


def with_adapter(model: Any, config: Config, below: Collection[str] = ()) -> Any:
    """Return the model frozen, with low-rank adapters on its encoder's linear layers and a trainable head.

    Layers whose names are in `below` get no adapter.
    """
    from peft import LoraConfig, get_peft_model

    head = [name for name, part in model.named_children()
            if name != model.base_model_prefix and any(True for _ in part.parameters())]
    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    bare = [name for name in linear if name in below or name.split(".")[0] in head]
    rank = config.lora_rank
    return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=rank, lora_alpha=2 * rank,
                                            target_modules="all-linear", modules_to_save=head,
                                            exclude_modules=bare))


def factors(adapted: Any, device: torch.device) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return {layer's name: (A [rank, in], scaled B [out, rank])} of an adapter: it adds x Aᵀ Bᵀ there."""
    layers = {name: layer for name, layer in adapted.base_model.model.named_modules()
              if hasattr(layer, "lora_A") and "default" in layer.lora_A}
    return {name: (layer.lora_A["default"].weight.detach().float().to(device),
                   layer.lora_B["default"].weight.detach().float().to(device) * layer.scaling["default"])
            for name, layer in layers.items()}


def store_in_eight_bits(folder: Path) -> None:
    """Store the factors A and B of the adapter in a folder as float8 (e4m3), half their size in fp16.

    What they add to a layer, scaling · B A, stays the same but for rounding: `lora_alpha` takes the scale
    back. Plain peft loads them. Nothing is done where they are in 8 bits already.
    """
    file, settings = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    weights = load_file(file)
    wide = [name for name, weight in weights.items() if ".lora_" in name and weight.element_size() > 1]
    if not wide:
        return
    weights |= {name: (weights[name].float() * SHIFT).to(torch.float8_e4m3fn) for name in wide}
    config = json.loads(settings.read_text(encoding="utf-8"))
    config["lora_alpha"] /= SHIFT**2
    write(file, save(weights, {"format": "pt"}))
    write(settings, json.dumps(config, indent=2, sort_keys=True))
