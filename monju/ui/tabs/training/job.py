"""The job that trains outside the page: its state, its curves, the buttons that stop, resume and use it."""

import json
from typing import Any

import gradio as gr

from monju.config import Config
from monju.data.notes import Note
from monju.training.job_manager import JobManager
from monju.ui.components import progress
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N, Said, Translator, bare, pathless
from monju.ui.page import QUIET, Page
from monju.ui.tabs.training.form import Form
from monju.ui.tabs.training.handlers import guarded
from monju.ui.tabs.training.runs import RunsPanel

TO_THE_JOB = "() => document.getElementById('job').scrollIntoView({behavior: 'smooth', block: 'start'})"


class JobPanel:
    """The panel of the job. `parts` are what `draw` gives values for."""

    def __init__(self, page: Page, jobs: JobManager) -> None:
        self.page, self.jobs = page, jobs
        self.seen = gr.State("")
        panel = gr.HTML(elem_id="job", apply_default_css=False)
        with gr.Row(visible=page.owner.everyone) as steering:
            self.stop = gr.Button(I18N("t_stop"), visible=False, elem_id="stop")
            self.resume = gr.Button(I18N("t_resume"), visible=False, elem_id="resume")
            self.use = gr.Button(I18N("t_use"), variant="primary", visible=False, elem_id="use")
        with gr.Row(visible=False) as self.sure:
            gr.Markdown(I18N("t_sure_stop"))
            self.really_stop = gr.Button(I18N("t_really_stop"), variant="stop", elem_id="really-stop")
            self.go_on = gr.Button(I18N("t_no"))
        self.parts = [self.seen, panel, self.stop, self.resume, self.use]
        self.for_owner = [steering]

    def wire(self, tab: gr.Tab, form: Form, runs: RunsPanel) -> None:
        """Connect the buttons, and the clock that follows the job while the tab is shown."""
        page, only, unqueued = self.page, self.page.owner.only, {**QUIET, "queue": False}

        def ticked(before, request: gr.Request):
            """Return what has changed; the runs too where another job, or this one's end, changed them."""
            t = translator.asked(request)
            drawn = self.draw(before, t)
            job_on_show = json.loads(before or "[0, 0]")[:2]
            changed = isinstance(drawn[0], str) and json.loads(drawn[0])[:2] != job_on_show
            return [*drawn, *(runs.draw(t) if changed else [gr.skip()] * 3)]

        def opened(before, request: gr.Request):
            t = translator.asked(request)
            return [tab.id, *self.draw("", t), *runs.draw(t)]

        def end(t):
            self.jobs.stop()
            return [gr.update(visible=False), *self.draw("", t), *runs.draw(t)]

        def looked():
            """Return what the header's button says, and whether to look again."""
            now = self.running()
            return gr.update(value=now, visible=bool(now)), gr.Timer(active=bool(now))

        # a page on which nothing trains asks nothing more: who starts a training is told by the start itself
        clock = gr.Timer(5, active=False)
        header = [page.running, clock]
        gr.on([page.blocks.load, clock.tick], looked, None, header, **unqueued)
        page.running.click(lambda: (gr.Tabs(selected=tab.id), tab.id), None, [page.tabs, page.where],
                           **unqueued)
        form.start.click(None, None, None, js=TO_THE_JOB, api_visibility="private")
        timer = gr.Timer(2, active=False)
        timer.tick(ticked, self.seen, [*self.parts, *runs.parts], **unqueued)
        # a page that does not show the tab asks nothing: visitors of another would pay for curves unseen
        page.where.change(lambda where: gr.Timer(active=where == tab.id), page.where, timer, **unqueued)
        tab.select(opened, self.seen, [page.where, *self.parts, *runs.parts], **QUIET)
        form.start.click(only(guarded(self.begin)), [form.name, form.planned],
                         [form.plan_panel, form.start, *self.parts], **QUIET).then(looked, None, header,
                                                                                   **unqueued)
        self.stop.click(lambda: gr.update(visible=True), None, self.sure, **unqueued)
        self.go_on.click(lambda: gr.update(visible=False), None, self.sure, **unqueued)
        self.really_stop.click(only(guarded(end)), None, [self.sure, *self.parts, *runs.parts], **QUIET)
        self.resume.click(only(guarded(self.go)), None, self.parts, **QUIET).then(looked, None, header,
                                                                                  **unqueued)
        self.use.click(lambda: runs.choose(self.jobs.last()), None, [page.chosen, page.tabs, page.where],
                       **QUIET)
        gr.api(self.training, api_name="training")

    def running(self) -> str:
        """Return the training in progress and its share, as "● name 46 %"; "" where nothing trains."""
        snapshot = self.jobs.snapshot()
        if snapshot["status"] not in ("training", "stopping"):
            return ""
        done = (snapshot.get("now") or {}).get("done")
        return f"● {snapshot['name']}" + ("" if done is None else f" {done:.0%}")

    def snapshot(self) -> dict[str, Any]:
        """Return the job as anyone may see it.

        The log, which may name files of this machine, only where everyone is the owner.
        """
        snapshot = self.jobs.snapshot()
        named = {"reason": bare(str(snapshot.get("reason", ""))),
                 "log": [bare(line) for line in snapshot.get("log", [])]}
        if note := Note.of(snapshot.get("reason_note")):
            named["reason_note"] = pathless(note).to_json()
        return snapshot | named | ({} if self.page.owner.everyone else {"log": []})

    def draw(self, before: str, t: Translator) -> list[Any]:
        """Return values of `parts`; none is drawn again where `before`, the state on show, is the same."""
        snapshot = self.snapshot()
        stamp = json.dumps([snapshot["name"], snapshot["status"], len(snapshot.get("history", [])),
                            snapshot.get("now"), snapshot.get("log"), t.language])
        if stamp == before:
            return [gr.skip()] * 5
        status = snapshot["status"]
        return [stamp, progress.job(snapshot, t), gr.update(visible=status == "training"),
                gr.update(visible=bool(snapshot.get("resumable"))), gr.update(visible=status == "finished")]

    def begin(self, t, name, config):
        """Start the job that was planned."""
        if config is None:
            raise Said("t_changed")
        self.jobs.start(Config.from_json(config), name)
        return ["", gr.update(visible=False), *self.draw("", t)]

    def go(self, t):
        """Resume the last job."""
        self.jobs.resume(self.jobs.last() or "")
        return self.draw("", t)

    def training(self) -> dict[str, Any]:
        """Return the job that trains now, or the last one.

        As JSON: {name, status, reason, resumable, now {done, left, memory}, stages, log, models, clusters,
        history [{model, step, steps, loss, held_out_accuracy, …}]}.
        """
        return self.snapshot()
