"""Perplexity: all figures on a run of language models, as plain numbers.

`table` turns token log-probabilities into a dictionary that JSON can hold. Perplexity is exp of the mean
−log p of a token; a per-byte perplexity, the same sum over the texts' bytes, compares models of different
tokenizers. Intervals and differences are bootstrapped over documents, since tokens of one document are no
independent draws; differences are paired. Every interval speaks of these models on other documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from monju.ensemble import gates
from monju.errors import MonjuError
from monju.inference.language import MERGED, LanguageRun, TextScores
from monju.models.causal import Rows, passages
from monju.models.voices import BASE

if TYPE_CHECKING:
    from monju.data.rows import Split

RESAMPLES = 2000


class Documents:
    """Measures systems on the same documents, with one set of resamples for all.

    Parameters
    ----------
    document : ndarray of int [tokens]
        The number of each token's document, from 0.
    sizes : ndarray of int [documents]
        Each document's bytes.
    """

    def __init__(self, document: np.ndarray, sizes: np.ndarray):
        self.document, self.sizes = document, sizes
        self.tokens = np.bincount(document, minlength=len(sizes))
        n = len(sizes)
        self.draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(float)

    def sums(self, log_p: np.ndarray) -> np.ndarray:
        """Return −log p summed over each document, of the tokens' log-probabilities [tokens]."""
        return np.bincount(self.document, -log_p.astype(np.float64), minlength=len(self.sizes))

    def mean(self, sums: np.ndarray) -> tuple[float, list[float]]:
        """Return the mean a token of sums [documents], and its 95 % interval."""
        resampled = (self.draws @ sums) / np.maximum(1, self.draws @ self.tokens)
        return (float(sums.sum() / self.tokens.sum()),
                [float(bound) for bound in np.percentile(resampled, (2.5, 97.5))])

    def measure(self, log_p: np.ndarray) -> dict[str, Any]:
        """Return "perplexity" with its "interval", "per_byte" and "nll" (nats a token) of log p [tokens]."""
        sums = self.sums(log_p)
        nll, interval = self.mean(sums)
        return {"perplexity": float(np.exp(nll)), "interval": [float(np.exp(bound)) for bound in interval],
                "per_byte": float(np.exp(sums.sum() / self.sizes.sum())), "nll": nll}

    def compare(self, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
        """Return the ratio of two perplexities with its interval, and the difference in nats a token.

        Below 1 the first is the better one.
        """
        difference, interval = self.mean(self.sums(ours) - self.sums(theirs))
        return {"ratio": float(np.exp(difference)), "interval": [float(np.exp(bound)) for bound in interval],
                "difference": difference}


def held_out_rows(language: LanguageRun, texts: Sequence[str]) -> Rows:
    """Return documents as the rows that perplexities are measured on: no end-of-text token is counted.

    Raises MonjuError where there is no token.
    """
    rows = passages(language.tokenizer, texts, language.config.max_tokens, ends=False)
    if not rows.tokens:
        raise MonjuError("there is no text to measure: give documents with words in them")
    return rows


def all_gates(language: LanguageRun) -> dict[str, Any]:
    """Return the gates that a run allows by name: the project's, c-BTM's with top-k, BTM's posterior."""
    config = language.config
    named: dict[str, Any] = {"uniform": gates.Distance(sharpness=0)}
    for name in gates.TABLE:
        if name != "posterior" or config.clusterer in ("gmm", "domain"):
            named[name] = gates.make(replace(config, gate=name))
    for top in (1, 2):
        if top < config.k:
            named[f"membership, top {top}"] = gates.Membership(config.temperature, config.power, top)
    return named | {"likelihood": gates.Likelihood(None), "likelihood, top 1": gates.Likelihood(1)}


def table(language: LanguageRun, split: Split, cost: dict | None = None,
          unigrams: np.ndarray | None = None) -> dict[str, Any]:
    """Return all figures on a run of language models on held-out documents.

    Parameters
    ----------
    language : LanguageRun
        The run, its controls loaded.
    split : Split
        The documents.
    cost : dict, optional
        Training cost by model, passed on.
    unigrams : ndarray [vocabulary], optional
        Log-probability of each token in the training text, whatever stands before it.

    Returns
    -------
    dict
        {"task", "n" (documents), "passages", "tokens", "bytes", "base", "unigram", "experts", "monju",
        "gates", "baseline", "equal_cost", "merged", "monju_vs_…", "alpha", "cost"}. Ensembles and models hold
        what `Documents.measure` gives; models and ensembles also "clusters": {name: {"tokens", "perplexity",
        "seen"}}.
    """
    rows = held_out_rows(language, split.texts)
    scores = language.score(rows)
    lengths = np.diff(scores.starts)
    numbers, document = np.unique(np.repeat(rows.documents, lengths), return_inverse=True)
    sizes = np.array([len(split.texts[number].encode("utf-8", "replace")) for number in numbers])
    documents = Documents(document, sizes)
    _, distances, _ = language.clustering.place(rows.texts)
    cluster = np.repeat(distances.argmin(axis=1), lengths)

    everywhere = range(len(language.clusters))

    def measured(log_p: np.ndarray, subset: Any = everywhere) -> dict[str, Any]:
        cells = {}
        for c, name in enumerate(language.clusters):
            own = log_p[cluster == c]
            cells[name] = {"tokens": len(own), "seen": c in subset,
                           "perplexity": float(np.exp(-own.mean(dtype=np.float64))) if len(own) else None}
        return documents.measure(log_p) | {"clusters": cells}

    def one(name: str) -> np.ndarray:
        return scores.of([name])[:, 0]

    found: dict[str, Any] = {
        "task": "lm", "n": len(sizes), "passages": len(rows.tokens), "tokens": len(scores.log_p),
        "bytes": int(sizes.sum()), "base": measured(one(BASE)),
        "experts": {name: measured(one(name), subset)
                    for name, subset in zip(language.experts, language.subsets)}}
    if unigrams is not None:
        found["unigram"] = measured(unigrams[np.concatenate([np.array(row) for row in rows.tokens])])
    alpha = scores.alpha(gates.make(language.config), language.experts, language.subsets)
    monju = scores.mixed(language.experts, alpha)
    found["monju"] = measured(monju) | {"gate": repr(gates.make(language.config))}
    found["alpha"] = {"mean": dict(zip(language.experts, alpha.mean(axis=0).tolist())),
                      "sorted_mean": np.sort(alpha, axis=1).mean(axis=0).tolist()}
    found["gates"] = {name: gated(documents, scores, language, gate, monju)
                      for name, gate in all_gates(language).items()}
    others = {"base": one(BASE)}
    for key, names in (("baseline", language.members), ("equal_cost", language.equal_cost)):
        if names:
            others[key] = scores.mixed(names)
            found[key] = measured(others[key]) | {"models": {name: measured(one(name)) for name in names}}
    if MERGED in scores.names:
        others[MERGED] = one(MERGED)
        found[MERGED] = measured(others[MERGED])
    found |= {f"monju_vs_{key}": documents.compare(monju, log_p) for key, log_p in others.items()}
    return found if cost is None else found | {"cost": cost}


def tokens_of(language: LanguageRun, text: str) -> dict[str, Any]:
    """Return a text token by token: {"text", "perplexity": {system: …}, "tokens": [{"text", "alpha",
    "distances", "log_p": {model: …, "monju", "baseline"}}]}.

    Raises MonjuError for an empty text.
    """  # noqa: D205
    rows = held_out_rows(language, [text])
    scores = language.score(rows)
    alpha = scores.alpha(gates.make(language.config), language.experts, language.subsets)
    systems = {"monju": scores.mixed(language.experts, alpha)}
    if language.members:
        systems["baseline"] = scores.mixed(language.members)
    columns = dict(zip(scores.names, scores.log_p.T)) | systems
    ids = [number for row in rows.tokens for number in row]
    return {"text": text,
            "perplexity": {name: float(np.exp(-log_p.mean())) for name, log_p in columns.items()},
            "tokens": [{"text": language.tokenizer.decode([number]),
                        "alpha": dict(zip(language.experts, alpha[i].tolist())),
                        "distances": dict(zip(language.clusters, scores.distances[i].tolist())),
                        "log_p": {name: float(log_p[i]) for name, log_p in columns.items()}}
                       for i, number in enumerate(ids)]}


def gated(documents: Documents, scores: TextScores, language: LanguageRun, gate: Any,
          monju: np.ndarray) -> dict[str, Any]:
    """Return what the experts' mixture under another gate is worth, also beside the run's own."""
    alpha = scores.alpha(gate, language.experts, language.subsets)
    mixed = scores.mixed(language.experts, alpha)
    return documents.measure(mixed) | {"gate": repr(gate), "against_monju": documents.compare(mixed, monju),
                                       "models_per_token": float((alpha > 0).sum(axis=1).mean())}
