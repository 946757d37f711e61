"""The training tab: a form drawn from the schema, the job that trains outside the page, the list of runs.

Layout and wiring: what is drawn is `progress`, what is done are `job_manager`, `estimate` and `registry`.
Every handler that changes something, computes at length or reads a named file goes through `owner.only`.
"""

import gradio as gr

from monju.training.job_manager import JobManager
from monju.ui.page import Page
from monju.ui.tabs.training.form import Form
from monju.ui.tabs.training.job import JobPanel
from monju.ui.tabs.training.runs import RunsPanel


def build(page: Page, tab: gr.Tab) -> None:
    """Lay out the tab and wire it."""
    jobs = JobManager(page.shelf.folder)
    wire_door = page.owner.door(page.blocks)
    job, form, runs = JobPanel(page, jobs), Form(page, jobs), RunsPanel(page, jobs)
    wire_door([*job.for_owner, *form.for_owner, *runs.for_owner])
    job.wire(tab, form, runs)
    form.wire(tab)
    runs.wire(job)
    if not page.owner.zero:
        jobs.queue.go_on()  # what waited when the page was last closed
