"""The comparison in the Results tab: every system that the stored predictions allow."""

from markupsafe import Markup

from monju.errors import MonjuError
from monju.inference.run_cache import RunCache
from monju.ui.components.markup import html, trouble
from monju.ui.i18n.translator import TEXTS, Translator


def drawn(shelf: RunCache, name: str, t: Translator) -> Markup:
    """The comparison of a run as HTML; calm words where it cannot be made."""
    try:
        opened = shelf.open(name)
        found = opened.memo("comparison", lambda: opened.call("monju.evaluation.comparison:compare_stored"))
    except MonjuError as error:
        return trouble(error, t)
    return html("comparison.html", t, run=name, n=found["n"], against=found["against"],
                against_name=named(found["against"], t),
                rows=[(row, named(row["name"], t))
                      for row in sorted(found["rows"], key=lambda row: -row["accuracy"])],
                left_out=[(named(row["name"], t), row["reason"]) for row in found["left_out"]])


def named(name: str, t: Translator) -> str:
    """A system's name in the page's language, where it has one there."""
    keys = (name.replace(" ", "_"), f"gate_{name}", f"system_{name}")
    return next((t(key) for key in keys if key in TEXTS), name)
