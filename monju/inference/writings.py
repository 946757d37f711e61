"""Texts that are being written in the inference process, one pass of the decoder at a time.

Whoever writes asks for each pass (`begin`, then `step` until it says that all is done): between two passes
waiting sentences are read, and what nobody asks for is not written. `InferenceProcess.call` calls these.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from monju.errors import MonjuError
from monju.inference.language import LanguageRun
from monju.inference.writer import Ended, Event, Request, Started, Token, Writer

MOST = 8  # texts at once, each with a cache of its own
LEFT_S = 30  # after which a text that nobody asked for is given up


@dataclass
class Writing:
    """A text that is being written."""

    events: Iterator[Event]
    asked: float
    streams: int = 1  # that have not ended


_writings: dict[str, Writing] = {}
# one pass at a time: two would share the same processor, and sentences wait for both
_turn = threading.Lock()


def begin(language: LanguageRun, key: str, request: Request) -> dict[str, Any]:
    """Begin a text under a key of the caller's; nothing is written yet.

    Returns
    -------
    dict
        {"prompt", "notes": [Note], "voices": {stream: [name]}, "subsets": {expert: [cluster numbers]},
        "clusters": [name], "centres": ndarray [k, dim], "vector": ndarray [dim] of the prompt, or None}

    Raises
    ------
    MonjuError
        For a gate that the run does not allow; where too many texts are being written.
    """
    with _turn:
        now = time.monotonic()
        for left in [name for name, one in _writings.items() if now - one.asked > LEFT_S]:
            del _writings[left]
        if len(_writings) >= MOST:
            raise MonjuError(f"{MOST} texts are being written already: try again in a moment")
        events = language.memo("writer", lambda: Writer(language)).write(request)
        first = next(events)
        assert isinstance(first, Started)
        _writings[key] = Writing(events, now, len(first.streams))
    return {"prompt": first.prompt, "notes": list(first.notes), "voices": first.voices,
            "subsets": dict(zip(language.experts, language.subsets)), "clusters": language.clusters,
            "centres": language.clustering.clusterer.centres_,
            "vector": None if first.place is None else first.place.vector}


def step(language: LanguageRun, key: str) -> tuple[list[dict[str, Any]], bool]:
    """Return what the next pass writes, and whether all streams have ended.

    Each token as {"stream", "text", "p", "alpha": [by voice], "by": [each voice's probability or None],
    "share": [by voice], "loudest": the voice's number, "others": [[text, p]], "vector": ndarray [dim] of the
    text before it where α was worked out anew, or None}, an end as {"stream", "ended": the reason}. Raises
    MonjuError for a key that is not being written.
    """
    with _turn:
        one = _writings.get(key)
        if one is None:
            raise MonjuError("this text is no longer being written: start it again")
        one.asked = time.monotonic()
        told: list[dict[str, Any]] = []
        tokens = 0
        while one.streams and tokens < one.streams:
            event = next(one.events)
            if isinstance(event, Token):
                tokens += 1
                told.append(_token(event))
            elif isinstance(event, Ended):
                one.streams -= 1
                told.append({"stream": event.stream, "ended": event.reason})
        if not one.streams:
            del _writings[key]
        return told, not one.streams


def drop(language: LanguageRun, key: str) -> None:
    """Forget a text; nothing of it is written any more."""
    with _turn:
        _writings.pop(key, None)


def _token(token: Token) -> dict[str, Any]:
    voices = list(token.alpha)
    return {"stream": token.stream, "text": token.text, "p": token.probability,
            "alpha": list(token.alpha.values()), "by": list(token.probabilities.values()),
            "share": list(token.shares.values()), "loudest": voices.index(token.loudest),
            "others": [list(pair) for pair in token.runners_up],
            "vector": None if token.place is None else token.place.vector}
