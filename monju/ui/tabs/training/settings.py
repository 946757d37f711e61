"""The settings of a new run as the page has them: a component for each, and back; as command and as JSON."""

import json
import os
import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from monju import config as schema
from monju import presets
from monju.config import SETTINGS, Config
from monju.ui.i18n.translator import I18N, TEXTS, Said
from monju.ui.tabs.training.source import NAMED, UPLOADS

GROUPS = tuple(dict.fromkeys(map(schema.group, SETTINGS)))  # in the schema's order
# others may be typed
SUGGESTED = {"data": NAMED, "backbone": ("all-MiniLM-L6-v2", "FacebookAI/roberta-base")}
# what a sweep does not vary: the data and its columns, lists, and what changes no weight
UNSWEPT = ("task", "data", "text_column", "label_column", "domain_column", "label_names", "backbones",
           "orders", "workers", "device", "map_size")


# ---- one component a setting, and back


def component(name: str, **more: Any) -> Component:
    """Make the form's component for a setting, at its default."""
    kind, value = schema.kind(name), in_form(SETTINGS[name].default)
    options = {"label": I18N(f"setting_{name}"), "info": I18N(f"help_{name}"), "elem_id": f"setting-{name}",
               "interactive": True, **more}
    if kind is bool:
        return gr.Checkbox(value, **options)
    if allowed := schema.choices(name):
        return gr.Dropdown(list(allowed), value=value, **options)
    if kind in (int, float) and value != "":  # an empty Number shows 0: an optional one is a text box
        # no bounds: the schema refuses in the page's own words, Gradio's part sends nothing
        return gr.Number(value, **options)
    if name in SUGGESTED:
        return gr.Dropdown(list(SUGGESTED[name]), value=value, allow_custom_value=True, **options)
    return gr.Textbox(value, **options)


def in_form(value: Any) -> Any:
    """Return a setting's value as the form has it."""
    return ", ".join(value) if isinstance(value, list) else "" if value is None else value


def shown(config: Config) -> list[Any]:
    """Return the form's values for a configuration, in the schema's order."""
    return [in_form(value) for value in config.to_json().values()]


def collected(values: Iterable[Any]) -> Config:
    """Return the configuration of the form's values. Raises MonjuError for what is not valid."""
    settings = dict(zip(SETTINGS, values, strict=True))
    for name, value in settings.items():
        if schema.kind(name) is list:
            settings[name] = schema.each(value or "")
        elif value == "" and SETTINGS[name].default is None:
            settings[name] = None
        elif isinstance(value, str):
            settings[name] = value.strip()
    return Config.from_json(settings)


def command(config: Config, preset: str, folder: str | Path, name: str) -> str:
    """Return the command that trains the same run.

    As one types it in the folder where the page was started; where the folder of runs is not below that, as
    one types it in the folder of runs.
    """
    base = preset if preset in presets.PRESETS else "laptop"
    start = Path(os.path.relpath(folder))
    start = Path() if ".." in start.parts else start
    if config.data.startswith(UPLOADS):
        config = replace(config, data=str(start / config.data))
    return shlex.join(["python", "-m", "monju", "train", "--out", str(start / (name or "my-run")),
                       *presets.arguments(config, base)])


def loaded(text: str) -> Config:
    """Return the configuration of settings pasted as JSON (a run.json too).

    Raises MonjuError, or ValueError where it is no JSON object.
    """
    settings = json.loads(text)
    if not isinstance(settings, dict):
        raise ValueError("{…}")
    return Config.from_json(settings.get("config", settings))


def words(name: str) -> str:
    """Return all by which a setting is found: its names and its help, in both languages."""
    texts = [name, name.replace("_", " "), *TEXTS[f"setting_{name}"], *TEXTS[f"help_{name}"]]
    return " ".join(texts).casefold()


def swept(config: Config, setting: str, values: str, name: str) -> list[tuple[Config, str]]:
    """Return the trainings of a sweep, (settings, name): one for each of the values, separated by commas.

    Raises MonjuError for a value that cannot be.
    """
    if setting not in SETTINGS or setting in UNSWEPT:
        raise Said("t_sweep_setting")
    trainings = []
    for value in schema.each(values):
        kind = schema.kind(setting)
        try:
            typed: Any = value.lower() in ("true", "yes", "1") if kind is bool else kind(value)
        except ValueError:
            typed = value  # refused by the schema, in its own words
        trainings.append((replace(config, **{setting: typed}), f"{name}-{setting.replace('_', '-')}-{value}"))
    if not trainings:
        raise Said("t_sweep_values")
    return trainings


def as_typed(config: Config, folder: str | Path) -> Config:
    """Return the configuration with an upload as the form has it, in place of its place on this machine."""
    try:
        inside = os.path.relpath(config.data, os.path.abspath(folder))
    except ValueError:
        return config
    is_upload = os.path.isabs(config.data) and inside.startswith(UPLOADS)
    return replace(config, data=inside) if is_upload else config

