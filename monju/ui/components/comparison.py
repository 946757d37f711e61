"""The comparison in the Results tab: every system that the run's stored predictions allow, against the baseline."""

from html import escape

from monju.errors import MonjuError
from monju.reporting.report import interval, percent
from monju.ui.components import cards
from monju.ui.i18n import translator


def drawn(shelf, name, say):
    """The comparison of a run as HTML; calm words where it cannot be made."""
    try:
        opened = shelf.open(name)
        found = opened.memo("comparison", lambda: opened.call("monju.evaluation.comparison:compare_stored"))
    except MonjuError as error:
        return cards.trouble(error, say)
    against = named(found["against"], say)
    columns = ("name", "kind", "accuracy", "difference", "p", "holm", "passes")
    head = "".join(f'<th scope="col">{say(f"compare_{key}", against=against)}</th>' for key in columns)
    best = sorted(found["rows"], key=lambda row: -row["accuracy"])
    left = "".join(f"<li><b>{escape(named(row['name'], say))}</b>: {say.reason(row['reason'])}</li>" for row in found["left_out"])
    return cards.page(
        f'<section><p>{say("compare_told", against=against, n=f"""{found["n"]:,}""", rows=len(best) - 1)}</p>'
        f'<div class="wide" tabindex="0" role="region" aria-label="{say("compare_title")}"><table class="results small">'
        f'<thead><tr>{head}</tr></thead><tbody>{"".join(row(found, one, say) for one in best)}</tbody></table></div>'
        f'<p class="faint">{say("compare_more", run=name)}</p>'
        + (f'<details><summary>{say("compare_left", n=len(found["left_out"]))}</summary><ul class="told-list">{left}</ul></details>' if left else "")
        + "</section>", say)


def row(found, one, say):
    """One system; that which the others are measured against has no difference."""
    if one["name"] == found["against"]:
        tested = ["–"] * 3
    elif not one["changed"]:
        tested = [say("compare_same"), "–", "–"]
    else:
        tested = [percent(one["difference"], "+.2f") + interval(one["difference_interval"], "+.2f"),
                  f"{one['p_value']:.2g}", f"{one['p_holm']:.2g}"]
    cells = [escape(say(f"kind_{one['kind']}")), percent(one["accuracy"]) + interval(one["interval"]), *tested,
             str(one["forward_passes"])]
    gate = f' title="{escape(one["gate"])}"' if one["gate"] else ""
    kind = "ensemble" if one["name"] in ("monju", found["against"]) else "member"
    return (f'<tr class="{kind}" data-system="{escape(one["name"])}"><th scope="row"{gate}>{escape(named(one["name"], say))}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")


def named(name, say):
    """A system's name in the page's language, where it has one there."""
    keys = (name.replace(" ", "_"), f"gate_{name}", f"system_{name}")
    return next((say(key) for key in keys if key in translator.TEXTS), name)
