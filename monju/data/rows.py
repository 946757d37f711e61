"""Rows: a table's rows → cleaned sentences with labels; labels are values with names, whatever their spelling.

What two sentences, or two labels, have in common is said here. Knows nothing of where tables come from.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from monju.data.notes import Note, refusal
from monju.data.readers import Table

TEXT_COLUMNS = ("sentence", "text", "review", "content")
LABEL_COLUMNS = ("label", "labels", "target", "sentiment", "class")
MISSING = {"", "nan", "na", "n/a", "#n/a", "<na>", "null", "none"}  # how programs write that there is no label
WHOLE_NUMBER = re.compile(r"([+-]?\d{1,18})(?:\.(\d*))?", re.ASCII)
LEADING_ZERO = re.compile(r"[+-]?0\d+", re.ASCII)
ID = re.compile(r"[A-Za-z_.:#-]{0,20}\d+|[0-9a-f-]{16,40}", re.ASCII)
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls, and halves of characters no tokenizer takes
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")  # of no width


@dataclass(frozen=True, eq=False)
class Split:
    """`texts`: n sentences; `labels`: int64 [n], indices into the labels of the `Data` (or the run) it belongs to."""

    texts: list[str]
    labels: np.ndarray
    domains: list[str] | None = None  # each sentence's, where the data name them


class Rows(NamedTuple):
    """Cleaned sentences, their labels, the names of those labels that have one (a word is its own), and the sentences' domains,
    where they are named."""

    texts: list[str]
    labels: list[int | str]
    names: dict[int | str, str]
    domains: list[str] | None = None

    def take(self, indices) -> "Rows":
        return Rows([self.texts[i] for i in indices], [self.labels[i] for i in indices], self.names,
                    self.domains and [self.domains[i] for i in indices])

    def numbered(self, index: dict) -> Split:
        return Split(self.texts, np.array([index[label] for label in self.labels], dtype=np.int64), self.domains)


class Reading(NamedTuple):
    """How a source is to be read: the columns of sentences, labels and domains (each None to be found; domains only where they are
    named), the labels' names as the user has them, and the list that notes are added to."""

    text_column: str | None
    label_column: str | None
    domain_column: str | None
    label_names: tuple[str, ...]
    notes: list[Note]


def read_rows(tables: list[Table], reading: Reading) -> list[Rows]:
    """Clean each table's rows and give their labels values, told over all tables together; what is dropped or merged is noted.

    Raises MonjuError for columns and labels that cannot be used.
    """
    cells = [read_cells(table, reading) for table in tables]
    names = {spelled(name) for name in reading.label_names} | {spelled(name) for one in cells for name in one.names}
    unnamed = values_of([one for one in cells if not one.names], names, reading.notes)
    values = [values_of([one], names, reading.notes) if one.names else unnamed for one in cells]
    given = [[found.get(label) for label in one.labels] for one, found in zip(cells, values)]
    a_class = any({-1} < set(labels) - {None} for labels in given)  # -1 beside others; alone it says that labels were not published
    return [rows_of(one, [None if label == -1 and (one.names or not a_class) else label for label in labels], reading.notes)
            for one, labels in zip(cells, given)]


class Cells(NamedTuple):
    """A table's texts, labels as they are written, and domains, without what is no row; and the names that it has for its labels."""

    table: Table
    texts: list[str]
    labels: list[str]
    domains: list[str] | None
    names: list[str]


def read_cells(table: Table, reading: Reading) -> Cells:
    notes = reading.notes
    notes.extend(table.notes)
    text_from = find_column(table, reading.text_column, TEXT_COLUMNS, "--text-column", notes)
    label_from = find_column(table, reading.label_column, LABEL_COLUMNS, "--label-column", notes)
    texts = [UNPRINTABLE.sub(" ", plain(value, table, text_from)).strip() for value in table.columns[text_from]]
    labels = [clean_label(plain(value, table, label_from)) for value in table.columns[label_from]]
    notes.append(Note("rows", {"table": table.name, "n": len(texts), "text": text_from, "label": label_from}))
    domains = None
    if reading.domain_column:
        domain_from = find_column(table, reading.domain_column, (), "--domain-column", notes)
        domains = [plain(value, table, domain_from).strip() or "no domain" for value in table.columns[domain_from]]
    kept = [i for i, row in enumerate(zip(texts, labels)) if row != (text_from.strip(), label_from.strip())]
    if len(kept) < len(texts):  # files with a header each, one behind the other
        notes.append(Note("repeated_header", {"table": table.name, "n": len(texts) - len(kept)}))
        texts, labels, domains = ([part[i] for i in kept] if part else part for part in (texts, labels, domains))
    return Cells(table, texts, labels, domains, table.classes.get(label_from, []))


def values_of(cells: list[Cells], names: set[str], notes: list[Note]) -> dict[str, int | str]:
    """{each label as it is written: its value}, without those that only say that there is none."""
    written = Counter(label for one in cells for label in one.labels if spelled(label) not in MISSING or spelled(label) in names)
    return label_values(one_spelling(written, notes))


def rows_of(cells: Cells, labels: list[int | str | None], notes: list[Note]) -> Rows:
    """The rows that have both a sentence and a label. Raises MonjuError where none has."""
    table, names = cells.table.name, {label: label for label in labels if isinstance(label, str)}
    names |= {label: cells.names[label] for label in labels if isinstance(label, int) and 0 <= label < len(cells.names)}
    if empty := cells.texts.count(""):
        notes.append(Note("empty_texts", {"table": table, "n": empty}))
    if lacking := Counter(written or '""' for written, label in zip(cells.labels, labels) if label is None):
        words = any(spelled(written) in MISSING for written in lacking)
        notes.append(Note("missing_words" if words else "no_label", {"table": table, "n": lacking.total(), "spellings": listed(lacking)}))
    if lacking.total() == len(labels):
        raise refusal("no_labels", table=table)
    rows = Rows(cells.texts, labels, names, cells.domains)
    rows = rows.take([i for i, text in enumerate(cells.texts) if text and labels[i] is not None])
    if not rows.texts:
        raise refusal("no_sentences", table=table)
    return rows


def find_column(table: Table, given: str | None, usual: tuple[str, ...], flag: str, notes: list[Note]) -> str:
    """The name of a table's column: the given one, else the first usual one that does not hold ids. Raises MonjuError."""
    by_name = {str(name).strip().casefold(): name for name in reversed(table.columns)}
    wanted = [given] if given is not None and given in table.columns else [
        by_name[name.strip().casefold()] for name in ([given] if given is not None else usual) if name.strip().casefold() in by_name]
    there = listed(table.columns)
    if not wanted:
        raise (refusal("no_such_column", table=table.name, column=given, there=there, flag=flag) if given is not None
               else refusal("no_column", table=table.name, usual=listed(usual), there=there, flag=flag))
    column = wanted[0]
    if flag == "--text-column" and given is None and holds_ids(table.columns[column]):
        ids, column = column, next((name for name in wanted[1:] if not holds_ids(table.columns[name])), None)
        if column is None:
            raise refusal("only_ids", table=table.name, column=ids)
        notes.append(Note("id_column", {"table": table.name, "column": ids, "text": column}))
    if places := table.repeated.get(column):
        raise refusal("repeated_column", table=table.name, n=len(places), column=column, places=listed(places))
    return column


def holds_ids(values: list) -> bool:
    """Whether a column's values (ten or more) are ids: a number, perhaps behind a few letters, in every row another."""
    found = [str(value).strip() for value in values if value is not None]
    return len(set(found)) == len(found) >= 10 and all(map(ID.fullmatch, found))


def plain(value, table: Table, column: str) -> str:
    """A cell as text, "" where it is missing."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN is the one value unlike itself
        return ""
    if isinstance(value, (list, dict, bytes)):
        raise refusal("no_text_values", table=table.name, kind=type(value).__name__, column=column)
    return str(value)


# What is the same to a reader: sentences and labels.


def read_alike(text: str) -> str:
    """What two sentences have in common that a model reads as one: composed characters, no invisible ones, single blanks, no case."""
    if not text.isascii():
        text = INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    return " ".join(text.casefold().split())


@lru_cache(10_000)
def clean_label(text: str) -> str:
    """A label's cell without what nobody sees."""
    return " ".join(INVISIBLE.sub("", unicodedata.normalize("NFC", UNPRINTABLE.sub(" ", text))).split())


@lru_cache(10_000)
def spelled(name) -> str:
    """What the spellings of one label have in common."""
    return unicodedata.normalize("NFKC", clean_label(str(name))).casefold()


def one_spelling(found: Counter, notes: list[Note]) -> dict[str, str]:
    """{each label as it is spelled: its commonest spelling}; what is merged is noted."""
    groups = {}
    for label, _ in found.most_common():
        groups.setdefault(spelled(label), []).append(label)
    if merged := [group for group in groups.values() if len(group) > 1]:
        notes.append(Note("spellings", {"groups": "; ".join(" = ".join(group) for group in merged[:5])}))
    return {label: group[0] for group in groups.values() for label in group}


def label_values(spelling: dict[str, str]) -> dict[str, int | str]:
    """Each label as written → its value: whole numbers and true/false become ints, anything else stays text.

    1 and 1.0 are one class whatever stands beside them; where a label has a leading zero they are codes, and all stay text.
    Raises MonjuError for a number that is not whole, where all are numbers.
    """
    found = set(spelling.values())
    if {label.casefold() for label in found} <= {"true", "false"}:
        return {label: int(one.casefold() == "true") for label, one in spelling.items()}
    if any(map(LEADING_ZERO.fullmatch, found)):
        return spelling
    numbers = {label: WHOLE_NUMBER.fullmatch(label) for label in found}
    broken = sorted(label for label, match in numbers.items() if match and (match[2] or "").strip("0"))
    if all(numbers.values()):
        if broken:
            raise refusal("no_whole_number", label=broken[0])
        return {label: int(numbers[one][1]) for label, one in spelling.items()}
    return {label: one if not numbers[one] or one in broken else str(int(numbers[one][1])) for label, one in spelling.items()}


def counts(labels: list, names: dict) -> Note:
    """The classes with their counts, the commonest first."""
    return Note("classes", {"counts": listed(f"{names[label]} {n:,}" for label, n in Counter(labels).most_common())})


def twins(texts: list[str]) -> list[Note]:
    """How many held-out sentences are another one's twin."""
    extra = len(texts) - len(set(map(read_alike, texts)))
    return [Note("held_out_twins", {"n": extra})] if extra else []


def conflicting(parts) -> list[Note]:
    """How many sentences have different labels in (the parts of) a source."""
    known = {}
    for part in parts:
        for text, label in zip(part.texts, part.labels):
            known.setdefault(read_alike(text), set()).add(label)
    n = sum(len(labels) > 1 for labels in known.values())
    return [Note("conflicting", {"n": n})] if n else []


# Two sides' labels


def matched(rows: Rows, labels: list, names: dict, source: str, other: str, notes: list[Note]) -> dict:
    """{label of the rows: its number among `labels`, or None}. `names`: of the labels of `other`, where they have one.

    Where both sides name their labels, names decide; else values do. Where the two contradict each other, that is noted.
    """
    by_value = {str(label): number for number, label in enumerate(labels)}
    by_name = {spelled(names[label]): number for number, label in enumerate(labels) if label in names}
    named = any(spelled(name) in by_name for name in rows.names.values())
    index = {label: by_name.get(spelled(rows.names[label])) if named and label in rows.names else by_value.get(str(label))
             for label in sorted(set(rows.labels), key=str)}
    for label in index:
        here, there = rows.names.get(label, label), names.get(label, label)
        if str(label) in by_value and str(here) != str(label) != str(there) and spelled(here) != spelled(there):
            example = f"{label}: {here} / {there}"
            notes.append(Note("names_decide" if named else "by_number", {"source": source, "other": other, "example": example}))
            break
    return index


def agreed(train: Rows, rows: Rows, names: tuple[str, str], notes: list[Note]) -> tuple[Rows, Rows]:
    """Training and held-out rows of a source with one set of labels; `names` are the parts'. Labels that stand only in the held-out
    rows keep their own value. Raises MonjuError where no label stands in both."""
    labels = sorted(set(train.labels), key=str)
    index = matched(rows, labels, train.names, names[1], names[0], notes)
    if all(number is None for number in index.values()):
        raise refusal("nothing_in_common", one=names[0], other=names[1], these=listed(labels[:5]), those=listed(list(index)[:5]))
    values = {label: label if number is None else labels[number] for label, number in index.items()}
    known = {**{label: rows.names[label] for label, number in index.items() if number is None and label in rows.names}, **train.names}
    train, rows = train._replace(names=known), rows._replace(labels=[values[label] for label in rows.labels], names=known)
    if len({type(label) for label in (*train.labels, *rows.labels)}) > 1:  # numbers with names beside a word: the names are the labels
        train, rows = (part._replace(labels=[str(known.get(label, label)) for label in part.labels],
                                     names={str(name): str(name) for name in known.values()}) for part in (train, rows))
    return train, rows


def listed(values) -> str:
    return ", ".join(map(str, values))
