"""Fusion: pure arithmetic from the experts' logits and their weights to one verdict.

Knows nothing of models, distances or labels' names.
"""

import numpy as np
from scipy.special import log_softmax, logsumexp


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
    log_probabilities = log_softmax(np.asarray(logits, np.float64), axis=-1)
    return logsumexp(log_probabilities, b=alpha[:, :, None], axis=1)  # never underflows to log 0


def mix_product(logits, alpha):
    """Product of experts (Hinton 2002): Π softmax(logits_S)^(n_S α_S), normalised, where n_S is the number of experts; at equal
    weights the plain product, whose labels are those of `mix_logits`, only surer.

    logits [n, experts, labels], alpha [n, experts] → log-probabilities [n, labels].
    """
    log_probabilities = log_softmax(np.asarray(logits, np.float64), axis=-1)
    return log_softmax(np.einsum("ne,nel->nl", alpha * alpha.shape[1], log_probabilities), axis=-1)


TABLE = {"logits": mix_logits, "probabilities": mix_probabilities, "product": mix_product}
