"""Out of scope: how well a run tells texts that belong to none of its classes from those that do.

Three scores of a text, higher for one that belongs: the probability of Monju's verdict, the share of experts
that say the same, and the largest α. Knows nothing of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

if TYPE_CHECKING:
    from monju.ensemble.outputs import Predictions

QUANTILE = 0.05  # of the held-out sentences, whose verdicts are the least sure


def scores(predictions: Predictions) -> dict[str, np.ndarray]:
    """Return the three scores of n texts, each [n]."""
    verdicts = predictions.of(predictions.experts).argmax(axis=2)  # (n, experts)
    return {"probability": sureness(predictions),
            "agreement": (verdicts == predictions.monju.argmax(axis=1)[:, None]).mean(axis=1),
            "alpha": predictions.alpha.max(axis=1)}


def sureness(predictions: Predictions) -> np.ndarray:
    """Return the probability of Monju's verdict on each of n texts, [n]."""
    return softmax(np.asarray(predictions.monju, float), axis=1).max(axis=1)


def unsure_below(predictions: Predictions) -> float:
    """Return the probability that Monju's verdict exceeds on all but a twentieth of n held-out sentences."""
    return float(np.quantile(sureness(predictions), QUANTILE))


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return the probability that a score of `inside` [n] exceeds one of `outside` [m], ties counted half.

    It is the area under the ROC curve (Hanley & McNeil 1982); 0.5 is chance.

    Examples
    --------
    >>> auroc(np.array([0.9, 0.8, 0.4]), np.array([0.4, 0.1]))
    0.9166666666666666
    """
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    return float((ranks.sum() - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside)))


def table(held_out: Predictions, outside: Predictions) -> dict:
    """Return how well each score separates held-out sentences from out-of-scope texts.

    Returns
    -------
    dict
        {"n" (out-of-scope texts), "auroc": {score: area}, "below": the share of them whose verdict is less
        sure than `unsure_below`}.
    """
    inside, out = scores(held_out), scores(outside)
    return {"n": len(outside.monju), "auroc": {name: auroc(inside[name], out[name]) for name in inside},
            "below": float((out["probability"] < unsure_below(held_out)).mean())}
