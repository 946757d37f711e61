"""HTML of the web app, from the files in monju/ui/templates. Knows nothing of gradio."""

from typing import Any

from markupsafe import Markup

from monju.errors import MonjuError
from monju.ui.i18n.translator import Translator
from monju.utils.templates import render

TEMPLATES = "monju.ui"


def html(template: str, say: Translator, **values: Any) -> Markup:
    """A template in the app's frame, worded by `say`."""
    return render(TEMPLATES, "page.html", body=template, say=say, **values)


def note(text: str, say: Translator, kind: str = "note", role: str | None = "status",
         busy: bool = False) -> Markup:
    """One sentence, with a spinner where something is waited for."""
    return html("note.html", say, text=text, kind=kind, role=role, busy=busy)


def trouble(error: MonjuError, say: Translator) -> Markup:
    """A run that cannot be shown: one calm sentence, the way out, and what was found."""
    return html("trouble.html", say, error=error)
