"""Rows: a table's rows → cleaned sentences with labels.

Decides which sentences and which labels are the same. Knows nothing of where tables come from.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from monju.data.notes import Note, refusal
from monju.data.readers import Table

TEXT_COLUMNS = ("sentence", "text", "review", "content")
LABEL_COLUMNS = ("label", "labels", "target", "sentiment", "class")
MISSING = {"", "nan", "na", "n/a", "#n/a", "<na>", "null", "none"}  # how programs write a missing label
WHOLE_NUMBER = re.compile(r"([+-]?\d{1,18})(?:\.(\d*))?", re.ASCII)
LEADING_ZERO = re.compile(r"[+-]?0\d+", re.ASCII)
ID = re.compile(r"[A-Za-z_.:#-]{0,20}\d+|[0-9a-f-]{16,40}", re.ASCII)
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls and lone surrogates
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")  # of no width
Label = int | str  # a label's value
MOST_LISTED = 12  # classes in a note


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled sentences, of training or held out.

    Parameters
    ----------
    texts : list of str [n]
        The sentences.
    labels : ndarray of int64 [n]
        Class numbers: indices into the labels of the `Data` or the run that it belongs to.
    domains : list of str [n] or None
        Each sentence's domain, where the data name it.
    """

    texts: list[str]
    labels: np.ndarray
    domains: list[str] | None = None


class Rows(NamedTuple):
    """Cleaned sentences, their labels' values, the names of labels that have one, domains where named."""

    texts: list[str]
    labels: list[Label]
    names: dict[Label, str]  # a word is its own name
    domains: list[str] | None = None

    def take(self, indices: Iterable[int]) -> Rows:
        """Return the rows of these numbers."""
        indices = list(indices)
        return Rows([self.texts[i] for i in indices], [self.labels[i] for i in indices], self.names,
                    self.domains and [self.domains[i] for i in indices])

    def numbered(self, index: Mapping[Any, int | None]) -> Split:
        """Return the rows as a Split, `index` giving each label's class number."""
        labels = np.array([index[label] for label in self.labels], dtype=np.int64)
        return Split(self.texts, labels, self.domains)


class Reading(NamedTuple):
    """How to read a source: columns (None: by usual names), label names, and the list that takes notes."""

    text_column: str | None
    label_column: str | None
    domain_column: str | None
    label_names: tuple[str, ...]
    notes: list[Note]


def read_rows(tables: list[Table], reading: Reading) -> list[Rows]:
    """Clean each table's rows and give labels their values, decided over all tables; note what is dropped.

    Raises MonjuError for columns and labels that cannot be used.
    """
    cells = [read_cells(table, reading) for table in tables]
    names = {spelled(name) for name in [*reading.label_names, *(name for one in cells for name in one.names)]}
    unnamed = values_of([one for one in cells if not one.names], names, reading.notes)
    values = [values_of([one], names, reading.notes) if one.names else unnamed for one in cells]
    given = [[value.get(label) for label in one.labels] for one, value in zip(cells, values)]
    # -1 beside other labels is a class; alone it says that labels were not published
    a_class = any({-1} < set(labels) - {None} for labels in given)
    return [rows_of(one, [None if label == -1 and (one.names or not a_class) else label for label in labels],
                    reading.notes)
            for one, labels in zip(cells, given)]


class Cells(NamedTuple):
    """A table's texts, labels as written, domains (without what is no row), and names for its labels."""

    table: Table
    texts: list[str]
    labels: list[str]
    domains: list[str] | None
    names: list[str]


def read_cells(table: Table, reading: Reading) -> Cells:
    """Find a table's columns and clean their cells. Raises MonjuError where a column cannot be found."""
    notes = reading.notes
    text_from, texts = read_texts(table, reading)
    label_from = find_column(table, reading.label_column, LABEL_COLUMNS, "--label-column", notes)
    labels = [clean_label(plain(value, table, label_from)) for value in table.columns[label_from]]
    notes.append(Note("rows", {"table": table.name, "n": len(texts), "text": text_from, "label": label_from}))
    domains = None
    if reading.domain_column:
        domain_from = find_column(table, reading.domain_column, (), "--domain-column", notes)
        domains = [plain(value, table, domain_from).strip() or "no domain"
                   for value in table.columns[domain_from]]
    kept = [i for i, row in enumerate(zip(texts, labels)) if row != (text_from.strip(), label_from.strip())]
    if len(kept) < len(texts):  # files with a header each, one behind the other
        notes.append(Note("repeated_header", {"table": table.name, "n": len(texts) - len(kept)}))
        texts, labels = [texts[i] for i in kept], [labels[i] for i in kept]
        domains = domains and [domains[i] for i in kept]
    return Cells(table, texts, labels, domains, table.classes.get(label_from, []))


def read_texts(table: Table, reading: Reading) -> tuple[str, list[str]]:
    """Return the name of a table's column of sentences, and its cells cleaned; an empty one is "".

    Raises MonjuError where there is no such column.
    """
    reading.notes.extend(table.notes)
    column = find_column(table, reading.text_column, TEXT_COLUMNS, "--text-column", reading.notes)
    cells = [plain(value, table, column) for value in table.columns[column]]
    return column, [UNPRINTABLE.sub(" ", cell).strip() for cell in cells]


def values_of(cells: list[Cells], names: set[str], notes: list[Note]) -> dict[str, Label]:
    """Return {label as written: its value}, without spellings of a missing label."""
    written = Counter(label for one in cells for label in one.labels
                      if spelled(label) not in MISSING or spelled(label) in names)
    return label_values(one_spelling(written, notes))


def rows_of(cells: Cells, labels: Sequence[Label | None], notes: list[Note]) -> Rows:
    """Return the rows that have both a sentence and a label. Raises MonjuError where none has."""
    table = cells.table.name
    names: dict[Label, str] = {label: label for label in labels if isinstance(label, str)}
    names |= {label: cells.names[label] for label in labels
              if isinstance(label, int) and 0 <= label < len(cells.names)}
    if empty := cells.texts.count(""):
        notes.append(Note("empty_texts", {"table": table, "n": empty}))
    if lacking := Counter(written or '""' for written, label in zip(cells.labels, labels) if label is None):
        words = any(spelled(written) in MISSING for written in lacking)
        notes.append(Note("missing_words" if words else "no_label",
                          {"table": table, "n": lacking.total(), "spellings": listed(lacking)}))
    if lacking.total() == len(labels):
        raise refusal("no_labels", table=table)
    kept = [(i, label) for i, label in enumerate(labels) if cells.texts[i] and label is not None]
    if not kept:
        raise refusal("no_sentences", table=table)
    return Rows([cells.texts[i] for i, _ in kept], [label for _, label in kept], names,
                cells.domains and [cells.domains[i] for i, _ in kept])


def find_column(table: Table, given: str | None, usual: tuple[str, ...], flag: str, notes: list[Note]) -> str:
    """Return a column's name: the given one, else the first usual one without ids. Raises MonjuError."""
    by_name = {str(name).strip().casefold(): name for name in reversed(table.columns)}
    keys = [name.strip().casefold() for name in ([given] if given is not None else usual)]
    wanted = [by_name[key] for key in keys if key in by_name]
    if given is not None and given in table.columns:
        wanted = [given]
    there = listed(table.columns)
    if not wanted:
        if given is not None:
            raise refusal("no_such_column", table=table.name, column=given, there=there, flag=flag)
        raise refusal("no_column", table=table.name, usual=listed(usual), there=there, flag=flag)
    column = wanted[0]
    if flag == "--text-column" and given is None and holds_ids(table.columns[column]):
        others = [name for name in wanted[1:] if not holds_ids(table.columns[name])]
        if not others:
            raise refusal("only_ids", table=table.name, column=column)
        notes.append(Note("id_column", {"table": table.name, "column": column, "text": others[0]}))
        column = others[0]
    if numbers := table.repeated.get(column):
        raise refusal("repeated_column", table=table.name, n=len(numbers), column=column,
                      places=listed(numbers))
    return column


def holds_ids(values: list) -> bool:
    """Return whether ten or more values are ids: numbers, perhaps behind a few letters, all different."""
    cells = [str(value).strip() for value in values if value is not None]
    return len(set(cells)) == len(cells) >= 10 and all(map(ID.fullmatch, cells))


def plain(value: Any, table: Table, column: str) -> str:
    """Return a cell as text, "" where it is missing. Raises MonjuError for lists, objects and bytes."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN is the one value unlike itself
        return ""
    if isinstance(value, (list, dict, bytes)):
        raise refusal("no_text_values", table=table.name, kind=type(value).__name__, column=column)
    return str(value)


# Normal forms: which sentences, and which labels, are the same.


def read_alike(text: str) -> str:
    """Return a sentence's normal form: composed characters, no invisible ones, single blanks, no case."""
    if not text.isascii():
        text = INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    return " ".join(text.casefold().split())


@lru_cache(10_000)
def clean_label(text: str) -> str:
    """Return a label's cell without invisible characters and extra blanks."""
    return " ".join(INVISIBLE.sub("", unicodedata.normalize("NFC", UNPRINTABLE.sub(" ", text))).split())


@lru_cache(10_000)
def spelled(name: object) -> str:
    """Return the normal form that the spellings of one label share."""
    return unicodedata.normalize("NFKC", clean_label(str(name))).casefold()


def one_spelling(labels: Counter[str], notes: list[Note]) -> dict[str, str]:
    """Return {label as spelled: its commonest spelling}; note what is merged."""
    groups: dict[str, list[str]] = {}
    for label, _ in labels.most_common():
        groups.setdefault(spelled(label), []).append(label)
    if merged := [group for group in groups.values() if len(group) > 1]:
        notes.append(Note("spellings", {"groups": "; ".join(" = ".join(group) for group in merged[:5])}))
    return {label: group[0] for group in groups.values() for label in group}


def label_values(spelling: dict[str, str]) -> dict[str, Label]:
    """Return each label's value: whole numbers and true/false become ints, anything else stays text.

    1 and 1.0 are one class whatever stands beside them. Where a label has a leading zero, labels are codes
    and all stay text. Raises MonjuError for a number that is not whole, where all are numbers.
    """
    labels = set(spelling.values())
    if {label.casefold() for label in labels} <= {"true", "false"}:
        return {label: int(one.casefold() == "true") for label, one in spelling.items()}
    if any(map(LEADING_ZERO.fullmatch, labels)):
        return dict(spelling)
    numbers = {label: match for label in labels if (match := WHOLE_NUMBER.fullmatch(label))}
    broken = sorted(label for label, match in numbers.items() if (match[2] or "").strip("0"))
    whole = {label: int(match[1]) for label, match in numbers.items() if label not in broken}
    if len(numbers) == len(labels):
        if broken:
            raise refusal("no_whole_number", label=broken[0])
        return {label: whole[one] for label, one in spelling.items()}
    return {label: str(whole.get(one, one)) for label, one in spelling.items()}


def counts(labels: Iterable, names: Mapping[Any, str]) -> Note:
    """Return a note on the classes with their counts, the commonest first."""
    common = Counter(labels).most_common()
    text = listed(f"{names[label]} {n:,}" for label, n in common[:MOST_LISTED])
    if len(common) > MOST_LISTED:
        return Note("many_classes", {"n": len(common), "counts": text})
    return Note("classes", {"counts": text})


def twins(texts: Sequence[str]) -> list[Note]:
    """Note how many held-out sentences repeat another one."""
    extra = len(texts) - len(set(map(read_alike, texts)))
    return [Note("held_out_twins", {"n": extra})] if extra else []


def conflicting(parts: Iterable[Rows | Split]) -> list[Note]:
    """Note how many sentences have different labels in the parts of a source."""
    labels_of: dict[str, set] = {}
    for part in parts:
        for text, label in zip(part.texts, part.labels):
            labels_of.setdefault(read_alike(text), set()).add(label)
    n = sum(len(labels) > 1 for labels in labels_of.values())
    return [Note("conflicting", {"n": n})] if n else []


# Two sides' labels


def matched(rows: Rows, labels: Sequence[Label], names: Mapping[Label, str], source: str, other: str,
            notes: list[Note]) -> dict[Label, int | None]:
    """Return {label of the rows: its number among `labels`, those of `other`, or None}.

    Where both sides name their labels (`names`: those of `other`), names decide, else values; a contradiction
    between the two is noted.
    """
    by_value = {str(label): number for number, label in enumerate(labels)}
    by_name = {spelled(names[label]): number for number, label in enumerate(labels) if label in names}
    named = any(spelled(name) in by_name for name in rows.names.values())
    index = {label: by_name.get(spelled(rows.names[label])) if named and label in rows.names
             else by_value.get(str(label)) for label in sorted(set(rows.labels), key=str)}
    for label in index:
        here, there = rows.names.get(label, label), names.get(label, label)
        both_named = str(here) != str(label) != str(there)
        if str(label) in by_value and both_named and spelled(here) != spelled(there):
            example = f"{label}: {here} / {there}"
            notes.append(Note("names_decide" if named else "by_number",
                              {"source": source, "other": other, "example": example}))
            break
    return index


def agreed(train: Rows, rows: Rows, names: tuple[str, str], notes: list[Note]) -> tuple[Rows, Rows]:
    """Return a source's training and held-out rows with one set of labels; `names` are the parts' names.

    Labels that stand only in the held-out rows keep their value. Raises MonjuError where no label is in both.
    """
    labels = sorted(set(train.labels), key=str)
    index = matched(rows, labels, train.names, names[1], names[0], notes)
    if all(number is None for number in index.values()):
        raise refusal("nothing_in_common", one=names[0], other=names[1],
                      these=listed(labels[:5]), those=listed(list(index)[:5]))
    values = {label: label if number is None else labels[number] for label, number in index.items()}
    alone = [label for label, number in index.items() if number is None and label in rows.names]
    known = {**{label: rows.names[label] for label in alone}, **train.names}
    train = train._replace(names=known)
    rows = rows._replace(labels=[values[label] for label in rows.labels], names=known)
    if len({type(label) for label in (*train.labels, *rows.labels)}) > 1:  # numbers and a word: names decide
        train, rows = (part._replace(labels=[str(known.get(label, label)) for label in part.labels],
                                     names={str(name): str(name) for name in known.values()})
                       for part in (train, rows))
    return train, rows


def listed(values: Iterable) -> str:
    """Return values as text with commas between."""
    return ", ".join(map(str, values))
