"""Label words: a run of language models classifies sentences by the likeliest word behind them.

c-BTM's few-shot way (Gururangan et al. 2023, section 5): a few labelled examples, then the sentence, then the
word of each label; the experts' probabilities of the word are mixed under α of the sentence. No model learns
from the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from monju.data import sources
from monju.ensemble import fusion, gates
from monju.errors import MonjuError
from monju.evaluation.metrics import accuracy_interval
from monju.inference.language import LanguageRun
from monju.models.voices import BASE

EXAMPLE = "{text}\nLabel: {word}\n\n"


def evaluate(language: LanguageRun, source: sources.Source, words: Sequence[str], shots: int, n: int,
             text_column: str | None = None, label_column: str | None = None) -> dict[str, Any]:
    """Classify held-out sentences of a labelled source.

    Parameters
    ----------
    language : LanguageRun
        The run.
    source : str or path
        Labelled sentences.
    words : sequence of str [labels]
        A word for each label, in the labels' order.
    shots : int
        Labelled examples before each sentence, the same ones, of all labels alike.
    n : int
        Sentences, drawn in proportion to the labels.
    text_column, label_column : str, optional
        The source's columns.

    Returns
    -------
    dict
        {"n", "shots", "labels": {label: word}, "systems": {name: {"accuracy", "interval"}}}.

    Raises
    ------
    MonjuError
        For a source that cannot be read, or another number of words than labels.
    """
    if source is None:
        raise MonjuError("name the labelled sentences to count on with --data")
    data = sources.load(source, text_column=text_column, label_column=label_column)
    if len(words) != len(data.labels) or len(set(words)) < len(words):
        raise MonjuError(f"--label-words are {len(words)} for {len(data.labels)} labels: give a different "
                         f"word for each of {', '.join(data.label_names)}, in this order")
    if shots < 0 or n < len(words):
        raise MonjuError(f"--shots cannot be below 0, nor -n below the number of labels, {len(words)}")
    shown = sources.stratified(data.train.labels, max(shots, len(words)), 0)[:shots]
    order = np.random.default_rng(0).permutation(shown)
    before = "".join(EXAMPLE.format(text=data.train.texts[row], word=words[data.train.labels[row]])
                     for row in order)
    rows = sources.stratified(data.validation.labels, min(n, len(data.validation.texts)), 0)
    texts, right = [data.validation.texts[row] for row in rows], data.validation.labels[rows]
    names = [BASE, *language.experts, *language.members]
    log_p = np.stack([word_scores(language, before + EXAMPLE.split("{word}")[0].format(text=text).rstrip(),
                                  words, names) for text in texts])  # [n, words, names]
    experts, members = log_p[..., 1 : 1 + len(language.experts)], log_p[..., 1 + len(language.experts) :]
    _, distances, posterior = language.clustering.place(texts)
    alpha = gates.make(language.config)(distances, language.subsets, posterior)
    systems = {name: log_p[..., i] for i, name in enumerate(names)}
    for name, part, weights in (("monju", experts, alpha),
                                ("uniform", experts, np.full_like(alpha, 1 / alpha.shape[1])),
                                ("baseline", members, np.full((len(texts), members.shape[2]),
                                                              1 / max(1, members.shape[2])))):
        if part.shape[2]:
            systems[name] = fusion.mix_log_probabilities(part.transpose(0, 2, 1), weights)
    measured = {}
    for name, values in systems.items():
        hits = values.argmax(axis=1) == right
        measured[name] = {"accuracy": float(hits.mean()), "interval": accuracy_interval(hits)}
    return {"task": "label-words", "n": len(texts), "shots": len(shown),
            "labels": dict(zip(data.label_names, words)), "systems": measured}


def word_scores(language: LanguageRun, prompt: str, words: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Return log p [words, names] of each word behind a prompt, summed over its tokens."""
    encode = language.tokenizer
    ids = encode(prompt, add_special_tokens=False, verbose=False)["input_ids"]
    pieces = [encode(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
    longest = max(map(len, pieces))
    prefix = language.voices.begin(ids[-(language.context - longest - 1) :], len(words))
    scores = np.zeros((len(words), len(names)))
    for at in range(longest):
        for i, piece in enumerate(pieces):
            if at < len(piece):
                scores[i] += prefix.log_probabilities(i, names)[:, piece[at]].cpu().numpy()
        prefix.push([piece[min(at, len(piece) - 1)] for piece in pieces])
    return scores
