"""Sources: where labelled sentences come from → the data that a run trains on and is evaluated with.

Four steps: open a source (`named`: tables of columns), clean its rows (`rows`), split them where the source
does not (`splits`), number the labels. Knows nothing of models or clusters.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monju.config import Config
from monju.data import documents
from monju.data.named import Parts, Source, called, open_source, unread
from monju.data.notes import Note, refusal
from monju.data.rows import (
    Label,
    Reading,
    Rows,
    Split,
    agreed,
    conflicting,
    counts,
    listed,
    matched,
    read_rows,
    read_texts,
    twins,
)
from monju.data.splits import fingerprint, split, stratified, without_overlap


@dataclass(frozen=True, eq=False)
class Data:
    """What a run trains on and is evaluated with.

    Parameters
    ----------
    train, validation : Split
        Training sentences, and held-out sentences.
    labels : list of int or str
        Labels as they stand in the data, sorted; the index is the class number.
    label_names : list of str
        Their readable names.
    notes : list of Note
        What was read, found and dropped.
    overlap : int
        Number of training sentences that also stand in validation.
    tuning : Split or None
        The tuning split: training sentences on which gates and weights may be chosen.
    fingerprint : str
        SHA-256 over training (with tuning) and validation.
    out_of_scope : list of str
        Texts that belong to none of the classes, where the source has such.
    """

    train: Split
    validation: Split
    labels: list[Label]
    label_names: list[str]
    notes: list[Note]
    overlap: int
    tuning: Split | None
    fingerprint: str
    out_of_scope: list[str] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """All sentences: training, tuning, validation."""
        return [text for part in (self.train, self.tuning, self.validation) if part for text in part.texts]

    @property
    def classes(self) -> dict[str, int]:
        """Number of sentences of each class, by name."""
        labels = np.concatenate([part.labels for part in (self.train, self.tuning, self.validation) if part])
        return dict(zip(self.label_names, np.bincount(labels, minlength=len(self.labels)).tolist()))


def load_for(config: Config) -> Data:
    """Return the data of a run's configuration: the same sentences in the same order every time."""
    if config.task == "lm":
        return load_documents(config)
    return load(config.data, text_column=config.text_column, label_column=config.label_column,
                domain_column=config.domain_column, label_names=config.label_names,
                keep_overlap=config.keep_overlap, sample=config.sample, tuning_size=config.tuning_size,
                seed=config.seed)


def load(source: Source, *, text_column: str | None = None, label_column: str | None = None,
         domain_column: str | None = None, label_names: Sequence[str] | None = None,
         keep_overlap: bool = False, sample: int | None = None, tuning_size: int = 0, seed: int = 0) -> Data:
    """Read a source for training.

    Parameters
    ----------
    source : str or path
        A name in SOURCES, a file, a folder, a hub dataset, or several of them joined by +.
    text_column, label_column : str, optional
        Columns of sentences and labels; by default found by their usual names.
    domain_column : str, optional
        Column that names each sentence's domain.
    label_names : sequence of str, optional
        Readable names of the labels, in the labels' order; by default the source's own.
    keep_overlap : bool
        Keep training sentences that also stand in validation.
    sample : int, optional
        Number of training sentences to keep, drawn in proportion to the classes; validation stays whole.
    tuning_size : int
        Number of training sentences to put into the tuning split, drawn likewise.
    seed : int
        Seed of the draws.

    Returns
    -------
    Data
        With notes on all that was found and dropped.

    Raises
    ------
    MonjuError
        For a source, rows or sizes that cannot be used.

    Examples
    --------
    >>> data = load("rotten-tomatoes", sample=1000)
    >>> len(data.train.texts), data.label_names
    (1000, ['negative', 'positive'])
    """
    notes: list[Note] = []
    reading = Reading(text_column, label_column, domain_column, tuple(label_names or ()), notes)
    train, validation, out_of_scope = (join(several, reading) if (several := joined(source))
                                       else all_parts(source, reading))
    labels = sorted({*train.labels, *validation.labels})
    if len(labels) < 2:
        raise refusal("one_class", source=called(source), label=labels[0])
    names = [str(name) for name in label_names or [train.names.get(label, str(label)) for label in labels]]
    if len(names) != len(labels):
        raise refusal("label_names_count", n=len(names), k=len(labels), labels=listed(labels))
    name_of = dict(zip(labels, names))
    notes += twins(validation.texts) + conflicting([train, validation])

    train, overlap = without_overlap(train, validation, keep_overlap, notes)
    trained = Counter(train.labels)
    notes.append(counts([*train.labels, *validation.labels], name_of))
    if len(trained) < 2:
        raise refusal("one_class_left" if trained else "nothing_left", source=called(source))
    if unseen := [name_of[label] for label in labels if label not in trained]:
        notes.append(Note("unseen_labels", {"labels": listed(unseen)}))
    if single := [name_of[label] for label in labels if trained[label] == 1]:
        notes.append(Note("single_sentence", {"labels": listed(single)}))
    if sample is not None:
        if sample < len(trained):
            raise refusal("sample_too_small", n=sample, k=len(trained))
        everything = len(train.texts)
        train = train.take(stratified(train.labels, sample, seed))
        notes.append(Note("sample_all", {"n": everything, "asked": sample}) if sample > everything
                     else Note("sample", {"n": len(train.texts), "total": everything}))
    identity, tuning = fingerprint(train, validation), None
    if tuning_size:
        if tuning_size > len(train.texts) // 2:
            raise refusal("tuning_too_large", n=tuning_size, total=len(train.texts))
        drawn = stratified(train.labels, tuning_size, seed)
        train, tuning = train.take(np.setdiff1d(np.arange(len(train.texts)), drawn)), train.take(drawn)
        notes.append(Note("tuning", {"n": tuning_size}))

    index = {label: i for i, label in enumerate(labels)}
    return Data(train.numbered(index), validation.numbered(index), labels, names, notes, overlap,
                tuning and tuning.numbered(index), identity, out_of_scope)


def load_documents(config: Config) -> Data:
    """Return the documents that a configuration trains language models on: no labels, each class number 0."""
    notes: list[Note] = []
    train, validation, overlap = documents.load_parts(
        joined(config.data) or [config.data], config.text_column, config.keep_overlap, config.sample,
        config.held_out, config.seed, notes)
    return Data(train.numbered({0: 0}), validation.numbered({0: 0}), [], [], notes, overlap, None,
                fingerprint(train, validation))


def load_labelled(source: Source, labels: Sequence[Label], label_names: Sequence[str], *,
                  text_column: str | None = None, label_column: str | None = None,
                  notes: list[Note] | None = None) -> Split:
    """Read a source to evaluate a run on: its validation part, or all of it where it has none.

    Parameters
    ----------
    source : str or path
        As of `load`.
    labels, label_names : sequences [labels]
        The run's labels and their names. Labels of the source are matched by name where both sides name them,
        else by value (1 is "1").
    text_column, label_column : str, optional
        As of `load`.
    notes : list of Note, optional
        Takes the notes on what was found.

    Returns
    -------
    Split
        Labelled sentences, numbered as the run numbers its labels.

    Raises
    ------
    MonjuError
        For a label that the run does not know, and as `load`.
    """
    splits, notes = [], [] if notes is None else notes
    reading = Reading(text_column, label_column, None, tuple(label_names), notes)
    for name in joined(source) or [os.fspath(source)]:
        parts = open_source(name)
        notes += unread(parts)
        [rows] = read_rows([table for table in (parts.validation or parts.train,) if table], reading)
        index = matched(rows, labels, dict(zip(labels, label_names)), called(name), "the run", notes)
        if unknown := [label for label, number in index.items() if number is None]:
            known = [str(label) if str(label) == name else f"{label} ({name})"
                     for label, name in zip(labels, label_names)]
            raise refusal("unknown_label", source=called(name), label=rows.names.get(unknown[0], unknown[0]),
                          other="the run", labels=listed(known))
        splits.append(rows.numbered(index))
    split = Split([text for part in splits for text in part.texts],
                  np.concatenate([part.labels for part in splits]))
    notes.append(counts(split.labels.tolist(), dict(enumerate(label_names))))
    notes += twins(split.texts) + conflicting([split])
    return split


def load_out_of_scope(source: Source, text_column: str | None = None) -> list[str]:
    """Return the texts of a source that belong to none of its classes; none of several joined sources."""
    reading = Reading(text_column, None, None, (), [])
    return [] if joined(source) else out_of_scope(open_source(source), reading)


def joined(source: Source) -> list[str]:
    """Return the sources in `one+other`; none where the whole is a single source's name or path."""
    names = os.fspath(source).split("+")
    single = len(names) < 2 or not all(names) or os.path.exists(os.path.expanduser(os.fspath(source)))
    return [] if single else names


def join(sources: Sequence[str], reading: Reading) -> tuple[Rows, Rows, list[str]]:
    """Return several sources as one: training rows, held-out rows, no out-of-scope texts.

    Each source is a domain unless a column names domains.
    Labels are matched to the first source's. Raises MonjuError for a label that it does not know.
    """
    parts = [all_parts(name, reading) for name in sources]
    first, names = sources[0], {**parts[0][1].names, **parts[0][0].names}
    labels = sorted({*parts[0][0].labels, *parts[0][1].labels})

    def under(parts: Iterable[Rows]) -> Rows:
        """The rows of all sources, one under the other."""
        texts, values, domains = [], [], []
        for source, rows in zip(sources, parts):
            index: dict[Label, Any] = {label: number for number, label in enumerate(labels)}
            if source != first:
                index = matched(rows, labels, names, called(source), called(first), reading.notes)
            if unknown := [label for label, number in index.items() if number is None]:
                raise refusal("unknown_label", source=called(source), other=called(first),
                              label=rows.names.get(unknown[0], unknown[0]),
                              labels=listed([names.get(label, label) for label in labels]))
            texts += rows.texts
            values += [labels[index[label]] for label in rows.labels]
            domains += rows.domains or [source] * len(rows.texts)
        return Rows(texts, values, names, domains)

    return under(train for train, *_ in parts), under(held_out for _, held_out, _ in parts), []


def all_parts(source: Source, reading: Reading) -> tuple[Rows, Rows, list[str]]:
    """Return a source's cleaned training and held-out rows, and its out-of-scope texts.

    Where it has no held-out part, one is split off.
    """
    parts = open_source(source)
    reading.notes.extend(unread(parts))
    if parts.train is None:
        raise refusal("no_train", source=called(source))
    outside = out_of_scope(parts, reading)
    if parts.validation:
        train, validation = read_rows([parts.train, parts.validation], reading)
        names = (parts.train.name, parts.validation.name)
        return *agreed(train, validation, names, reading.notes), outside
    [rows] = read_rows([parts.train], reading)
    kept, held_out = split(rows.labels)
    reading.notes.append(Note("held_out", {"source": called(source), "n": len(held_out)}))
    return rows.take(kept), rows.take(held_out), outside


def out_of_scope(parts: Parts, reading: Reading) -> list[str]:
    """Return the texts of an opened source that belong to none of its classes, and note their number."""
    if parts.out_of_scope is None:
        return []
    texts = [text for text in read_texts(parts.out_of_scope, reading)[1] if text]
    reading.notes.append(Note("out_of_scope", {"n": len(texts)}))
    return texts
