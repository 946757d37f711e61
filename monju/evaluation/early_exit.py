"""Early exit: experts are asked in turn, who knows the neighbourhood first, until the answer is sure.

Works on stored outputs; `milliseconds` alone runs models. Knows nothing of files or of the comparison.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from monju.ensemble import fusion, gates
from monju.ensemble.outputs import ModelOutputs
from monju.errors import MonjuError
from monju.models import backbones
from monju.models.classifier import Expert
from monju.models.members import Members

if TYPE_CHECKING:
    from monju.inference.pipeline import Monju

TOLERANCE = 0.002  # accuracy that may be lost on the tuning split for fewer passes
THRESHOLDS = np.linspace(0, 1.01, 102)  # at 0 one expert is asked, at 1.01 all
TIMED, WARMING = 60, 5  # sentences that are timed one by one, and before them


def in_turn(outputs: ModelOutputs, alpha: np.ndarray, mix: fusion.Fusion) -> np.ndarray:
    """Return the fused logits after 1, 2, … experts [n, experts, labels], asked in the order of α.

    After j experts they are mixed with their α, renormalised; after the last that is the ensemble itself.
    """
    order = np.argsort(-alpha, axis=1, kind="stable")
    logits = np.take_along_axis(outputs.of(outputs.experts), order[:, :, None], axis=1)
    weights = np.take_along_axis(alpha, order, axis=1)
    parts = [weights[:, :j] for j in range(1, alpha.shape[1] + 1)]
    return np.stack([mix(logits[:, : part.shape[1]], part / part.sum(axis=1, keepdims=True))
                     for part in parts], axis=1)


def margins(logits: np.ndarray) -> np.ndarray:
    """Return the probability of the best label minus that of the second best: [..., labels] → [...].

    Examples
    --------
    >>> margins(np.log([[0.7, 0.2, 0.1]])).round(6).tolist()
    [0.5]
    """
    best = np.sort(softmax(np.asarray(logits, float), axis=-1), axis=-1)
    return best[..., -1] - best[..., -2]


def asked(turns: np.ndarray, threshold: float) -> np.ndarray:
    """Return how many experts are asked: until the margin reaches `threshold`; [n, experts, labels] → [n]."""
    sure = margins(turns) >= threshold
    sure[:, -1] = True  # nobody is left to ask
    return sure.argmax(axis=1) + 1


def answers(turns: np.ndarray, passes: np.ndarray) -> np.ndarray:
    """Return the logits [n, labels] after as many `passes` [n]."""
    return turns[np.arange(len(turns)), passes - 1]


def curve(turns: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """Return {"threshold", "passes", "accuracy"} for each of THRESHOLDS: mean passes never fall."""
    points = []
    for threshold in THRESHOLDS:
        passes = asked(turns, threshold)
        right = answers(turns, passes).argmax(axis=1) == labels
        points.append({"threshold": float(threshold), "passes": float(passes.mean()),
                       "accuracy": float(right.mean())})
    return points


def choose(turns: np.ndarray, labels: np.ndarray) -> float:
    """Return the smallest threshold that loses at most TOLERANCE against the whole ensemble.

    The sentences must be new to the experts (the tuning split). On training sentences the first expert asked,
    which learned the nearest cluster, is too sure, and out of fold it is never the first.
    """
    points = curve(turns, labels)
    return next(point["threshold"] for point in points
                if point["accuracy"] >= points[-1]["accuracy"] - TOLERANCE - 1e-9)


def under(config: Any, outputs: ModelOutputs) -> np.ndarray:
    """Return `in_turn` under a configuration's gate and fusion."""
    return in_turn(outputs, outputs.decide_as(config).alpha, fusion.TABLE[config.fusion])


def milliseconds(monju: Monju, texts: Sequence[str], threshold: float) -> dict[str, float]:
    """Return the mean time for one sentence, asked early-exit and all at once, in milliseconds.

    Both ways read the same sentences one by one, in turn, and include placing the sentence: all at once it is
    one more member of the batch, where the embedder is the experts' backbone; early exit must place it first.

    Parameters
    ----------
    monju : Monju
        The run, of one backbone.
    texts : sequence of str
        Sentences, of which the first few are read.
    threshold : float
        The margin at which to stop.

    Returns
    -------
    dict
        {"early_exit", "ensemble"}.

    Raises
    ------
    MonjuError
        For a run of several backbones.
    """
    if len(monju.groups) > 1:
        raise MonjuError("the experts have different backbones, and are not read as one batch")
    device, padding = monju.groups[0].members.device, monju.tokenizer.pad_token_id
    experts = [Expert.load(monju.run.path / "experts" / name, len(monju.labels), padding, device)
               for name in monju.experts]
    clustering, gate, mix = monju.clustering, gates.make(monju.config), fusion.TABLE[monju.config.fusion]
    members = Members(experts, clustering.embedder.encoder() if monju.groups[0].members.has_encoder else None)
    pool = clustering.embedder.pool if members.has_encoder else None

    def tokens(text: str) -> list[list[int]]:
        return backbones.encode(monju.tokenizer, [text], monju.config.max_tokens)

    def one_by_one(text: str) -> None:
        _, distances, posterior = clustering.place([text])
        alpha = gate(distances, monju.subsets, posterior)[0]
        logits: list[np.ndarray] = []
        for expert in np.argsort(-alpha, kind="stable"):
            logits.append(experts[expert].logits(tokens(text))[0])
            weights = np.sort(alpha)[::-1][: len(logits)]
            if margins(mix(np.stack(logits)[None], (weights / weights.sum())[None]))[0] >= threshold:
                break

    def all_at_once(text: str) -> None:
        logits, vectors = members.read(tokens(text), pool)
        place = clustering.place([text]) if vectors is None else clustering.place_vectors(vectors)
        _, distances, posterior = place
        mix(logits, gate(distances, monju.subsets, posterior))

    seconds: dict[str, list[float]] = {"early_exit": [], "ensemble": []}
    for text in (*texts[:WARMING], *texts[:TIMED]):
        for name, way in (("early_exit", one_by_one), ("ensemble", all_at_once)):
            began = time.perf_counter()
            way(text)
            seconds[name].append(time.perf_counter() - began)
    return {name: 1000 * float(np.mean(times[len(texts[:WARMING]):])) for name, times in seconds.items()}
