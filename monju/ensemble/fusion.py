"""Fusion: the experts' logits and their weights α → one row of logits per sentence.

Knows nothing of models, distances or labels' names. A new fusion is one function here and one line in TABLE.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import log_softmax

Fusion = Callable[[np.ndarray, np.ndarray], np.ndarray]


def mix_logits(logits: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return Σ_S α_S · logits_S, the poster's fusion.

    Parameters
    ----------
    logits : ndarray [n, experts, labels]
        Each expert's logits.
    alpha : ndarray [n, experts]
        Each expert's weight, each row summing to 1.

    Returns
    -------
    ndarray [n, labels]
        Fused logits; their softmax are the ensemble's probabilities.

    Examples
    --------
    >>> mix_logits(np.array([[[2.0, 0.0], [0.0, 4.0]]]), np.array([[0.5, 0.5]])).tolist()
    [[1.0, 2.0]]
    """
    return np.einsum("ne,nel->nl", alpha, logits)


def mix_probabilities(logits: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return log Σ_S α_S · softmax(logits_S), the mixture of c-BTM (Gururangan et al. 2023, eq. 2).

    Parameters and shapes as of `mix_logits`; the result is a log-probability.

    Examples
    --------
    >>> even, sure = [0.0, 0.0], [1000.0, 0.0]
    >>> np.exp(mix_probabilities(np.array([[even, sure]]), np.array([[0.5, 0.5]]))).tolist()
    [[0.75, 0.25]]
    """
    return mix_log_probabilities(log_softmax(np.asarray(logits, np.float64), axis=-1), alpha)


def mix_log_probabilities(log_probabilities: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return log Σ_S α_S · p_S of log-probabilities [n, experts, labels], under α [n, experts]: [n, labels].

    Of a text they may be those of its tokens alone, one label each: nothing else of the vocabulary is needed.

    Examples
    --------
    >>> np.exp(mix_log_probabilities(np.log([[[0.5], [0.1]]]), np.array([[0.75, 0.25]]))).round(6).tolist()
    [[0.4]]
    """
    weights = alpha[:, :, None]
    heard = np.where(weights > 0, log_probabilities, -np.inf)
    highest = heard.max(axis=1, keepdims=True)  # taken out, the sum never underflows to log 0
    highest = np.where(np.isfinite(highest), highest, 0)
    with np.errstate(divide="ignore"):
        return np.log((weights * np.exp(heard - highest)).sum(axis=1)) + highest[:, 0]


def mix_product(logits: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return log Π_S softmax(logits_S)^(α_S · experts), normalised: the product of experts (Hinton 2002).

    Parameters and shapes as of `mix_logits`; the result is a log-probability. At equal weights it is the
    plain product, with the labels of `mix_logits` and more confidence.

    Examples
    --------
    >>> odds = np.log([[[2.0, 1.0], [3.0, 1.0]]])
    >>> np.exp(mix_product(odds, np.array([[0.5, 0.5]]))).round(6).tolist()  # 2 · 3 to 1
    [[0.857143, 0.142857]]
    """
    experts, log_probabilities = alpha.shape[1], log_softmax(np.asarray(logits, np.float64), axis=-1)
    return log_softmax(np.einsum("ne,nel->nl", experts * alpha, log_probabilities), axis=-1)


TABLE: dict[str, Fusion] = {"logits": mix_logits, "probabilities": mix_probabilities, "product": mix_product}
