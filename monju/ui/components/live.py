"""What is watched of a training → what templates/job.html draws: the map as it forms, the pinned sentences.

Knows nothing of gradio.
"""

from __future__ import annotations

from typing import Any

from monju.ensemble.subsets import cluster_names
from monju.training import watch
from monju.ui.components.curves import HEIGHT, cluster_class
from monju.ui.i18n.translator import Translator

SIDE, MARGIN = 300, 14  # of the map, as wide as its share of the row; as high as the curves
CUT, SHOWN_CHECKS = 110, 40  # characters of a sentence on the map, marks of a pinned sentence's history


def forming(found: dict[str, Any], checks: list[dict], t: Translator) -> dict[str, Any] | None:
    """Return the map: each held-out sentence at its place, and whether most experts so far are right of it.

    None before the clusters are found.
    """
    if not found.get("points"):
        return None
    read, shares = watch.right_share(found, checks)
    x, y = scales(found)
    dots = []
    for (a, b, cluster), text, share in zip(found["points"], found["texts"], shares):
        state = "unread" if share in (None, 0.5) else "right" if share > 0.5 else "wrong"
        told = t("t_map_unread") if share is None else t(
            "t_map_share", right=round(share * len(read)), n=len(read))
        dots.append({"x": x(a), "y": y(b), "state": state, "cluster": cluster_class(cluster),
                     "text": f"{text[:CUT]}{'…' if len(text) > CUT else ''}", "told": told})
    dots.sort(key=lambda dot: dot["state"] == "wrong")  # on top
    wrong = sum(dot["state"] == "wrong" for dot in dots)
    caption = t("t_map_waits", n=len(dots)) if not read else t(
        "t_map_caption", n=len(dots), wrong=wrong, experts=t.listed(read))
    names = cluster_names(len(found["centres"]))
    centres = [(x(a), y(b), name, cluster_class(i))
               for i, ((a, b), name) in enumerate(zip(found["centres"], names))]
    return {"width": SIDE, "height": HEIGHT, "dots": dots, "centres": centres, "caption": caption}


def scales(found: dict[str, Any]) -> tuple[Any, Any]:
    """Return functions from the map's coordinates to the picture's, alike in both directions."""
    places = [*[point[:2] for point in found["points"]], *found["centres"]]
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*places))
    scale = min((SIDE - 2 * MARGIN) / ((right - left) or 1), (HEIGHT - 2 * MARGIN) / ((high - low) or 1))

    def x(a: float) -> float:
        return round(SIDE / 2 + scale * (a - (left + right) / 2), 1)

    def y(b: float) -> float:
        return round(HEIGHT / 2 - scale * (b - (low + high) / 2), 1)

    return x, y


def pins(texts: list[str], found: dict[str, Any], checks: list[dict], t: Translator) -> list[dict[str, Any]]:
    """Return a row for each pinned sentence: what each model says as of its last check, and the history.

    {"text", "monju" (label, probability, number) or None, "models" [(name, label, probability, number)],
    "history" [(number, probability, words)], "changed": whether the experts' label has changed}.
    """
    names = t.labels(found.get("labels", []))
    rows = []
    for text in texts:
        history = watch.verdicts(found, checks, text) if found.get("experts") else []
        last = history[-1] if history else {"said": {}, "monju": None}
        marks = [(label, sure, f"{one['model']} {one['step']:,}: {names[label]} {sure:.0%}")
                 for one in history if one["monju"] and one["model"] in found["experts"]
                 for label, sure in [one["monju"]]]
        rows.append({"text": text, "monju": last["monju"] and (names[last["monju"][0]], last["monju"][1],
                                                               last["monju"][0]),
                     "models": [(name, names[label], sure, label)
                                for name, (label, sure) in last["said"].items()],
                     "history": marks[-SHOWN_CHECKS:],
                     "changed": len({label for label, _, _ in marks}) > 1})
    return rows
