"""The form's source of sentences: an upload, a look at its first rows, and the choice of its columns."""

import os
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from monju.config import Config
from monju.errors import MonjuError
from monju.training.job_manager import JobManager
from monju.ui.components import progress
from monju.ui.components.columns import guessed
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N, Said, Translator
from monju.ui.page import Page
from monju.utils.files import digest

NAMED = ("rotten-tomatoes", "imdb", "sst2", "clinc150")
UPLOADS = ".uploads/"  # in the folder of runs: what was uploaded, each file in a folder named by its content
KINDS = [".csv", ".tsv", ".jsonl", ".json", ".parquet"]


def kept(upload: str | Path, folder: str | Path) -> str:
    """Copy an uploaded file beside the runs, so that a resume finds it.

    Returns what the form has for its place, which ends in its own name.
    """
    upload = Path(upload)
    if upload.suffix.lower() not in KINDS:
        raise Said("t_kind", kinds=", ".join(KINDS))
    place = f"{UPLOADS}{digest(upload)[:12]}/{own_name(upload.name)}"
    to = Path(folder) / place
    to.parent.mkdir(parents=True, exist_ok=True)
    if not to.exists():
        shutil.copyfile(upload, to)
    return place


def own_name(name: str) -> str:
    """Return a file's own name as every system takes it.

    Without separators, control characters and outer dots, of 120 bytes at most.
    """
    name = "".join("-" if letter in '/\\:*?"<>|' else letter for letter in unicodedata.normalize("NFC", name)
                   if not unicodedata.category(letter).startswith("C"))
    stem, dot, kind = name.rpartition(".")
    stem = stem.strip(". ").encode()[:120].decode(errors="ignore").rstrip()
    return (stem or "data") + dot + kind.lower()


def placed(config: Config, folder: str | Path) -> Config:
    """Return the configuration with an upload's place on this machine.

    The form has it as seen from the runs' folder.
    """
    place = os.path.abspath(Path(folder) / config.data)
    uploads = os.path.join(os.path.abspath(folder), UPLOADS)
    inside = config.data.startswith(UPLOADS) and place.startswith(uploads)
    return replace(config, data=place) if inside else config


def columns_of(config: Config) -> dict[str, Any]:
    """Return the columns of a source, {name: values}. Raises MonjuError."""
    from monju.data import named  # numpy and all: not before someone looks

    parts = named.open_source(config.data)
    return {str(name): values for name, values in (parts.train or parts.validation).columns.items()}


def previewed(config: Config, columns: dict[str, Any], t: Translator) -> tuple[Markup, int]:
    """Read and draw a source, all of it; return it as HTML, and its training sentences.

    Where it cannot be trained on, that is 0, and its first rows are drawn with what is wrong.
    """
    from monju.data import sources  # what the models do not read of it is told by the plan

    try:
        data = sources.load_for(replace(config, sample=None))
        return progress.preview(data, list(columns), t), len(data.train.texts)
    except MonjuError as error:
        return progress.trouble(error, t) + progress.first_rows(columns, t), 0


class SourcePicker:
    """The first step: a source by name or as a file, its columns, its first rows.

    `field` is the component of the setting; `edited` changes once the page itself has filled several fields,
    `again` for the source to be looked at; `total` is the number of training sentences, None where it is not
    known.
    """

    def __init__(self, page: Page, jobs: JobManager, field: gr.Dropdown) -> None:
        self.owner, self.jobs, self.field = page.owner, jobs, field
        self.edited, self.again, self.total = gr.State(0), gr.State(0), gr.State(None)
        self.upload = gr.File(label=I18N("t_upload"), file_types=KINDS, type="filepath", elem_id="upload",
                              height=104)

    def place_rows(self) -> None:
        """Lay out the columns and the rows."""
        with gr.Row(visible=False, elem_id="columns") as self.lists:
            self.text = gr.Dropdown([], label=I18N("t_text_list"), elem_id="text-list", min_width=200)
            self.label = gr.Dropdown([], label=I18N("t_label_list"), elem_id="label-list", min_width=200)
        self.preview = gr.HTML(elem_id="preview", apply_default_css=False)

    def wire(self, form):
        """Connect the parts with the form, whose fields they fill."""
        self.form, only = form, self.owner.only
        columns = [form.fields["text_column"], form.fields["label_column"]]
        self.listed = listed = [*columns, self.lists, self.text, self.label, self.preview, self.total,
                                self.edited]
        looking = {"trigger_mode": "always_last", "api_visibility": "private",
                   "show_progress_on": self.preview}
        self.field.input(only(self.chosen), [self.edited, *form.parts], listed, **looking)
        self.again.change(only(self.read), [self.edited, *form.parts], listed, **looking)
        self.upload.upload(only(self.uploaded), [self.upload, self.edited, *form.parts],
                           [self.field, form.fields["label_names"], *listed], **looking)
        gr.on([self.text.input, self.label.input], only(self.choose_columns),
              [self.text, self.label, self.edited, *form.parts], listed, **looking)

    def looked_at(self, config: Config, edits: int, t: Translator, guess: bool = False) -> list[Any]:
        """Return a source's columns as two lists, and its first rows: values of `listed`.

        Columns that are not named are guessed where `guess` is true, or where the source cannot be read
        without them.
        """
        here = placed(config, self.jobs.folder)
        columns = columns_of(here)
        text, label = guessed(columns)
        named = {"text_column": config.text_column or text, "label_column": config.label_column or label}
        drawn, count = ("", 0) if guess and text else previewed(here, columns, t)
        if not count and text and (here.text_column, here.label_column) != tuple(named.values()):
            here = replace(here, **named)
            drawn, count = previewed(here, columns, t)
        lists = [gr.update(choices=list(columns), value=value if value in columns else None)
                 for value in named.values()]
        return [here.text_column or "", here.label_column or "", gr.update(visible=len(columns) > 1), *lists,
                drawn, count or None, edits + 1]

    def chosen(self, request, edits, *values):
        """Look at the source that was chosen by name: what was said of another's columns does not count."""
        return self._tried(request, lambda t: self.looked_at(
            self.form.config(values, text_column="", label_column=""), edits, t))

    def read(self, request, edits, *values):
        """Look at the source that the form names."""
        return self._tried(request, lambda t: self.looked_at(self.form.config(values), edits, t))

    def _tried(self, request, look):
        t = translator.asked(request)
        try:
            return look(t)
        except MonjuError as error:
            return no_lists(error, t)

    def uploaded(self, request, file, edits, *values):
        """Keep an uploaded file, and look at it."""
        t = translator.asked(request)
        if file is None:
            return [gr.skip()] * (2 + len(self.listed))
        try:
            place = kept(file, self.jobs.folder)
            config = self.form.config(values, data=place, text_column="", label_column="", label_names="")
            drawn = self.looked_at(config, edits, t, guess=True)
        except MonjuError as error:
            return [gr.skip(), gr.skip(), *no_lists(error, t)]
        except OSError as error:
            return [gr.skip(), gr.skip(), *no_lists(MonjuError(error.strerror or type(error).__name__), t)]
        return [gr.update(choices=choices(place), value=place), "", *drawn]

    def choose_columns(self, request, text, label, edits, *values):
        """Look at the source with the columns that were chosen."""
        t = translator.asked(request)
        try:
            if text == label:
                raise Said("t_same_column")
            config = self.form.config(values, text_column=text or "", label_column=label or "")
            return self.looked_at(config, edits, t)
        except MonjuError as error:
            return [*[gr.skip()] * 5, progress.trouble(error, t), gr.skip(), gr.skip()]


def choices(data: str) -> list[Any]:
    """Return the sources to choose from: those by name, and an upload under its own name."""
    return [*NAMED, (data.rpartition("/")[2], data)] if data.startswith(UPLOADS) else list(NAMED)


def no_lists(error: MonjuError, t: Translator) -> list[Any]:
    """Return values of `listed` for a source that cannot be read."""
    return [gr.skip(), gr.skip(), gr.update(visible=False), gr.skip(), gr.skip(),
            progress.trouble(error, t), None, gr.skip()]
