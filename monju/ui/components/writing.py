"""A text while it is written, as lines of JSON that assets/writer.js draws. Knows nothing of gradio.

Only lines are added: what is drawn already is not sent again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from monju.inference.writer import Request
from monju.ui.components.flow import HEIGHT, WIDTH, small_map
from monju.ui.i18n.translator import Translator

WRITINGS = "monju.inference.writings"
SAID = ("w_monju", "w_baseline", "w_writing", "w_token", "w_alpha", "w_by", "w_share", "w_mixed", "w_others",
        "w_path", "w_walk", "w_not_asked", "w_ended_end", "w_ended_stop", "w_ended_length", "w_stopped")


def lines(call: Callable[..., Any], request: Request, t: Translator) -> Iterator[str]:
    """Yield the text so far, again after each pass of the decoder; before the first, what is waited for.

    The first line of a text holds {"say", "prompt", "notes", "voices": {stream: [{"name", "clusters":
    [number]}]}, "map": {"width", "height", "centres": [[name, x, y]]}, "at"}, each other a token or an end
    as `writings.step` gives them, with "at": [x, y] in place of the vector. Whoever stops reading ends the
    work.

    Raises
    ------
    MonjuError
        For a request that the run does not allow; where the inference process ends meanwhile.
    """
    key = uuid.uuid4().hex
    yield line({"status": t("w_loading")})
    first = call(f"{WRITINGS}:begin", key, request)
    try:
        drawn, centres = small_map(first["centres"])

        def placed(told: dict[str, Any]) -> dict[str, Any]:
            vector = told.pop("vector", None)
            return {**told, "at": None if vector is None else drawn(vector)}

        subsets = first.pop("subsets")
        head = {"say": {name: t(name) for name in SAID}, "prompt": first["prompt"],
                "notes": [t.note(note) for note in first["notes"]],
                "voices": {stream: [{"name": name, "clusters": [int(c) for c in subsets.get(name, ())]}
                                    for name in names] for stream, names in first["voices"].items()},
                "map": {"width": WIDTH, "height": HEIGHT,
                        "centres": [[name, *centre] for name, centre in zip(first["clusters"], centres)]}}
        text = line(placed({**head, "vector": first["vector"]}))
        yield text
        done = False
        while not done:
            told, done = call(f"{WRITINGS}:step", key)
            text += "".join(line(placed(one)) for one in told)
            yield text
    finally:
        call(f"{WRITINGS}:drop", key)


def line(value: dict[str, Any]) -> str:
    """Return a value as one line of JSON, numbers to four digits."""
    return json.dumps(rounded(value), ensure_ascii=False) + "\n"


def rounded(value: Any) -> Any:
    """Return a value of JSON with its numbers rounded."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return value
