"""Presets: settings to start from; `auto` asks for a GPU and the hub.

`laptop` needs neither. `assistants` is a setting in which the gate matters: every expert lacks a third of the
topics. `poster` is the poster's, in which it cannot: sentiment is one topic.
"""

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
