"""The form of a new run: three steps, all other settings folded below; it is kept in the browser."""

import json
import re
from collections.abc import Iterable
from typing import Any

import gradio as gr

from monju import config as schema
from monju import presets
from monju.config import SETTINGS, Config
from monju.errors import MonjuError
from monju.runs import registry
from monju.training.job_manager import JobManager
from monju.ui.components import progress
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N, TEXTS, Said
from monju.ui.page import QUIET, Page
from monju.ui.tabs.training import settings
from monju.ui.tabs.training.plan import SIZES, AutoPlan
from monju.ui.tabs.training.settings import GROUPS, collected, command, component, loaded, shown
from monju.ui.tabs.training.source import UPLOADS, SourcePicker, choices, placed
from monju.utils.files import ROOT

FIRST = Config(**presets.PRESETS["laptop"], sample=SIZES[0])
NAME = "my-run"


class Form:
    """The form of a new run. `fields` are its components by setting, `parts` the same as a list.

    `filled` are all that a configuration fills; `begun` is drawn after a start: the name and what is told.
    """

    def __init__(self, page: Page, jobs: JobManager) -> None:
        self.page, self.owner, self.jobs, self.auto = page, page.owner, jobs, AutoPlan(jobs)
        self.wanted, self.restored = gr.State(None), gr.State(False)
        self.kept = gr.BrowserState(None, storage_key="monju-training", secret="monju")
        fields = {"data": component("data", render=False, info=None)}
        with gr.Column(elem_id="training-form", visible=page.owner.everyone) as whole:
            with gr.Row(elem_id="steps"):
                with gr.Column(scale=3, min_width=320):
                    gr.Markdown(I18N("t_step_data"), elem_classes="step")
                    with gr.Row(elem_id="step-data"):
                        with gr.Column(min_width=220):
                            fields["data"].render()
                        with gr.Column(min_width=220):
                            self.source = SourcePicker(page, jobs, fields["data"])
                    self.source.place_rows()
                with gr.Column(scale=2, min_width=320):
                    gr.Markdown(I18N("t_step_size"), elem_classes="step")
                    self.size = gr.Radio([*((f"{n:,}", n) for n in SIZES), (I18N("t_all_unknown"), 0)],
                                         value=SIZES[0], label=I18N("t_size"), elem_id="size")
                    self.plan_panel = gr.HTML(elem_id="plan-panel", apply_default_css=False)
                    gr.Markdown(I18N("t_step_start"), elem_classes="step")
                    self.name = gr.Textbox(NAME, label=I18N("t_name"), elem_id="run-name")
                    self.pins = gr.Textbox("", label=I18N("t_pins"), placeholder=I18N("t_pins_hint"), lines=2,
                                           max_lines=5, elem_id="pins")
                    self.told = gr.HTML(elem_id="start-told", apply_default_css=False)
                    self.start = gr.Button(I18N("t_start"), variant="primary", elem_id="start")
            with gr.Accordion(I18N("t_advanced"), open=False, elem_id="advanced"):
                self._advanced(fields)
        self.fields, self.parts = fields, [fields[name] for name in SETTINGS]
        self.for_owner = [whole]
        self.filled = [*self.parts, self.preset, self.name, self.line, self.json, self.size, self.plan_panel,
                       self.wanted, self.kept, self.source.again]

    def _advanced(self, fields: dict[str, Any]) -> None:
        """Lay out all that has a good default: the other settings, a sweep, the same as text."""
        words = {name: settings.words(name) for name in SETTINGS if name != "data"}
        say = {name: TEXTS[f"find_{name}"] for name in ("label", "hint", "found", "none")}
        gr.HTML("", elem_id="find-setting", apply_default_css=False,
                html_template=(ROOT / "monju" / "ui" / "templates" / "find.html").read_text(encoding="utf-8"),
                js_on_load=f"const WORDS = {json.dumps(words, ensure_ascii=False)};\n"
                           f"const SAY = {json.dumps(say, ensure_ascii=False)};\n"
                           + (ROOT / "assets" / "find.js").read_text(encoding="utf-8"))
        self.preset = gr.Radio([(I18N(f"t_{name}"), name) for name in (*presets.PRESETS, "custom")],
                               value="laptop", label=I18N("t_preset"), elem_id="preset")
        for group in GROUPS:
            with gr.Column(elem_classes="settings-group"):
                gr.Markdown(I18N(f"t_group_{group}"), elem_classes="group")
                with gr.Row():
                    for name in SETTINGS:
                        if schema.group(name) == group and name not in fields:
                            with gr.Column(min_width=240, elem_id=f"field-{name}", elem_classes="field"):
                                fields[name] = component(name)
        with gr.Column(elem_id="sweep"):
            gr.Markdown(I18N("t_sweep"), elem_classes="group")
            with gr.Row(equal_height=True):
                self.swept = gr.Dropdown([(I18N(f"setting_{name}"), name) for name in SETTINGS
                                          if name not in settings.UNSWEPT], value="seed",
                                         label=I18N("t_sweep_over"), elem_id="sweep-over", min_width=200)
                self.values = gr.Textbox("0, 1, 2", label=I18N("t_sweep_list"), elem_id="sweep-values",
                                         min_width=200)
                self.sweep = gr.Button(I18N("t_sweep_add"), elem_id="sweep-add", scale=0, min_width=220)
            self.sweep_told = gr.HTML(elem_id="sweep-told", apply_default_css=False)
        gr.Markdown(I18N("t_as_text"), elem_classes="group")
        self.line = gr.Textbox(command(FIRST, "laptop", self.jobs.folder, NAME), label=I18N("t_command"),
                               interactive=False, buttons=["copy"], elem_id="command")
        self.json = gr.Textbox(json.dumps(FIRST.to_json(), indent=1), label=I18N("t_json"), lines=6,
                               max_lines=14, buttons=["copy"], elem_id="json")
        self.load = gr.Button(I18N("t_load"), elem_id="load-json")
        self.load_told = gr.HTML(elem_id="load-told", apply_default_css=False)

    def wire(self, tab: gr.Tab) -> None:
        """Connect the parts: whatever is changed, the command, the JSON, the preset and the plan follow."""
        # only what changes no state: Gradio's page does not hear of a state that an unqueued call changes
        unqueued, only = {**QUIET, "queue": False}, self.owner.only
        # change, where one types: Gradio's input event misses what is pasted or written with an input method
        edits = [part.change if isinstance(part, (gr.Textbox, gr.Number)) else part.input
                 for part in [*self.parts, self.name]]
        # once the page has filled several fields: one alone may be heard of before the others are filled
        edits += [self.source.edited.change]
        gr.on(edits, self.changed, [self.preset, self.name, self.line, self.source.total, *self.parts],
              [self.preset, self.line, self.json, self.size, self.plan_panel, self.told, self.wanted,
               self.kept],
              trigger_mode="always_last", **QUIET)  # an edit amid another counts
        self.size.input(lambda n: str(n or ""), self.size, self.fields["sample"], **unqueued)
        self.preset.input(self.choose_preset, [self.preset, self.name, self.size, self.source.again],
                          self.filled, **QUIET)
        self.load.click(self.load_json, [self.json, self.name, self.source.again],
                        [*self.filled, self.load_told], **QUIET)
        tab.select(only(self.restore, otherwise=[gr.skip()] * (len(self.filled) + 2)),
                   [self.restored, self.kept, self.source.again], [*self.filled, self.pins, self.restored],
                   **QUIET)
        self.source.wire(self)
        self.wanted.change(only(self.auto.follow), self.wanted, self.plan_panel, trigger_mode="always_last",
                           concurrency_id="plan", concurrency_limit=1, **QUIET).then(
            self.resize, [self.source.total, *self.parts], self.size, **unqueued)

    # ---- a configuration

    def config(self, values: Iterable[Any], **others: Any) -> Config:
        """Return the configuration of these values, but for others that are named. Raises MonjuError."""
        return collected([others.get(name, value) for name, value in zip(SETTINGS, values, strict=True)])

    def texts(self, config: Config, preset: str, name: str) -> list[str]:
        """Return a configuration as command and as JSON."""
        return [command(config, preset, self.jobs.folder, name),
                json.dumps(config.to_json(), indent=1, ensure_ascii=False)]

    def fill(self, config: Config, preset: str, name: str, looks: int, t: translator.Translator) -> list[Any]:
        """Return values of `filled` for a configuration; its source is looked at."""
        values = dict(zip(SETTINGS, shown(config)))
        if config.data.startswith(UPLOADS):  # else its value alone: with two properties it is filled last
            values["data"] = gr.update(choices=choices(config.data), value=values["data"])
        return [*values.values(), preset, name, *self.texts(config, preset, name),
                self.auto.sizes(config, None, t), "", config.to_json(), kept(config, preset, name), looks + 1]

    def preset_of(self, config: Config) -> str:
        """Return the preset of a configuration, whatever its size: the size is a step of its own."""
        return next((key for key, preset in presets.PRESETS.items()
                     if config == Config(**{**preset, "sample": config.sample})), "custom")

    # ---- what the form does

    def changed(self, preset, name, before, total, request: gr.Request, *values):
        """Return what follows: the preset, the command, the JSON, the sizes, what is to be planned and kept.

        `before` is the command shown: where it is already the form's (the page filled the form, not a
        person), only the sizes follow.
        """
        t = translator.asked(request)
        total = total if type(total) is int else None
        try:
            config = collected(values)
            sizes = self.auto.sizes(config, total, t)
            if before == command(config, preset, self.jobs.folder, name):
                return [*[gr.skip()] * 3, sizes, *[gr.skip()] * 4]
            self.auto.leave(request.session_hash or "", config)
            same = self.preset_of(config)
            preset = same if preset == "custom" or same != "custom" else preset
            return [same, *self.texts(config, preset, name), sizes, gr.skip(), self.refused(name, t),
                    config.to_json(), kept(config, same, name)]
        except MonjuError as error:
            self.auto.leave(request.session_hash or "")
            return [preset, "", gr.skip(), gr.skip(), progress.trouble(error, t), "", None, gr.skip()]

    def refused(self, name: Any, t: translator.Translator) -> Any:
        """Draw why a name cannot be a new run's; "" where it can."""
        try:
            self.free(name)
        except MonjuError as error:
            return progress.trouble(error, t)
        return ""

    def free(self, name: Any) -> str:
        """Return a name that no run and no waiting training has. Raises MonjuError for any other."""
        registry.new_run_dir(self.jobs.folder, name)
        name = registry.validate_name(name)
        if name in [entry["name"] for entry in self.jobs.queue.waiting()] or (
                self.jobs.running() and name == self.jobs.last()):
            raise Said("t_name_waits", name=name)
        return name

    def next_name(self, name: str) -> str:
        """Return the first of name, name-2, name-3, … that is free."""
        stem = re.sub(r"-\d+$", "", name) or NAME
        for number in range(1, 1000):
            tried = stem if number == 1 else f"{stem}-{number}"
            try:
                return self.free(tried)
            except MonjuError:
                continue
        return name

    def choose_preset(self, preset, name, size, looks, request: gr.Request):
        """Fill the form with a preset, of the size that was chosen."""
        if preset not in presets.PRESETS:  # custom, or what no page sends
            return [gr.skip()] * len(self.filled)
        config = Config(**{**presets.PRESETS[preset], "sample": size or None})
        self.auto.leave(request.session_hash or "", config)
        return self.fill(config, preset, name, looks, translator.asked(request))

    def load_json(self, text, name, looks, request: gr.Request):
        """Fill the form with pasted settings."""
        t = translator.asked(request)
        try:
            config = settings.as_typed(loaded(text), self.jobs.folder)
            self.auto.leave(request.session_hash or "", config)
            return [*self.fill(config, self.preset_of(config), name, looks, t), ""]
        except (ValueError, RecursionError, TypeError) as error:
            trouble = progress.note(t("t_bad_json", error=str(error)[:200]), t, "told", "alert")
        except MonjuError as error:
            trouble = progress.trouble(error, t)
        return [*[gr.skip()] * len(self.filled), trouble]

    def restore(self, request, restored, before, looks):
        """Fill the form when the tab is first opened: with the running job's settings, or as it was left."""
        if restored:
            return [gr.skip()] * (len(self.filled) + 2)
        t = translator.asked(request)
        name, found, left = NAME, None, before if isinstance(before, dict) else {}
        if self.jobs.running() and (running := self.jobs.last()):
            name, found = running, self.jobs.settings(running)
        for values in (found, left.get("config")):
            try:
                config = settings.as_typed(Config.from_json(values), self.jobs.folder)
                break
            except MonjuError:
                continue
        else:
            config = FIRST
        if not found and isinstance(left.get("name"), str):
            name = left["name"]
        pins = request.query_params.get("pins")  # of a link
        return [*self.fill(config, self.preset_of(config), self.next_name(name), looks, t),
                gr.skip() if pins is None else pins, True]

    def resize(self, total, request: gr.Request, *values):
        """Return the sizes with the times that are known now."""
        try:
            return self.auto.sizes(collected(values), total if type(total) is int else None,
                                   translator.asked(request))
        except MonjuError:
            return gr.skip()

    # ---- what is asked of the jobs

    def begin(self, name: str, pins: str, values: Iterable[Any]) -> bool:
        """Train a run of the form's settings, now or after those that wait; return whether now."""
        config = placed(collected(values), self.jobs.folder)
        return self.jobs.queue.submit([(config, self.free(name), str(pins or "").splitlines())])

    def begin_sweep(self, name: str, pins: str, setting: str, of: str, values: Iterable[Any]) -> int:
        """Put a run for each value of a setting into the queue; return how many."""
        config = placed(collected(values), self.jobs.folder)
        sweep = settings.swept(config, setting, str(of or ""), registry.validate_new_name(name))
        lines = str(pins or "").splitlines()
        self.jobs.queue.submit([(one, self.free(run), lines) for one, run in sweep])
        return len(sweep)


def kept(config: Config, preset: str, name: str) -> dict[str, Any]:
    """Return what the browser keeps of the form."""
    return {"config": config.to_json(), "preset": preset, "name": name}
