"""The job that trains outside the page, and those that wait for it: what is seen of them, their buttons."""

import json
from typing import Any

import gradio as gr

from monju.data.notes import Note
from monju.errors import MonjuError
from monju.training.job_manager import JobManager
from monju.ui.components import progress
from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N, Translator, bare, pathless
from monju.ui.page import QUIET, Page
from monju.ui.tabs.training.form import Form
from monju.ui.tabs.training.handlers import guarded
from monju.ui.tabs.training.runs import RunsPanel
from monju.utils.files import ROOT

SCRIPT = (ROOT / "assets" / "training.js").read_text(encoding="utf-8")
# the first word comes at once, where the curves will be: the browser's own, until the server's answer
STARTING = "() => window.monjuTraining?.starting()"
# after the answer: to what was refused, to the queue, or to the job
TO_THE_ANSWER = "() => window.monjuTraining?.answered()"
TO_THE_TOP = "() => window.scrollTo({top: 0})"
RUNS = ("training", "stopping")


class JobPanel:
    """The panel of the job and the queue. `parts` are what `draw` gives values for."""

    def __init__(self, page: Page, jobs: JobManager) -> None:
        self.page, self.jobs = page, jobs
        self.seen = gr.State("")
        panel = gr.HTML("", elem_id="job", html_template='<div class="live-root"></div>', js_on_load=SCRIPT,
                        apply_default_css=False)
        with gr.Column(visible=page.owner.everyone, elem_id="steering") as steering:
            with gr.Row(visible=False, elem_id="pinning") as self.pinning:
                self.pin = gr.Textbox("", placeholder=I18N("t_pin_new"), label=I18N("t_pin_new"), max_lines=1,
                                      show_label=False, elem_id="pin", min_width=200)
                self.add = gr.Button(I18N("t_pin_add"), elem_id="pin-add", scale=0, min_width=100)
                self.stop = gr.Button(I18N("t_stop"), visible=False, elem_id="stop", scale=0, min_width=200)
            with gr.Row(elem_id="after-job"):
                self.resume = gr.Button(I18N("t_resume"), visible=False, elem_id="resume", scale=0,
                                        min_width=260)
                self.use = gr.Button(I18N("t_use"), variant="primary", visible=False, elem_id="use", scale=0,
                                     min_width=260)
        with gr.Row(visible=False, elem_id="sure-stop") as self.sure:
            gr.Markdown(I18N("t_sure_stop"))
            self.really_stop = gr.Button(I18N("t_really_stop"), variant="stop", elem_id="really-stop")
            self.go_on = gr.Button(I18N("t_no"))
        queue = gr.HTML("", elem_id="queue", html_template='<div class="live-root"></div>', js_on_load=SCRIPT,
                        apply_default_css=False)
        # what is asked by the buttons inside the two panels: a value, since an event's own data would be sent
        # again with the next
        self.wish = gr.HTML("", html_template="", apply_default_css=False, elem_classes="training-message",
                            js_on_load="(window.monjuAsk ??= {}).training = value => "
                                       "{ props.value = JSON.stringify(value); trigger('ask') }")
        self.parts = [self.seen, panel, queue, self.stop, self.resume, self.use, self.pinning]
        self.for_owner = [steering]

    def wire(self, tab: gr.Tab, form: Form, runs: RunsPanel) -> None:
        """Connect the buttons, and the clock that follows the job while the tab is shown."""
        page, only, unqueued = self.page, self.page.owner.only, {**QUIET, "queue": False}
        self.parts += [form.start]

        def ticked(before, request: gr.Request):
            """Return what has changed; the runs too where another job, or this one's end, changed them."""
            t = translator.asked(request)
            drawn = self.draw(before, t)
            job_on_show = json.loads(before or "[0, 0]")[:2]
            changed = isinstance(drawn[0], str) and json.loads(drawn[0])[:2] != job_on_show
            return [*drawn, *(runs.draw(t) if changed else [gr.skip()] * len(runs.parts))]

        def opened(before, request: gr.Request):
            t = translator.asked(request)
            return [tab.id, *self.draw("", t), *runs.draw(t)]

        def end(t):
            self.jobs.stop()
            return [gr.update(visible=False), *self.draw("", t), *runs.draw(t)]

        def looked():
            """Return what the header's button says, and whether to look again."""
            now = self.running()
            more = any("reason" not in entry for entry in self.jobs.queue.waiting())
            return gr.update(value=now, visible=bool(now)), gr.Timer(active=bool(now) or more)

        def begin(request, name, pins, *values):
            """Start the form's training, or let it wait; a refusal is told beside the button."""
            t = translator.asked(request)
            form.auto.leave(request.session_hash or "")  # the training needs the machine
            try:
                form.begin(name, pins, values)
            except MonjuError as error:
                return [progress.trouble(error, t), gr.skip(), *self.draw("", t)]
            return ["", form.next_name(name), *self.draw("", t)]

        def begin_sweep(request, name, pins, setting, of, *values):
            t = translator.asked(request)
            try:
                count = form.begin_sweep(name, pins, setting, of, values)
            except MonjuError as error:
                return [progress.trouble(error, t), *self.draw("", t)]
            return [progress.note(t("t_sweep_added", n=count), t), *self.draw("", t)]

        # a page on which nothing trains asks nothing more: who starts a training is told by the start itself
        clock = gr.Timer(5, active=False)
        header = [page.running, clock]
        gr.on([page.blocks.load, clock.tick], looked, None, header, **unqueued)
        page.running.click(lambda: (gr.Tabs(selected=tab.id), tab.id), None, [page.tabs, page.where], **QUIET)
        timer = gr.Timer(2, active=False)
        timer.tick(ticked, self.seen, [*self.parts, *runs.parts], **unqueued)
        # a page that does not show the tab asks nothing: visitors of another would pay for curves unseen
        page.where.change(lambda where: gr.Timer(active=where == tab.id), page.where, timer, **unqueued)
        tab.select(opened, self.seen, [page.where, *self.parts, *runs.parts], **QUIET)
        form.start.click(None, None, None, js=STARTING, api_visibility="private")
        begun = form.start.click(only(begin), [form.name, form.pins, *form.parts],
                                 [form.told, form.name, *self.parts], **QUIET)
        sweep = [form.name, form.pins, form.swept, form.values, *form.parts]
        swept = form.sweep.click(only(begin_sweep), sweep, [form.sweep_told, *self.parts], **QUIET)
        begun.then(None, None, None, js=TO_THE_ANSWER, api_visibility="private")
        for event in (begun, swept):
            event.then(looked, None, header, **unqueued)
        self.stop.click(lambda: gr.update(visible=True), None, self.sure, **unqueued)
        self.go_on.click(lambda: gr.update(visible=False), None, self.sure, **unqueued)
        self.really_stop.click(only(guarded(end)), None, [self.sure, *self.parts, *runs.parts], **QUIET)
        self.resume.click(only(guarded(self.go)), None, self.parts, **QUIET).then(looked, None, header,
                                                                                  **unqueued)
        gr.on([self.add.click, self.pin.submit], only(guarded(self.pin_one)), self.pin,
              [self.pin, *self.parts], **QUIET)
        self.wish.ask(only(guarded(self.asked)), self.wish, self.parts, trigger_mode="always_last", **QUIET)
        self.use.click(lambda: runs.choose(self.jobs.last()), None, [page.chosen, page.tabs, page.where],
                       **QUIET).then(None, None, None, js=TO_THE_TOP, api_visibility="private")
        gr.api(self.training, api_name="training")

    def running(self) -> str:
        """Return the training in progress and its share, as "● name 46 %"; "" where nothing trains."""
        snapshot = self.jobs.snapshot()
        if snapshot["status"] not in RUNS:
            return ""
        done = (snapshot.get("now") or {}).get("done")
        return f"● {snapshot['name']}" + ("" if done is None else f" {done:.0%}")

    def snapshot(self, name: str | None = None) -> dict[str, Any]:
        """Return the job (the last one, unless named) as anyone may see it.

        The log, which may name files of this machine, only where everyone is the owner.
        """
        snapshot = self.jobs.snapshot(name)
        named = {"reason": bare(str(snapshot.get("reason", ""))),
                 "log": [bare(line) for line in snapshot.get("log", [])]}
        if note := Note.of(snapshot.get("reason_note")):
            named["reason_note"] = pathless(note).to_json()
        return snapshot | named | ({} if self.page.owner.everyone else {"log": []})

    def draw(self, before: str, t: Translator) -> list[Any]:
        """Return values of `parts`; none is drawn again where `before`, the state on show, is the same."""
        snapshot, waiting = self.snapshot(), self.jobs.queue.waiting()
        watched = self.jobs.watched(snapshot["name"]) if snapshot["name"] else ([], {}, [])
        stamp = json.dumps([snapshot["name"], snapshot["status"], len(snapshot.get("history", [])),
                            snapshot.get("now"), snapshot.get("log"), watched[0], bool(watched[1]),
                            len(watched[2]), waiting, t.language])
        if stamp == before:
            return [gr.skip()] * len(self.parts)
        status = snapshot["status"]
        past = [self.snapshot(name) for name in self.jobs.queue.past() if name != snapshot["name"]]
        start = I18N("t_enqueue" if status in RUNS or waiting else "t_start")
        return [stamp, progress.job(snapshot, t, watched), progress.queue(waiting, past, t),
                gr.update(visible=status == "training"), gr.update(visible=bool(snapshot.get("resumable"))),
                gr.update(visible=status == "finished"), gr.update(visible=status == "training"),
                gr.update(value=start)]

    def go(self, t):
        """Resume the last job, or let it wait for those that are in the queue."""
        self.jobs.queue.submit([(None, self.jobs.last() or "", [])])
        return self.draw("", t)

    def pin_one(self, t, text):
        """Pin one more sentence to the running job."""
        name = self.jobs.last() or ""
        self.jobs.pin(name, [*self.jobs.watched(name)[0], str(text or "")])
        return ["", *self.draw("", t)]

    def asked(self, t, wish):
        """Take a pinned sentence away, or a training out of the queue: what was asked, as JSON."""
        try:
            wish = json.loads(wish)
            unpinned, withdrawn = wish.get("unpin"), wish.get("withdraw")
        except (AttributeError, RecursionError, TypeError, ValueError):
            return [gr.skip()] * len(self.parts)
        if isinstance(unpinned, str) and (name := self.jobs.last()):
            self.jobs.pin(name, [text for text in self.jobs.watched(name)[0] if text != unpinned])
        if isinstance(withdrawn, str):
            self.jobs.queue.withdraw(withdrawn)
        return self.draw("", t)

    def training(self) -> dict[str, Any]:
        """Return the job that trains now, or the last one.

        As JSON: {name, status, reason, resumable, now {done, left, memory}, stages, log, models, clusters,
        history [{model, step, steps, loss, held_out_accuracy, …}]}.
        """
        return self.snapshot()
