"""Presets: settings to start from; `auto` asks for a GPU and the hub."""

import dataclasses

from monju.config import Config, flag

PRESETS = {
    "laptop": {
        "data": "rotten-tomatoes", "backbone": "all-MiniLM-L6-v2", "embedder": "sbert",
        "epochs": 3.0, "batch_size": 32, "learning_rate": 1e-4, "weight_decay": 0.01,
    },
    "poster": {
        "data": "sst2", "backbone": "FacebookAI/roberta-base", "embedder": "tfidf",
        "epochs": 3.0, "batch_size": 32, "learning_rate": 2e-5, "weight_decay": 0.1,
    },
}


def choose_preset(name):
    """(preset, one line on which and why) for a preset's name or `auto`."""
    if name != "auto":
        return name, f"Preset {name}."
    import torch

    from monju.data import hub

    if not torch.cuda.is_available():
        return "laptop", "Preset laptop: there is no GPU here (--preset poster asks for one)."
    if not hub.answers():
        return "laptop", "Preset laptop: there is a GPU, but the hub does not answer (--preset poster needs its model and data)."
    return "poster", "Preset poster: there is a GPU and the hub answers."


def arguments(config, preset="laptop"):
    """The flags of `train` that make this configuration out of a preset: what its defaults do not say already."""
    found, before = ["--preset", preset], Config(**PRESETS[preset])
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == getattr(before, field.name):
            continue
        if isinstance(value, bool):
            found.append(flag(field.name) if value else f"--no-{flag(field.name)[2:]}")
        elif isinstance(value, list):
            found += [flag(field.name), *value]
        else:
            found.append(f"{flag(field.name)}={value}" if str(value).startswith("-") else flag(field.name))
            found += [] if str(value).startswith("-") else [str(value)]
    return found
