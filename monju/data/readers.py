"""Readers: a file of rows → its columns. What is odd about a file is noted, what is wrong with it refused.

Knows nothing of sentences or labels. A new kind of file is one reader and one line in READERS.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monju.data.notes import Note, refusal
from monju.errors import MonjuError

MOST_ROWS, MOST_BYTES = 10_000_000, 4 << 30  # of a Parquet file, unpacked: a small one may hold any number
SEPARATORS = {",": ",", ";": ";", "\t": "tab", "|": "|"}  # in the order tried → readable names
MANY_LINES = 10  # a cell of so many lines is noted, since an unclosed quote swallows rows
MOST_NOTES = 3  # of such cells, for one file
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
        codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# a cell that only a writer that quotes would write: in quotes, with a doubled one inside
DOUBLED = re.compile(r'(?:^|\t)"(?:[^"\t]|"")*""(?:[^"\t]|"")*"(?=\t|\r?$)', re.MULTILINE)


@dataclass(frozen=True)
class Table:
    """Rows as they were read.

    Parameters
    ----------
    name : str
        Where they came from, for notes.
    columns : dict of str to list
        Each column's values under its name.
    classes : dict of str to list of str
        Names of the classes 0, 1, … of a label column.
    notes : list of Note
        What is odd about the file.
    repeated : dict of str to list of int
        Numbers, from 1, of the columns that share a name.
    """

    name: str
    columns: dict[str, list]
    classes: dict[str, list[str]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    repeated: dict[str, list[int]] = field(default_factory=dict)


def arrow_table(path: Path, most_bytes: int) -> Any:
    """Return a Parquet file of at most MOST_ROWS rows and so many bytes, unpacked, as a pyarrow.Table.

    Raises MonjuError for a larger one, before anything of it is unpacked.
    """
    import pyarrow.parquet

    with open(path, "rb") as file:  # a file, not a path: pyarrow reads columns and addresses out of paths
        parquet = pyarrow.parquet.ParquetFile(file)
        metadata = parquet.metadata
        unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        if metadata.num_rows > MOST_ROWS or unpacked > most_bytes:
            raise refusal("too_large", path=str(path), rows=MOST_ROWS, gb=most_bytes >> 30)
        return parquet.read()


def read_parquet(path: Path) -> Table:
    """Read a Parquet file."""
    table = arrow_table(path, MOST_BYTES)
    return Table(path.name, dict(zip(table.column_names, (column.to_pylist() for column in table.columns))),
                 class_names(table.schema), repeated=repeated(table.column_names))


def class_names(schema: Any) -> dict[str, list[str]]:
    """Return {column: the names of its classes} of an Arrow schema that `datasets` wrote."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    import datasets

    try:
        features = datasets.Features.from_arrow_schema(schema)
    except Exception:  # of a version that writes otherwise: the numbers stand without names
        return {}
    return {column: kind.names for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)}


def read_json(path: Path) -> Table:
    """Read one object a line, or one array of objects."""
    text = decoded(path)
    rows: list[dict] = []
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text, object_pairs_hook=unrepeated)
        except (ValueError, RecursionError) as error:
            raise refusal("not_json", path=str(path), line=getattr(error, "lineno", 1),
                          why=first_line(error)) from None
        if odd := next((number for number, row in enumerate(rows, 1) if not isinstance(row, dict)), None):
            raise refusal("no_object", path=str(path), place=f"item {odd}")
    else:
        for number, line in enumerate(text.split("\n"), 1):
            try:
                rows += [json.loads(line, object_pairs_hook=unrepeated)] if line.strip() else []
            except (ValueError, RecursionError) as error:
                raise refusal("not_json", path=str(path), line=number, why=first_line(error)) from None
            if rows and not isinstance(rows[-1], dict):
                raise refusal("no_object", path=str(path), place=f"line {number}")
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(path.name, {name: [row.get(name) for row in rows] for name in names})


def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's pairs as a dictionary. Raises ValueError for a name that comes twice."""
    if twice := next(iter(repeated([name for name, _ in pairs])), None):
        raise ValueError(f"an object has the name {twice!r} twice")
    return dict(pairs)


def read_csv(path: Path) -> Table:
    """Read columns separated by comma, semicolon, tab or bar, quoted as in RFC 4180; `sep=;` decides."""
    text = decoded(path)
    if declared := re.match(r"sep=(.)\r?\n", text):
        return of_rows(path, separated(path, text[declared.end():], declared[1], 1), [])
    single: list[tuple[int, list[str]]] | None = None  # rows of one column: taken if no separator finds more
    error = None
    for separator, name in SEPARATORS.items():
        try:
            rows = separated(path, text, separator)
        except MonjuError as problem:
            error = error or problem
            continue
        if rows and len(rows[0][1]) > 1:
            note = Note("separator", {"table": path.name, "separator": name})
            return of_rows(path, rows, [note] if separator != "," else [])
        single = rows if single is None and error is None else single
    if single is None and error:
        raise error
    return of_rows(path, single or [], [])


def read_tsv(path: Path) -> Table:
    """Read columns separated by tabs.

    Quotes are characters, as GLUE has them, unless the file quotes cells and doubles the quotes inside, as
    pandas and R do.
    """
    text = decoded(path)
    if text.startswith('"') or DOUBLED.search(text):
        try:
            return of_rows(path, separated(path, text, "\t"), [])
        except MonjuError:
            pass  # not quoted throughout: characters, then
    return of_rows(path, separated(path, text, "\t", quoting=csv.QUOTE_NONE), [])


def separated(path: Path, text: str, separator: str, skipped: int = 0, **dialect: Any
              ) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty, the header first, each with the number of its first line."""
    csv.field_size_limit(2**31 - 1)  # for the whole process; the module's own limit is 131,072 characters
    reader = csv.reader(Lines(text), strict=True, delimiter=separator, **dialect)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for row in reader:
            if row and rows and len(row) != len(rows[0][1]):
                raise csv.Error(f"{len(row)} fields where the header has {len(rows[0][1])}")
            if row:
                rows.append((line + skipped, row))
            line = reader.line_num + 1
    except csv.Error as error:
        raise refusal("broken_line", path=str(path), line=reader.line_num + skipped, why=str(error)) from None
    return rows


class Lines:
    """A text's lines with their ends, cut at line breaks alone (`str.splitlines` also cuts at form feeds)."""

    def __init__(self, text: str):
        self.matches = re.finditer(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text)

    def __iter__(self) -> Iterator[str]:
        return (line[0] for line in self.matches)


def of_rows(path: Path, rows: list[tuple[int, list[str]]], notes: list[Note]) -> Table:
    """Return numbered rows, the header first, as a Table; note cells that may have swallowed rows."""
    header, body = rows[0][1] if rows else [], rows[1:]
    edges = [{row[at] for _, row in body if "\n" not in row[at]} for at in (0, -1)] if len(header) > 1 else []
    for line, row in body:
        for cell in row:
            n = cell.count("\n") + 1
            if n > 1 and (n >= MANY_LINES or swallows(cell.split("\n")[1:], edges)):
                notes = [*notes, Note("spanning_cell", {"table": path.name, "n": n, "line": line})]
    columns: dict[str, list] = {name: [] for name in header}
    if body:
        columns = dict(zip(header, map(list, zip(*(row for _, row in body)))))
    return Table(path.name, columns, notes=notes[:MOST_NOTES], repeated=repeated(header))


def swallows(lines: Iterable[str], edges: Sequence[set[str]]) -> bool:
    """Return whether two or more lines of a cell look like rows: an outer field is one of the table's own."""
    rows = [fields for line in lines if len(fields := re.split(r"[,;\t|]", line.strip())) > 1]
    return sum(any(row[at] in known for at, known in zip((0, -1), edges)) for row in rows) > 1


def repeated(names: Iterable[str]) -> dict[str, list[int]]:
    """Return the names that come more than once with their numbers, from 1."""
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(names, 1):
        numbers.setdefault(name, []).append(number)
    return {name: of_name for name, of_name in numbers.items() if len(of_name) > 1}


def decoded(path: Path) -> str:
    """Return a file's text in UTF-8, or as its byte-order mark says. Raises MonjuError for any other."""
    content = path.read_bytes()
    encoding = next((encoding for mark, encoding in BOMS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise refusal("not_utf8", path=str(path)) from None


READERS = {".parquet": read_parquet, ".csv": read_csv, ".tsv": read_tsv,
           ".jsonl": read_json, ".json": read_json}


def read_table(path: Path) -> Table:
    """Read a file with the reader of its extension. Raises MonjuError if it is unreadable or has no rows."""
    kind = path.suffix.lower()
    if kind not in READERS:
        raise refusal("unknown_kind", path=str(path), kinds=", ".join(READERS))
    try:
        table = READERS[kind](path)
    except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's own errors are of these kinds
        raise refusal("unreadable", path=str(path), kind=kind[1:], why=first_line(error)) from None
    if not any(table.columns.values()):
        raise refusal("no_rows", path=str(path))
    return table


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, else its type's name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?\s*%?", re.IGNORECASE | re.ASCII)


def no_formula(value: Any) -> Any:
    """Return a cell that no spreadsheet runs: text that looks like a formula gets an apostrophe."""
    runs = isinstance(value, str) and (value.lstrip()[:1] in tuple("=+-@") or value[:1] in tuple("\t\r"))
    return f"'{value}" if runs and not NUMBER.fullmatch(value.strip()) else value
