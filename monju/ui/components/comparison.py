"""The comparison in the Results tab: every system that the stored predictions allow."""

from markupsafe import Markup

from monju.errors import MonjuError
from monju.inference.run_cache import RunCache
from monju.ui.components.markup import html, trouble
from monju.ui.i18n.translator import TEXTS, Translator


def drawn(shelf: RunCache, name: str, t: Translator) -> Markup:
    """Draw the comparison of a run; where it cannot be made, the reason."""
    try:
        opened = shelf.open(name)
        results = opened.memo("comparison", lambda: opened.call("monju.evaluation.comparison:compare_stored"))
    except MonjuError as error:
        return trouble(error, t)
    return html("comparison.html", t, run=name, n=results["n"], against=results["against"],
                against_name=named(results["against"], t),
                rows=[(row, named(row["name"], t))
                      for row in sorted(results["rows"], key=lambda row: -row["accuracy"])],
                left_out=[(named(row["name"], t), row["reason"]) for row in results["left_out"]])


def named(name: str, t: Translator) -> str:
    """Return a system's name in the page's language, where it has one there."""
    keys = (name.replace(" ", "_"), f"gate_{name}", f"system_{name}")
    return next((t(key) for key in keys if key in TEXTS), name)
