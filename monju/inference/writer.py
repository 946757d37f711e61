"""Writer: a run of language models continues a prompt, token by token, beside its baseline.

    for event in Writer(LanguageRun.load("trained/my-run")).write(Request("The film")):
        ...  # one Started, then Tokens of both streams in turn, then an Ended of each

A generator: it works while it is read, and stops within a token when it is closed or told to. Both streams
are rows of one batch: one pass through the decoder and one cache serve all voices. Knows nothing of pages or
processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from monju.data.notes import Note
from monju.ensemble import fusion, gates
from monju.errors import MonjuError
from monju.inference.language import LanguageRun
from monju.models.causal import Rows
from monju.models.voices import Prefix, heard

Stream = Literal["monju", "baseline"]
MOST_TOKENS, MOST_PROMPT = 1000, 1024  # written at most, and read of a prompt
RUNNERS_UP = 5
NEGLIGIBLE = 1e-9  # of the likeliest token's probability: what is less likely is never drawn


@dataclass(frozen=True)
class Request:
    """What is to be written.

    Parameters
    ----------
    prompt : str
        What the text begins with; empty: the beginning-of-text token alone.
    tokens : int
        Length at most, 1 to 1,000.
    temperature : float
        Above 1 flattens the mixed probabilities, below 1 sharpens them; 0 always takes the likeliest token.
    top_p : float
        Draw from the likeliest tokens that have this probability together, 0 < p ≤ 1.
    seed : int
        Of the draws; both streams draw with the same numbers.
    stop : tuple of str
        The text ends before any of these.
    gate : str, optional
        A gate's name, "uniform" or "likelihood"; by default the run's.
    renew_every : int, optional
        Number of tokens after which α is worked out again; by default the run's.
    baseline : bool
        Write the baseline's text, too, where the run has one.
    """

    prompt: str
    tokens: int = 60
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0
    stop: tuple[str, ...] = ()
    gate: str | None = None
    renew_every: int | None = None
    baseline: bool = True

    def __post_init__(self) -> None:
        for name, low, high in (("tokens", 1, MOST_TOKENS), ("temperature", 0, 10), ("top_p", 1e-6, 1),
                                ("seed", 0, 2**32 - 1), ("renew_every", 1, MOST_TOKENS)):
            value, whole = getattr(self, name), name not in ("temperature", "top_p")
            kinds = int if whole else (int, float)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)
                                      or not low <= value <= high):
                raise MonjuError(f"--{name.replace('_', '-')} cannot be {value!r}: give a "
                                 f"{'whole ' * whole}number from {low:g} to {high:g}")
        texts = (self.prompt, *self.stop)
        if not all(isinstance(text, str) for text in texts) or not all(self.stop):
            raise MonjuError("a prompt is a text, and so is each stop string: leave empty ones out")


@dataclass(frozen=True, eq=False)
class Place:
    """Where the text so far lies.

    Parameters
    ----------
    vector : ndarray [dim]
        Its embedding: `what_if.coordinates(vector, cluster_map)` gives its points on the maps.
    distances : dict of str to float
        To each cluster.
    """

    vector: np.ndarray
    distances: dict[str, float]


@dataclass(frozen=True, eq=False)
class Started:
    """Before the first token.

    Parameters
    ----------
    prompt : str
        As much of it as is read.
    notes : tuple of Note
        What of it is not read.
    streams : tuple of str
        "monju", and "baseline" where there is one.
    voices : dict of str to list of str
        Each stream's models.
    place : Place or None
        Where the prompt lies; None for an empty one.
    """

    prompt: str
    notes: tuple[Note, ...]
    streams: tuple[Stream, ...]
    voices: dict[str, list[str]]
    place: Place | None


@dataclass(frozen=True, eq=False)
class Token:
    """One token of one stream.

    Parameters
    ----------
    stream : str
        "monju" or "baseline".
    index, id : int
        Its number in the stream, from 0, and in the vocabulary.
    text : str
        What it adds to the text: empty while a character is not whole or a stop string may have begun.
    probability : float
        Under the mixture, at temperature 1.
    alpha : dict of str to float
        Each voice's weight, by which this token was drawn.
    probabilities : dict of str to float or None
        Under each voice; None of one of weight 0, which was not asked.
    shares : dict of str to float
        α_S p_S / Σ α p: how much of the token's probability came from each voice.
    loudest : str
        The voice of the largest share.
    runners_up : tuple of (str, float)
        The likeliest other tokens, as text, and their probabilities under the mixture.
    place : Place or None
        Where the text before this token lies, where α was worked out anew.
    """

    stream: Stream
    index: int
    id: int
    text: str
    probability: float
    alpha: dict[str, float]
    probabilities: dict[str, float | None]
    shares: dict[str, float]
    loudest: str
    runners_up: tuple[tuple[str, float], ...]
    place: Place | None = None


@dataclass(frozen=True)
class Ended:
    """The end of a stream.

    Parameters
    ----------
    stream : str
        "monju" or "baseline".
    reason : str
        "end" (of the text, by the model), "stop" (a stop string), "length" or "cancelled".
    text : str
        The whole text that was written, without the prompt.
    tokens : int
        Their number.
    """

    stream: Stream
    reason: Literal["end", "stop", "length", "cancelled"]
    text: str
    tokens: int


Event = Started | Token | Ended


@dataclass
class _Stream:
    """A stream while it is written."""

    name: Stream
    row: int
    voices: list[str]
    draws: np.random.Generator
    ids: list[int]
    prompt: int
    alpha: np.ndarray
    likelihood: np.ndarray
    shown: str = ""
    ended: bool = False
    place: Place | None = None
    written: list[int] = field(default_factory=list)


class Writer:
    """Writes with a loaded run; one object may serve several requests, one after the other or in turn."""

    def __init__(self, language: LanguageRun):
        self.language, self.tokenizer = language, language.tokenizer
        self.start, self.end = language.start_and_end
        self.special = [number for number in self.tokenizer.all_special_ids if number != self.end]

    def write(self, request: Request, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Continue a prompt.

        Parameters
        ----------
        request : Request
            What is to be written.
        cancelled : callable
            Asked before every pass through the decoder: True ends the text there.

        Yields
        ------
        Started, Token or Ended

        Raises
        ------
        MonjuError
            For a gate that the run does not allow.
        """
        language, notes = self.language, []
        gate = language.gate_named(request.gate)
        every = request.renew_every or language.config.renew_every
        ids = self.tokenizer(request.prompt, add_special_tokens=False, verbose=False)["input_ids"]
        limit = min(MOST_PROMPT, language.context - request.tokens - 1)
        if limit < 1:
            raise MonjuError(f"--tokens {request.tokens} leaves no room for a prompt: this decoder looks "
                             f"back on {language.context} tokens")
        if len(ids) > limit:
            notes.append(Note("prompt_shortened", {"n": len(ids), "limit": limit}))
            ids = ids[-limit:]
        if not ids:
            notes.append(Note("prompt_empty"))
        streams = self._streams(request, ids, gate)
        yield Started(self.tokenizer.decode(ids), tuple(notes), tuple(stream.name for stream in streams),
                      {stream.name: stream.voices for stream in streams}, streams[0].place)
        if cancelled():
            yield from (self._ended(stream, "cancelled") for stream in streams)
            return
        prefix = language.voices.begin(ids, len(streams))
        for index in range(request.tokens):
            if index and cancelled():
                break
            if index:
                prefix.push([stream.ids[-1] for stream in streams])
            for stream in streams:
                if not stream.ended:
                    if index and index % every == 0 and stream.name == "monju":
                        self._renew(stream, gate)
                    yield from self._next(stream, prefix, request, index, gate)
            if all(stream.ended for stream in streams):
                return
        reason: Literal["length", "cancelled"] = (
            "length" if any(len(stream.written) == request.tokens for stream in streams) else "cancelled")
        yield from (self._ended(stream, reason) for stream in streams if not stream.ended)

    def _streams(self, request: Request, ids: list[int], gate: Any) -> list[_Stream]:
        """Return the streams before their first token."""
        language, streams = self.language, []
        groups: list[tuple[Stream, list[str]]] = [("monju", language.experts)]
        if request.baseline and language.members:
            groups.append(("baseline", language.members))
        for row, (name, voices) in enumerate(groups):
            equal = np.full(len(voices), 1 / len(voices))
            streams.append(_Stream(name, row, voices, np.random.default_rng(request.seed), list(ids),
                                   len(ids), equal, np.zeros(len(voices))))
        if ids:
            if isinstance(gate, gates.Likelihood):
                rows = Rows([request.prompt], [list(ids)], np.zeros(1, np.int64))
                streams[0].likelihood = language.score(rows, language.experts).log_p.sum(axis=0)
            self._renew(streams[0], gate)
        return streams

    def _renew(self, stream: _Stream, gate: Any) -> None:
        """Work out where a stream's text so far lies, and α from it."""
        language = self.language
        vectors, distances, posterior = language.clustering.place([language.text_before(stream.ids)])
        stream.place = Place(vectors[0], dict(zip(language.clusters, distances[0].tolist())))
        if not isinstance(gate, gates.Likelihood):
            stream.alpha = gate(distances, language.subsets, posterior)[0]

    def _next(self, stream: _Stream, prefix: Prefix, request: Request, index: int,
              gate: Any) -> Iterator[Token | Ended]:
        """Draw a stream's next token."""
        if stream.name == "monju" and isinstance(gate, gates.Likelihood) and stream.likelihood.any():
            stream.alpha = gate(stream.likelihood[None])[0]
        # the likelihood of all voices is summed up: each must be asked
        asked = (stream.voices if isinstance(gate, gates.Likelihood) else heard(stream.voices, stream.alpha))
        weights = np.array([stream.alpha[stream.voices.index(name)] for name in asked])
        log_p = prefix.log_probabilities(stream.row, asked).cpu().numpy()
        mixed = fusion.mix_log_probabilities(log_p[None], weights[None])[0]
        chosen = draw(self._allowed(mixed), request, stream.draws)
        stream.ids.append(chosen)
        by_voice = dict(zip(asked, np.exp(log_p[:, chosen]).tolist()))
        shares = dict(zip(asked, (np.exp(log_p[:, chosen] - mixed[chosen]) * weights).tolist()))
        if isinstance(gate, gates.Likelihood) and stream.name == "monju":
            stream.likelihood = stream.likelihood + log_p[:, chosen]
        best = np.argpartition(-mixed, RUNNERS_UP + 1)[: RUNNERS_UP + 1]
        others = [int(number) for number in best[np.argsort(-mixed[best])] if number != chosen][:RUNNERS_UP]
        ends, stopped = chosen == self.end, False
        text = ""
        if not ends:
            stream.written.append(chosen)
            text, stopped = self._piece(stream, request.stop)
        runners_up = tuple((self.tokenizer.decode([number]), float(np.exp(mixed[number])))
                           for number in others)
        yield Token(stream.name, index, chosen, text, float(np.exp(mixed[chosen])),
                    dict(zip(stream.voices, stream.alpha.tolist())),
                    {name: by_voice.get(name) for name in stream.voices},
                    {name: shares.get(name, 0.0) for name in stream.voices},
                    max(shares, key=shares.__getitem__), runners_up, stream.place)
        stream.place = None
        if ends or stopped:
            yield self._ended(stream, "end" if ends else "stop")

    def _allowed(self, mixed: np.ndarray) -> np.ndarray:
        """Return log-probabilities [vocabulary] without the tokens that no text has."""
        allowed = mixed.copy()
        allowed[self.special] = -np.inf
        allowed[len(self.tokenizer) :] = -np.inf  # of a vocabulary padded to a round number
        return allowed

    def _piece(self, stream: _Stream, stop: tuple[str, ...]) -> tuple[str, bool]:
        """Return what a stream's last token adds to its text, and whether a stop string ends it."""
        whole = self._text(stream)
        found = [at for text in stop if (at := whole.find(text)) >= 0]
        if found:
            whole = whole[: min(found)]
        else:
            whole = whole.rstrip("\ufffd")
            begun = max((n for text in stop for n in range(1, len(text)) if whole.endswith(text[:n])),
                        default=0)
            whole = whole[: len(whole) - begun]
        piece, stream.shown = whole[len(stream.shown) :], max(stream.shown, whole, key=len)
        return piece, bool(found)

    def _text(self, stream: _Stream) -> str:
        """Return what a stream has written, as it reads behind the prompt."""
        before = stream.ids[: stream.prompt][-4:]  # a piece of a character may stand there
        return self.tokenizer.decode(before + stream.written)[len(self.tokenizer.decode(before)) :]

    def _ended(self, stream: _Stream, reason: Any) -> Ended:
        """End a stream."""
        stream.ended = True
        text = stream.shown if reason == "stop" else self._text(stream)
        return Ended(stream.name, reason, text, len(stream.written))


def draw(log_p: np.ndarray, request: Request, random: np.random.Generator) -> int:
    """Draw a token from log-probabilities [vocabulary] at the request's temperature, of its top p.

    The number is drawn whatever the temperature: two texts of one seed differ by their probabilities alone.
    """
    number = random.random()
    if request.temperature == 0:
        return int(log_p.argmax())
    scaled = log_p / request.temperature
    p = np.exp(scaled - scaled.max())
    likely = np.flatnonzero(p > NEGLIGIBLE)  # to sort them all would take as long as the decoder
    order = likely[np.argsort(-p[likely], kind="stable")]
    cumulative = np.cumsum(p[order])
    kept = int(np.searchsorted(cumulative, request.top_p * cumulative[-1])) + 1
    place = np.searchsorted(cumulative[:kept], number * cumulative[kept - 1], side="right")
    return int(order[min(int(place), kept - 1)])
