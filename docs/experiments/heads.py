"""Heads: logistic classifiers on frozen vectors, and the out-of-fold gate that is fitted on their answers.

Knows nothing of distances or sentences.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from monju.ensemble.subsets import Subsets, membership

STRENGTHS = (1.0, 10.0, 100.0)  # scikit-learn's C: the larger, the weaker the penalty
FOLDS = 5


class Head:
    """One logistic (multinomial) classifier.

    Parameters
    ----------
    vectors : ndarray [n, dim]
        Of its training sentences.
    labels : ndarray of int [n]
        Their labels.
    n_labels : int
        How many labels there are in all; those that it never saw get −∞.
    strength : float
        scikit-learn's C.
    """

    def __init__(self, vectors: np.ndarray, labels: np.ndarray, n_labels: int, strength: float):
        self.model = LogisticRegression(C=strength, max_iter=1000).fit(vectors, labels)
        self.n_labels = n_labels

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Return log-probabilities float32 [n, n_labels]."""
        out = np.full((len(vectors), self.n_labels), -np.inf, np.float32)
        out[:, self.model.classes_] = self.model.predict_log_proba(vectors)
        return out


def out_of_fold(vectors: np.ndarray, labels: np.ndarray, clusters: np.ndarray, subsets: Subsets,
                experts: Sequence[Head], strength: float, rng: np.random.Generator) -> np.ndarray:
    """Return every expert's log-probabilities of training sentences that it did not learn: [n, experts, 2].

    Of sentences outside its clusters the expert's own; of its own sentences those of a head trained on its
    other folds.
    """
    fold = rng.permutation(np.arange(len(labels)) % FOLDS)
    answers = np.stack([expert(vectors) for expert in experts], axis=1)
    for number, subset in enumerate(subsets):
        own = np.isin(clusters, subset)
        for left_out in range(FOLDS):
            learned, asked = own & (fold != left_out), own & (fold == left_out)
            head = Head(vectors[learned], labels[learned], 2, strength)
            answers[asked, number] = head(vectors[asked])
    return answers


def fit_weights(answers: np.ndarray, labels: np.ndarray, nearest: np.ndarray, k: int) -> np.ndarray:
    """Return for each cluster the weights of the experts, [k, experts], each row summing to 1.

    They have the least cross-entropy of Σ b_e · logits_e over the training sentences nearest to the cluster,
    b ≥ 0. The sum of b is free, so that wrong labels, which make every expert too sure, do not decide between
    them; it changes no verdict and is divided out.

    Parameters
    ----------
    answers : ndarray [n, experts, labels]
        Out-of-fold log-probabilities.
    labels, nearest : ndarray of int [n]
        Labels, and the cluster with the nearest centre.
    k : int
        Number of clusters.
    """
    experts, weights = answers.shape[1], []
    for cluster in range(k):
        rows = nearest == cluster
        own, right = answers[rows].astype(float), labels[rows]

        def loss(b, own=own, right=right):
            fused = log_softmax(np.einsum("e,nel->nl", b, own), axis=1)
            error = np.exp(fused)
            error[np.arange(len(right)), right] -= 1
            return (-fused[np.arange(len(right)), right].mean(),
                    np.einsum("nl,nel->e", error, own) / len(right))

        b = minimize(loss, np.full(experts, 1 / experts), jac=True, method="L-BFGS-B",
                     bounds=[(0, None)] * experts).x
        weights.append(b / b.sum() if b.sum() > 0 else np.full(experts, 1 / experts))
    return np.array(weights)


def log_priors(labels: np.ndarray, clusters: np.ndarray, subsets: Subsets) -> np.ndarray:
    """Return the log share of either label in each expert's training sentences: [experts, 2]."""
    counts = np.stack([np.bincount(clusters[labels == label], minlength=1 + max(map(max, subsets)))
                       for label in (0, 1)], axis=1)  # (k, 2)
    own = membership(subsets, len(counts)) @ counts
    return np.log(own / own.sum(axis=1, keepdims=True))
