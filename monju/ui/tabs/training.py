"""The training tab: a form drawn from the schema, the job that trains outside the page, the list of runs.

Layout and wiring only: what is drawn is `progress`, what is done are `job_manager`, `estimate` and `registry`. Every handler
that changes something, computes at length or reads a named file goes through `owner.only`.
"""

import dataclasses
import functools
import json
import os
import shlex
import shutil
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from monju import config as schema
from monju import presets
from monju.config import Config
from monju.data.notes import Note
from monju.errors import MonjuError
from monju.runs import registry
from monju.runs import registry as shelved
from monju.training.estimate import estimate
from monju.training.job_manager import JobManager
from monju.ui.components import progress
from monju.ui.components.columns import guessed
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N, Said, bare, pathless
from monju.ui.page import QUIET
from monju.ui.server import temp_files
from monju.utils.files import digest

FIELDS = {field.name: field for field in dataclasses.fields(Config)}
SHOWN = ("data", "backbone", "embedder", "clusterer", "k", "subset_size", "finetuning", "epochs", "batch_size", "learning_rate",
         "sample", "seed", "baselines")  # the rest stands under "more"
BACKBONES = ("all-MiniLM-L6-v2", "FacebookAI/roberta-base")
NAMED = ("rotten-tomatoes", "imdb", "sst2")
UPLOADS = ".uploads/"  # in the folder of runs: what was uploaded, each file in a folder named by its content
KINDS = [".csv", ".tsv", ".jsonl", ".json", ".parquet"]
RUNNING = ("training", "stopping")


# ---- the form: one component a field of the schema, and back


def component(field):
    """The form's part for a field."""
    value = None if field.default is dataclasses.MISSING else field.default
    kind, looks = str(field.type), {"label": I18N(f"setting_{field.name}"), "info": I18N(f"help_{field.name}"),
                                    "elem_id": f"setting-{field.name}", "interactive": True}
    if "bool" in kind:
        return gr.Checkbox(value, **looks)
    if allowed := schema.choices(field):
        return gr.Dropdown(list(allowed), value=value, **looks)
    if ("int" in kind or "float" in kind) and value is not None:  # an empty Number shows 0: an optional one is a text box
        return gr.Number(value, **looks)
    if field.name in ("data", "backbone"):
        return gr.Dropdown(list(NAMED if field.name == "data" else BACKBONES), value=value, allow_custom_value=True, **looks)
    return gr.Textbox("" if value is None else value, **looks)


def shown(config):
    """A configuration → the values of the form, in the schema's order."""
    return [", ".join(value) if isinstance(value, list) else "" if value is None else value
            for name, value in config.to_json().items()]


def collected(values):
    """The values of the form → a configuration. Raises MonjuError for what cannot be."""
    found = dict(zip(FIELDS, values, strict=True))
    for name, value in found.items():
        if str(FIELDS[name].type).startswith("list"):
            found[name] = [part.strip() for part in (value or "").split(",") if part.strip()]
        elif value == "" and "None" in str(FIELDS[name].type):
            found[name] = None
        elif isinstance(value, str):
            found[name] = value.strip()
    return Config.from_json(found)


def command(config, preset, folder, name):
    """The command that trains the same run, as one types it where the page was started; where the folder of runs is not below
    that, as one types it there."""
    base = preset if preset in presets.PRESETS else "laptop"
    start = Path(os.path.relpath(folder))
    start = Path() if ".." in start.parts else start
    if config.data.startswith(UPLOADS):
        config = dataclasses.replace(config, data=str(start / config.data))
    return shlex.join(["python", "-m", "monju", "train", "--out", str(start / (name or "my-run")), *presets.arguments(config, base)])


def loaded(text):
    """Settings pasted as JSON (a run.json too) → a configuration. Raises MonjuError, or ValueError where it is no JSON object."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("{…}")
    return Config.from_json(found.get("config", found))


def kept(upload, folder):
    """Copy an uploaded file beside the runs, so that a resume finds it: what the form has for its place, which ends in its own name."""
    upload = Path(upload)
    if upload.suffix.lower() not in KINDS:
        raise Said("t_kind", kinds=", ".join(KINDS))
    place = f"{UPLOADS}{digest(upload)[:12]}/{own_name(upload.name)}"
    to = Path(folder) / place
    to.parent.mkdir(parents=True, exist_ok=True)
    if not to.exists():
        shutil.copyfile(upload, to)
    return place


def own_name(name):
    """A file's own name as every system takes it: without separators, control characters and outer dots, of 120 bytes at most."""
    name = unicodedata.normalize("NFC", name)
    name = "".join("-" if letter in '/\\:*?"<>|' else letter for letter in name if not unicodedata.category(letter).startswith("C"))
    stem, dot, kind = name.rpartition(".")
    stem = stem.strip(". ").encode()[:120].decode(errors="ignore").rstrip()
    return (stem or "data") + dot + kind.lower()


def placed(config, folder):
    """The configuration with an upload's place on this machine: the form has it as seen from the folder of runs."""
    place = os.path.abspath(Path(folder) / config.data)
    inside = config.data.startswith(UPLOADS) and place.startswith(os.path.join(os.path.abspath(folder), UPLOADS))
    return dataclasses.replace(config, data=place) if inside else config


def columns_of(config):
    """The columns of a source, {name: values}. Raises MonjuError."""
    from monju.data import sources  # numpy and all: not before someone looks

    parts = sources.open_source(config.data)
    return {str(name): values for name, values in (parts.train or parts.validation).columns.items()}


def previewed(config, columns, say):
    """A source, read and drawn; what is wrong with it beside its first rows. Also whether it can be trained on."""
    from monju.data import sources
    from monju.models import backbones

    try:
        data = sources.load_for(config)
        with suppress(MonjuError):  # a backbone that cannot be had is told by the plan
            data.notes.extend(backbones.token_notes(config.all_backbones, data.texts, config.max_tokens))
        return progress.preview(data, list(columns), say), True
    except MonjuError as error:
        return progress.trouble(error, say) + progress.first_rows(columns, say), False


def guarded(act):
    """A handler whose errors become the page's calm words."""
    @functools.wraps(act)
    def handler(*values, request: gr.Request):
        say = translator.asked(request)
        try:
            return act(say, *values)
        except MonjuError as error:
            raise gr.Error(say("t_error", error=say.error(error)), print_exception=False) from None
        except OSError as error:
            raise gr.Error(say("t_error", error=error.strerror or type(error).__name__), print_exception=False) from None

    def wired(request: gr.Request, *values):
        return handler(*values, request=request)

    return wired


# ---- the tab


def build(page, tab):
    """Lay the tab out and wire it."""
    shelf, owner, jobs = page.shelf, page.owner, JobManager(page.shelf.folder)
    seen, planned, edited, done = gr.State(""), gr.State(None), gr.State(0), {**QUIET, "queue": False}

    wire_door = owner.door(page.blocks)
    panel = gr.HTML(elem_id="job", apply_default_css=False)
    with gr.Row(visible=owner.everyone) as steering:
        stop = gr.Button(I18N("t_stop"), visible=False, elem_id="stop")
        resume = gr.Button(I18N("t_resume"), visible=False, elem_id="resume")
        use = gr.Button(I18N("t_use"), variant="primary", visible=False, elem_id="use")
    with gr.Row(visible=False) as sure_stop:
        gr.Markdown(I18N("t_sure_stop"))
        really_stop = gr.Button(I18N("t_really_stop"), variant="stop", elem_id="really-stop")
        go_on = gr.Button(I18N("t_no"))

    with gr.Column(elem_id="training-form", visible=owner.everyone) as settings:
        with gr.Row():
            preset = gr.Radio([(I18N("t_laptop"), "laptop"), (I18N("t_poster"), "poster"), (I18N("t_custom"), "custom")],
                              value="laptop", label=I18N("t_preset"), elem_id="preset")
            name = gr.Textbox("my-run", label=I18N("t_name"), elem_id="run-name")
        fields = {}
        with gr.Row():
            for field_name in SHOWN:
                with gr.Column(min_width=240):
                    fields[field_name] = component(FIELDS[field_name])
        upload = gr.File(label=I18N("t_upload"), file_types=KINDS, type="filepath", elem_id="upload", height=120)
        with gr.Row():
            look = gr.Button(I18N("t_preview"), size="sm", scale=0, min_width=220, elem_id="look")
        with gr.Row(visible=False, elem_id="columns") as lists:
            text_list = gr.Dropdown([], label=I18N("t_text_list"), elem_id="text-list", min_width=200)
            label_list = gr.Dropdown([], label=I18N("t_label_list"), elem_id="label-list", min_width=200)
        data = gr.HTML(elem_id="preview", apply_default_css=False)
        with gr.Accordion(I18N("t_more"), open=False), gr.Row():
            for field_name in FIELDS:
                if field_name not in SHOWN:
                    with gr.Column(min_width=240):
                        fields[field_name] = component(FIELDS[field_name])
        form = [fields[field_name] for field_name in FIELDS]
        first = Config(**presets.PRESETS["laptop"])
        line = gr.Textbox(command(first, "laptop", jobs.folder, "my-run"), label=I18N("t_command"), interactive=False,
                          buttons=["copy"], elem_id="command")
        with gr.Accordion(I18N("t_json"), open=False):
            text = gr.Textbox(json.dumps(first.to_json(), indent=1), show_label=False, lines=8, max_lines=14, buttons=["copy"],
                              elem_id="json")
            load = gr.Button(I18N("t_load"), elem_id="load-json")
        plan = gr.Button(I18N("t_plan"), variant="primary", elem_id="plan")
        plan_panel = gr.HTML(elem_id="plan-panel", apply_default_css=False)
        start = gr.Button(I18N("t_start"), variant="primary", visible=False, elem_id="start")

    gr.Markdown(I18N("t_runs"), elem_classes="heading")
    table = gr.HTML(elem_id="runs", apply_default_css=False)
    with gr.Row():
        run = gr.Dropdown([], label=I18N("t_run"), elem_id="a-run")
        other = gr.Dropdown([], label=I18N("t_with"), elem_id="another-run")
    with gr.Row():
        open_run, compare, delete, pack = (
            gr.Button(I18N(f"t_{what}"), size="sm", scale=0, elem_id=f"run-{what}", min_width=130,
                      visible=owner.everyone or what in ("open", "compare")) for what in ("open", "compare", "delete", "pack"))
        zipped = gr.DownloadButton(I18N("t_download"), visible=False, elem_id="run-download")
    with gr.Row(visible=False) as sure_delete:
        really_delete = gr.Button(I18N("t_really_delete"), variant="stop", elem_id="really-delete")
        keep = gr.Button(I18N("t_keep"))
    compared = gr.HTML(elem_id="compared", apply_default_css=False)
    with gr.Row(equal_height=True, visible=owner.everyone) as naming:
        new_name = gr.Textbox(label=I18N("t_new_name"), elem_id="new-name")
        rename = gr.Button(I18N("t_rename"), size="sm", scale=0, min_width=130, elem_id="rename")
    with gr.Accordion(I18N("t_hub"), open=False, visible=owner.everyone) as sending:
        repository = gr.Textbox(label=I18N("t_repository"))
        token = gr.Textbox(label=I18N("t_token"), type="password")
        send = gr.Button(I18N("t_hub"))
        sent = gr.HTML(apply_default_css=False)
    wire_door([steering, settings, delete, pack, naming, sending])

    # the job

    def seen_by_all():
        """The job as anyone may see it: the log, which may name files of this machine, only where everyone is the owner."""
        snapshot = jobs.snapshot()
        named = {"reason": bare(str(snapshot.get("reason", ""))), "log": [bare(line) for line in snapshot.get("log", [])]}
        if note := Note.of(snapshot.get("reason_note")):
            named["reason_note"] = pathless(note).to_json()
        return snapshot | named | ({} if owner.everyone else {"log": []})

    def look_at_job(before, say):
        snapshot = seen_by_all()
        stamp = json.dumps([snapshot["name"], snapshot["status"], len(snapshot.get("history", [])), snapshot.get("now"),
                            snapshot.get("log"), say.language])
        if stamp == before:
            return [gr.skip()] * 5
        status = snapshot["status"]
        return [stamp, progress.job(snapshot, say), gr.update(visible=status == "training"),
                gr.update(visible=bool(snapshot.get("resumable"))), gr.update(visible=status == "finished")]

    def ticked(before, request: gr.Request):
        """What has changed; the list of runs too where another job, or this one's end, changed it."""
        say = translator.asked(request)
        drawn = look_at_job(before, say)
        moved = isinstance(drawn[0], str) and json.loads(drawn[0])[:2] != json.loads(before or "[0, 0]")[:2]
        return [*drawn, *(list_runs(say) if moved else [gr.skip()] * 3)]

    def every_run():
        """Those in the folder, and the one that the page starts on where it stands elsewhere."""
        found = registry.list_runs(jobs.folder)
        if shelf.start not in [run["name"] for run in found]:
            try:
                found.append({**registry.summarize(shelf.run(shelf.start), (shelf.first / "run.json").stat().st_mtime), "name": shelf.start})
            except (MonjuError, OSError):
                pass
        return found

    def list_runs(say):
        found = every_run()
        names = [run["name"] for run in found]
        return [progress.listed(found, say), gr.update(choices=names), gr.update(choices=names)]

    job_parts, list_parts = [seen, panel, stop, resume, use], [table, run, other]
    timer = gr.Timer(2, active=False)
    timer.tick(ticked, seen, [*job_parts, *list_parts], **done)
    # a page that does not show the tab asks nothing: a crowd at the playground would pay for drawing curves unseen
    page.where.change(lambda where: gr.Timer(active=where == tab.id), page.where, timer, **done)

    def opened(before, request: gr.Request):
        say = translator.asked(request)
        return [tab.id, *look_at_job("", say), *list_runs(say)]

    tab.select(opened, seen, [page.where, *job_parts, *list_parts], **QUIET)

    @owner.only
    @guarded
    def begin(say, name, config):
        if config is None:
            raise Said("t_changed")
        jobs.start(Config.from_json(config), name)
        return ["", gr.update(visible=False), *look_at_job("", say)]

    @owner.only
    @guarded
    def end(say):
        jobs.stop()
        return [gr.update(visible=False), *look_at_job("", say), *list_runs(say)]

    @owner.only
    @guarded
    def go(say):
        jobs.resume(jobs.last() or "")
        return look_at_job("", say)

    def choose(name):
        return gr.update(choices=shelf.names(), value=name), gr.Tabs(selected="playground"), "playground"

    start.click(begin, [name, planned], [plan_panel, start, *job_parts], **QUIET)
    stop.click(lambda: gr.update(visible=True), None, sure_stop, **done)
    go_on.click(lambda: gr.update(visible=False), None, sure_stop, **done)
    really_stop.click(end, None, [sure_stop, *job_parts, *list_parts], **QUIET)
    resume.click(go, None, job_parts, **QUIET)
    use.click(lambda: choose(jobs.last()), None, [page.chosen, page.tabs, page.where], **QUIET)
    open_run.click(guarded(lambda say, name: (shelf.run(name).check() and choose(name))), run,
                   [page.chosen, page.tabs, page.where], **QUIET)

    # the form

    def told(config, preset, name):
        return [command(config, preset, jobs.folder, name), json.dumps(config.to_json(), indent=1, ensure_ascii=False)]

    def changed(preset, name, before, request: gr.Request, *values):
        """What follows from the form: the preset that it is, the command, the JSON; an old plan goes. `before` is the command
        shown: where the form says it already (it was filled by the page, not by hand), all stays, a plan made since too."""
        try:
            config = collected(values)
            if before == command(config, preset, jobs.folder, name):
                return [gr.skip()] * 6
            same = next((key for key, settings in presets.PRESETS.items() if config == Config(**settings)), "custom")
            return [same, *told(config, preset if preset != "custom" else same, name), "", gr.update(visible=False), None]
        except MonjuError as error:
            return [preset, "", gr.skip(), progress.trouble(error, translator.asked(request)), gr.update(visible=False), None]

    def filled(config, preset, name):
        return [*shown(config), preset, *told(config, preset, name), "", gr.update(visible=False), None]

    def choose_preset(preset, name):
        if preset not in presets.PRESETS:  # custom, or what no page sends
            return [gr.skip()] * (len(form) + 6)
        return filled(Config(**presets.PRESETS[preset]), preset, name)

    def load_json(text, name, request: gr.Request):
        say = translator.asked(request)
        try:
            return filled(loaded(text), "custom", name)
        except (ValueError, RecursionError, TypeError) as error:
            told = progress.note(say("t_bad_json", error=str(error)[:200]), say, "told", "alert")
        except MonjuError as error:
            told = progress.trouble(error, say)
        return [*[gr.skip()] * (len(form) + 3), told, gr.update(visible=False), None]

    follow = [line, text, plan_panel, start, planned]
    # change, where one types: Gradio's input event misses what is pasted or written with an input method
    edits = [part.change if isinstance(part, (gr.Textbox, gr.Number)) else part.input for part in [*form, name]]
    edits += [edited.change]  # once the page has filled several fields: one of them alone may be heard of before the others are filled
    gr.on(edits, changed, [preset, name, line, *form], [preset, *follow], trigger_mode="always_last", **done)  # an edit amid another counts
    preset.input(choose_preset, [preset, name], [*form, preset, *follow], **done)
    load.click(load_json, [text, name], [*form, preset, *follow], **done)

    listed = [fields["text_column"], fields["label_column"], lists, text_list, label_list, data, edited]

    def looked_at(config, edits, say, guess=False):
        """A source's columns as two lists, and its first rows: for `listed`. Those that are not named are guessed where asked, or
        where they must be."""
        here = placed(config, jobs.folder)
        columns = columns_of(here)
        text, label = guessed(columns)
        named = {"text_column": config.text_column or text, "label_column": config.label_column or label}
        drawn, fine = ("", False) if guess and text else previewed(here, columns, say)
        if not fine and text:
            here = dataclasses.replace(here, **named)
            drawn, _ = previewed(here, columns, say)
        choices = [gr.update(choices=list(columns), value=value if value in columns else None) for value in named.values()]
        return [here.text_column or "", here.label_column or "", gr.update(visible=len(columns) > 1), *choices, drawn, edits + 1]

    def no_lists(error, say):
        return [gr.skip(), gr.skip(), gr.update(visible=False), gr.skip(), gr.skip(), progress.trouble(error, say), gr.skip()]

    def form_with(new, values):
        return collected([new.get(key, value) for key, value in zip(FIELDS, values)])

    @owner.only
    def read(request, edits, *values):
        say = translator.asked(request)
        try:
            return looked_at(collected(values), edits, say)
        except MonjuError as error:
            return no_lists(error, say)

    @owner.only
    def uploaded(request, file, edits, *values):
        say = translator.asked(request)
        if file is None:
            return [gr.skip()] * 9
        try:
            place = kept(file, jobs.folder)
            drawn = looked_at(form_with({"data": place, "text_column": "", "label_column": "", "label_names": ""}, values), edits, say, True)
        except MonjuError as error:
            return [gr.skip(), gr.skip(), *no_lists(error, say)]
        except OSError as error:
            return [gr.skip(), gr.skip(), *no_lists(MonjuError(error.strerror or type(error).__name__), say)]
        return [gr.update(choices=[*NAMED, (place.rpartition("/")[2], place)], value=place), "", *drawn]

    @owner.only
    def choose_columns(request, text, label, edits, *values):
        say = translator.asked(request)
        try:
            if text == label:
                raise Said("t_same_column")
            return looked_at(form_with({"text_column": text or "", "label_column": label or ""}, values), edits, say)
        except MonjuError as error:
            return [*[gr.skip()] * 5, progress.trouble(error, say), gr.skip()]

    look.click(read, [edited, *form], listed, api_visibility="private")
    upload.upload(uploaded, [upload, edited, *form], [fields["data"], fields["label_names"], *listed], api_visibility="private")
    gr.on([text_list.input, label_list.input], choose_columns, [text_list, label_list, edited, *form], listed,
          trigger_mode="always_last", **QUIET)

    @owner.only
    def make_plan(request, name, *values):
        say = translator.asked(request)
        yield progress.planning(say), gr.update(visible=False), None
        try:
            config = placed(collected(values), jobs.folder)
            registry.new_run_dir(jobs.folder, name)
            found = {}
            for part in estimate(config):
                found |= part
                yield progress.plan(found, say), gr.update(visible="seconds" in found), config.to_json()
        except MonjuError as error:
            yield progress.trouble(error, say), gr.update(visible=False), None

    plan.click(make_plan, [name, *form], [plan_panel, start, planned], concurrency_id="plan", concurrency_limit=1, **QUIET)

    # the runs

    def metrics(name):
        return name, shelf.run(name).check().read_json("metrics.json")

    @guarded
    def side_by_side(say, one, two):
        return progress.compared(metrics(one), metrics(two), say)

    @owner.only
    @guarded
    def rename_run(say, old, new):
        if old == shelf.start:
            raise Said("t_keeps_name")
        jobs.rename(old, new)
        return ["", *list_runs(say)]

    @owner.only
    @guarded
    def delete_run(say, name):
        if name == shelf.start:
            raise Said("t_stays")
        jobs.delete(name)
        drawn, *choices = list_runs(say)
        return [gr.update(visible=False), drawn, *(gr.update(**{**choice, "value": None}) for choice in choices), *look_at_job("", say)]

    @owner.only
    @guarded
    def pack_run(say, name):
        return gr.update(value=str(registry.archive(shelf.run(name).path, temp_files.FOLDER.name)), visible=True)

    @owner.only
    @guarded
    def send_run(say, name, repository, token):
        address = shelved.upload(shelf.run(name).path, repository, token)
        return [progress.note(say("t_done", what=address), say, ""), ""]

    compare.click(side_by_side, [run, other], compared, **QUIET)
    rename.click(rename_run, [run, new_name], [new_name, *list_parts], **QUIET)
    delete.click(lambda: gr.update(visible=True), None, sure_delete, **done)
    keep.click(lambda: gr.update(visible=False), None, sure_delete, **done)
    really_delete.click(delete_run, run, [sure_delete, *list_parts, *job_parts], **QUIET)
    pack.click(pack_run, run, zipped, api_visibility="private")
    send.click(send_run, [run, repository, token], [sent, token], api_visibility="private")

    # the named endpoints

    def runs() -> list[dict[str, Any]]:
        """Every run: {name, date (seconds since 1970), data, backbone, monju, baseline (accuracies 0 to 1), n, bytes, status}."""
        return every_run()

    def training() -> dict[str, Any]:
        """The job that trains now, or the last one: {name, status, reason, resumable, now {done, left, memory}, stages, log,
        models, clusters, history [{model, step, steps, loss, held_out_accuracy, …}]}."""
        return seen_by_all()

    gr.api(runs, api_name="runs")
    gr.api(training, api_name="training")
