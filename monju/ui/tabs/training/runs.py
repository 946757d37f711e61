"""The list of runs: open, rename, delete, pack and upload one."""

from typing import Any

import gradio as gr

from monju.errors import MonjuError
from monju.runs import registry
from monju.training.job_manager import JobManager
from monju.ui.components import progress
from monju.ui.i18n.translator import I18N, Said, Translator
from monju.ui.page import QUIET, Page
from monju.ui.server import temp_files
from monju.ui.tabs.training.handlers import guarded


class RunsPanel:
    """The panel of the runs. `parts` are what `draw` gives values for."""

    def __init__(self, page: Page, jobs: JobManager) -> None:
        self.page, self.shelf, self.jobs = page, page.shelf, jobs
        everyone = page.owner.everyone
        gr.Markdown(I18N("t_runs"), elem_classes="heading")
        table = gr.HTML(elem_id="runs", apply_default_css=False)
        self.run = gr.Dropdown([], label=I18N("t_run"), elem_id="a-run")
        with gr.Row():
            self.open, self.delete, self.pack = (
                gr.Button(I18N(f"t_{what}"), size="sm", scale=0, elem_id=f"run-{what}", min_width=130,
                          visible=everyone or what == "open")
                for what in ("open", "delete", "pack"))
            self.zipped = gr.DownloadButton(I18N("t_download"), visible=False, elem_id="run-download")
        with gr.Row(visible=False) as self.sure:
            self.really_delete = gr.Button(I18N("t_really_delete"), variant="stop", elem_id="really-delete")
            self.keep = gr.Button(I18N("t_keep"))
        with gr.Row(equal_height=True, visible=everyone) as naming:
            self.new_name = gr.Textbox(label=I18N("t_new_name"), elem_id="new-name")
            self.rename = gr.Button(I18N("t_rename"), size="sm", scale=0, min_width=130, elem_id="rename")
        with gr.Accordion(I18N("t_hub"), open=False, visible=everyone) as sending:
            self.repository = gr.Textbox(label=I18N("t_repository"))
            self.token = gr.Textbox(label=I18N("t_token"), type="password")
            self.send = gr.Button(I18N("t_hub"))
            self.sent = gr.HTML(apply_default_css=False)
        self.parts = [table, self.run]
        self.for_owner = [self.delete, self.pack, naming, sending]

    def wire(self, job):
        """Connect the buttons; `job` is drawn again when its run is deleted."""
        page, only, unqueued = self.page, self.page.owner.only, {**QUIET, "queue": False}

        def delete_run(t, name):
            if name == self.shelf.start:
                raise Said("t_stays")
            self.jobs.delete(name)
            drawn, choice = self.draw(t)
            return [gr.update(visible=False), drawn, gr.update(**{**choice, "value": None}), *job.draw("", t)]

        self.open.click(guarded(self.open_run), self.run, [page.chosen, page.tabs, page.where], **QUIET)
        self.rename.click(only(guarded(self.rename_run)), [self.run, self.new_name],
                          [self.new_name, *self.parts], **QUIET)
        self.delete.click(lambda: gr.update(visible=True), None, self.sure, **unqueued)
        self.keep.click(lambda: gr.update(visible=False), None, self.sure, **unqueued)
        self.really_delete.click(only(guarded(delete_run)), self.run, [self.sure, *self.parts, *job.parts],
                                 **QUIET)
        self.pack.click(only(guarded(self.pack_run)), self.run, self.zipped, api_visibility="private")
        self.send.click(only(guarded(self.send_run)), [self.run, self.repository, self.token],
                        [self.sent, self.token], api_visibility="private")
        gr.api(self.runs, api_name="runs")

    def runs(self) -> list[dict[str, Any]]:
        """Return every run.

        Each as {name, date (seconds since 1970), data, backbone, monju, baseline (accuracies 0 to 1), n,
        bytes, status}.
        """
        rows = registry.list_runs(self.jobs.folder)
        shelf = self.shelf
        if shelf.start not in [run["name"] for run in rows]:  # the page starts on one that stands elsewhere
            try:
                changed = (shelf.first / "run.json").stat().st_mtime
                rows.append({**registry.summarize(shelf.run(shelf.start), changed), "name": shelf.start})
            except (MonjuError, OSError):
                pass
        return rows

    def draw(self, t: Translator) -> list[Any]:
        """Return values of `parts`."""
        rows = self.runs()
        return [progress.listed(rows, t), gr.update(choices=[run["name"] for run in rows])]

    def choose(self, name):
        """Return values of the page's run, tabs and place for the playground on this run."""
        return gr.update(choices=self.shelf.names(), value=name), gr.Tabs(selected="playground"), "playground"

    def open_run(self, t, name):
        """Return what `choose` does, of a run that is whole."""
        self.shelf.run(name).check()
        return self.choose(name)

    def rename_run(self, t, old, new):
        """Give a run another name."""
        if old == self.shelf.start:
            raise Said("t_keeps_name")
        self.jobs.rename(old, new)
        return ["", *self.draw(t)]

    def pack_run(self, t, name):
        """Pack a run as a zip to download."""
        path = registry.archive(self.shelf.run(name).path, temp_files.FOLDER.name)
        return gr.update(value=str(path), visible=True)

    def send_run(self, t, name, repository, token):
        """Upload a run to the hub; the token is forgotten."""
        address = registry.upload(self.shelf.run(name).path, repository, token)
        return [progress.note(t("t_done", what=address), t, ""), ""]
