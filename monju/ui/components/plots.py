"""Figures on the page, drawn by assets/figures.js, which loads the installed plotly.js when needed."""

import json
from collections.abc import Iterable
from typing import Any

import gradio as gr

from monju.reporting.figures import DARKER
from monju.ui.i18n.translator import Translator
from monju.utils.files import ROOT

# the URL, from the page, of the installed plotly's script: nothing is fetched from outside
PLOTLY = "plotly.js"
FIGURES = (ROOT / "assets" / "figures.js").read_text(encoding="utf-8")
SCRIPT = f"const PLOTLY = {json.dumps(PLOTLY)}\n{FIGURES}"
# once the first sentence is answered and nothing else is to do, the script is fetched, not yet run
PREFETCH = f"""() => {{
  const idle = window.requestIdleCallback ?? (act => setTimeout(act, 500));
  const wait = setInterval(() => {{
    if (!document.querySelector("#panel .outcome, #panel .note b")) return;
    clearInterval(wait);
    idle(() => document.head.append(Object.assign(document.createElement("link"),
      {{rel: "prefetch", href: {json.dumps(PLOTLY)}}})));
  }}, 300);
}}"""


def plots(elem_id: str, folded: bool = False) -> gr.HTML:
    """Return the place of figures; its value is what `drawn` returns.

    What is folded is drawn when it is unfolded.
    """
    place = '<div class="figures"></div>'
    return gr.HTML("", elem_id=elem_id, apply_default_css=False, js_on_load=SCRIPT,
                   html_template=f'<details class="all" hidden><summary></summary>{place}</details>' if folded
                   else place)


def drawn(run: str, figures: Iterable[tuple[str, str, str, Any]], t: Translator, title: str = "") -> str:
    """Return figures (file's name, title, description, plotly Figure) for assets/figures.js, JSON."""
    return json.dumps({"darker": DARKER, "run": run, "title": title, "figures": [
        {"name": name, "title": title, "note": note, "figure": json.loads(figure.to_json()),
         "save": {kind: t("save_as", title=title, format=kind.upper()) for kind in ("png", "svg")}}
        for name, title, note, figure in figures]})
