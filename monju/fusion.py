"""Fusion: pure arithmetic from the experts' logits and their weights to one verdict.

Knows nothing of models, distances or labels' names.
"""

import numpy as np
from scipy.special import log_softmax


def mix_logits(logits, alpha):
    """Σ_S α_S · logits_S — the poster's fusion.

    logits [n, experts, labels], alpha [n, experts] → logits [n, labels].
    """
    return np.einsum("ne,nel->nl", alpha, logits)


def mix_probabilities(logits, alpha):
    """log Σ_S α_S · softmax(logits_S): the mixture of c-BTM (Gururangan et al. 2023, eq. 2), as logits.

    logits [n, experts, labels], alpha [n, experts] → log-probabilities [n, labels],
    so that softmax of either fusion's result gives its probabilities.
    """
    probabilities = np.exp(log_softmax(np.asarray(logits, np.float64), axis=-1))
    return np.log(np.maximum(np.einsum("ne,nel->nl", alpha, probabilities), np.finfo(np.float64).tiny))


TABLE = {"logits": mix_logits, "probabilities": mix_probabilities}
