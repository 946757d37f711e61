"""Cases: what a labelled sentence shows of an ensemble, for examples and lists of sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from monju.ensemble.subsets import membership

if TYPE_CHECKING:
    from monju.ensemble.outputs import Predictions

# agree: every expert, Monju and the baseline are right
# unseen: the experts that are wrong are those that never saw the nearest cluster; Monju is right
# saved: one other expert is wrong, and the rest carry Monju
# alone: several are wrong, and Monju is right all the same
# rescued, broken: Monju alone is right, the baseline alone; both_wrong: neither
CASES = ("agree", "unseen", "saved", "alone", "rescued", "broken", "both_wrong")


def cases(predictions: Predictions, labels: np.ndarray) -> np.ndarray:
    """Return which of CASES each sentence is.

    Parameters
    ----------
    predictions : Predictions
        Of n sentences. Without a baseline, Monju stands in its place.
    labels : ndarray of int [n]
        The right labels.

    Returns
    -------
    ndarray of str [n]
    """
    labels = np.asarray(labels)
    monju = predictions.monju.argmax(axis=1) == labels
    baseline = monju if predictions.baseline is None else predictions.baseline.argmax(axis=1) == labels
    wrong = predictions.of(predictions.experts).argmax(axis=2) != labels[:, None]  # (n, experts)
    learned = membership(predictions.subsets, len(predictions.clusters)).astype(bool)  # (experts, k)
    saw = learned[:, predictions.distances.argmin(axis=1)].T  # (n, experts)
    return np.select([monju & ~baseline, ~monju & baseline, ~monju, ~wrong.any(axis=1),
                      ~(wrong & saw).any(axis=1), wrong.sum(axis=1) == 1],
                     ["rescued", "broken", "both_wrong", "agree", "unseen", "saved"], "alone")
