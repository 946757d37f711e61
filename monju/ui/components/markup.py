"""HTML of the web app, from the files in monju/ui/templates. Knows nothing of gradio."""

from typing import Any

from markupsafe import Markup

from monju.errors import MonjuError
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
    """Draw why a run cannot be shown: one sentence, what to do about it, and the error."""
    return html("trouble.html", t, error=error)
