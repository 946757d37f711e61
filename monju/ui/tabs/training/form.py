"""The form of a new run: a part for each setting, the same as a command and as JSON, and the plan."""

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
from monju.errors import MonjuError
from monju.runs import registry
from monju.training.estimate import estimate
from monju.training.job_manager import JobManager
from monju.ui.components import progress
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N
from monju.ui.page import QUIET, Page
from monju.ui.tabs.training.source import NAMED, UPLOADS, SourcePicker, placed

# the rest stands under "more"
SHOWN = ("data", "backbone", "embedder", "clusterer", "k", "subset_size", "finetuning", "epochs",
         "batch_size", "learning_rate", "sample", "seed", "baselines")
# others may be typed
SUGGESTED = {"data": NAMED, "backbone": ("all-MiniLM-L6-v2", "FacebookAI/roberta-base")}


# ---- one component a setting, and back


def component(name: str) -> Component:
    """Make the form's component for a setting, at its default."""
    kind, value = schema.kind(name), in_form(SETTINGS[name].default)
    options = {"label": I18N(f"setting_{name}"), "info": I18N(f"help_{name}"), "elem_id": f"setting-{name}",
               "interactive": True}
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


# ---- the form


class Form:
    """The form of a new run.

    `fields` are its components by setting, `parts` the same as a list; `planned` holds the settings of the
    plan on show, with which the button `start` starts.
    """

    def __init__(self, page: Page, jobs: JobManager) -> None:
        self.owner, self.jobs = page.owner, jobs
        self.planned = gr.State(None)
        first = Config(**presets.PRESETS["laptop"])
        fields = {}
        with gr.Column(elem_id="training-form", visible=page.owner.everyone) as whole:
            with gr.Row():
                self.preset = gr.Radio([(I18N(f"t_{name}"), name) for name in (*presets.PRESETS, "custom")],
                                       value="laptop", label=I18N("t_preset"), elem_id="preset")
                self.name = gr.Textbox("my-run", label=I18N("t_name"), elem_id="run-name")
            with gr.Row():
                for name in SHOWN:
                    with gr.Column(min_width=240):
                        fields[name] = component(name)
            self.source = SourcePicker(page, jobs)
            with gr.Accordion(I18N("t_more"), open=False), gr.Row():
                for name in SETTINGS:
                    if name not in SHOWN:
                        with gr.Column(min_width=240):
                            fields[name] = component(name)
            self.line = gr.Textbox(command(first, "laptop", jobs.folder, "my-run"), label=I18N("t_command"),
                                   interactive=False, buttons=["copy"], elem_id="command")
            with gr.Accordion(I18N("t_json"), open=False):
                self.json = gr.Textbox(json.dumps(first.to_json(), indent=1), show_label=False, lines=8,
                                       max_lines=14, buttons=["copy"], elem_id="json")
                self.load = gr.Button(I18N("t_load"), elem_id="load-json")
            self.plan = gr.Button(I18N("t_plan"), variant="primary", elem_id="plan")
            self.plan_panel = gr.HTML(elem_id="plan-panel", apply_default_css=False)
            self.start = gr.Button(I18N("t_start"), variant="primary", visible=False, elem_id="start")
        self.fields, self.parts = fields, [fields[name] for name in SETTINGS]
        self.for_owner = [whole]

    def wire(self) -> None:
        """Connect the parts: whatever is changed, the command, the JSON and the preset follow."""
        unqueued = {**QUIET, "queue": False}
        follow = [self.line, self.json, self.plan_panel, self.start, self.planned]
        # change, where one types: Gradio's input event misses what is pasted or written with an input method
        edits = [part.change if isinstance(part, (gr.Textbox, gr.Number)) else part.input
                 for part in [*self.parts, self.name]]
        # once the page has filled several fields: one alone may be heard of before the others are filled
        edits += [self.source.edited.change]
        gr.on(edits, self.changed, [self.preset, self.name, self.line, *self.parts], [self.preset, *follow],
              trigger_mode="always_last", **unqueued)  # an edit amid another counts
        filled = [*self.parts, self.preset, *follow]
        self.preset.input(self.choose_preset, [self.preset, self.name], filled, **unqueued)
        self.load.click(self.load_json, [self.json, self.name], filled, **unqueued)
        self.source.wire(self)
        self.plan.click(self.owner.only(self.make_plan), [self.name, *self.parts],
                        [self.plan_panel, self.start, self.planned],
                        concurrency_id="plan", concurrency_limit=1, **QUIET)

    def config(self, values: Iterable[Any], **others: Any) -> Config:
        """Return the configuration of these values, but for others that are named. Raises MonjuError."""
        return collected([others.get(name, value) for name, value in zip(SETTINGS, values, strict=True)])

    def texts(self, config: Config, preset: str, name: str) -> list[str]:
        """Return a configuration as command and as JSON."""
        return [command(config, preset, self.jobs.folder, name),
                json.dumps(config.to_json(), indent=1, ensure_ascii=False)]

    def filled(self, config: Config, preset: str, name: str) -> list[Any]:
        """Return values of the whole form, filled with a configuration; an old plan is removed."""
        return [*shown(config), preset, *self.texts(config, preset, name), "", gr.update(visible=False), None]

    def changed(self, preset, name, before, request: gr.Request, *values):
        """Return what follows from the form: its preset, the command, the JSON; an old plan is removed.

        `before` is the command shown: where it is already the form's (the page filled the form, not a
        person), all stays, a plan made since too.
        """
        try:
            config = collected(values)
            if before == command(config, preset, self.jobs.folder, name):
                return [gr.skip()] * 6
            same = next((key for key, settings in presets.PRESETS.items() if config == Config(**settings)),
                        "custom")
            preset = same if preset == "custom" else preset
            return [same, *self.texts(config, preset, name), "", gr.update(visible=False), None]
        except MonjuError as error:
            trouble = progress.trouble(error, translator.asked(request))
            return [preset, "", gr.skip(), trouble, gr.update(visible=False), None]

    def choose_preset(self, preset, name):
        """Fill the form with a preset."""
        if preset not in presets.PRESETS:  # custom, or what no page sends
            return [gr.skip()] * (len(self.parts) + 6)
        return self.filled(Config(**presets.PRESETS[preset]), preset, name)

    def load_json(self, text, name, request: gr.Request):
        """Fill the form with pasted settings."""
        t = translator.asked(request)
        try:
            return self.filled(loaded(text), "custom", name)
        except (ValueError, RecursionError, TypeError) as error:
            message = t("t_bad_json", error=str(error)[:200])
            trouble = progress.note(message, t, "told", "alert")
        except MonjuError as error:
            trouble = progress.trouble(error, t)
        return [*[gr.skip()] * (len(self.parts) + 3), trouble, gr.update(visible=False), None]

    def make_plan(self, request, name, *values):
        """Plan the training: what is known of it, part by part, and the button that starts it."""
        t = translator.asked(request)
        yield progress.planning(t), gr.update(visible=False), None
        try:
            config = placed(collected(values), self.jobs.folder)
            registry.new_run_dir(self.jobs.folder, name)
            plan = {}
            for part in estimate(config):
                plan |= part
                yield progress.plan(plan, t), gr.update(visible="seconds" in plan), config.to_json()
        except MonjuError as error:
            yield progress.trouble(error, t), gr.update(visible=False), None
