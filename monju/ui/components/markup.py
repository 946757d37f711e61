"""HTML of the web app, from the files in monju/ui/templates. Knows nothing of gradio."""

import shlex
from pathlib import Path
from typing import Any

from markupsafe import Markup

from monju.errors import MonjuError
from monju.runs.run import Run
from monju.runs.run_data import is_named
from monju.ui.i18n.translator import Translator
from monju.utils.templates import render

TEMPLATES = "monju.ui"


def html(template: str, t: Translator, **values: Any) -> Markup:
    """Render a template in the app's frame, with the texts of `t`."""
    return render(TEMPLATES, "page.html", body=template, t=t, **values)


def note(text: str, t: Translator, kind: str = "note", role: str | None = "status",
         busy: bool = False) -> Markup:
    """Draw one sentence, with a spinner where something is waited for."""
    return html("note.html", t, text=text, kind=kind, role=role, busy=busy)


def trouble(error: MonjuError, t: Translator) -> Markup:
    """Draw why a run cannot be shown: one sentence, what to do about it, and the error.

    For want of its backbone, only its models cannot be: the error says how to get it. One of another task is
    shown in another tab.
    """
    code = getattr(error.note, "code", "")
    return html("trouble.html", t, error=error, backbone=code.startswith("backbone_"),
                other=code in ("run_writes", "run_labels"))


def without_texts(key: str, run: Run, t: Translator) -> Markup:
    """Return the text of a key, which says that a run's sentences cannot be read, and how to get them."""
    source = Path(run.config.data).name  # a whole path would tell of the machine that trained
    if is_named(run):
        way_out = t("fetch_texts", command=f"python -m monju prefetch {shlex.quote(run.path.name)}")
    else:
        way_out = t("bring_texts", source=source)
    return Markup(" ").join((t(key, source=source), way_out))
