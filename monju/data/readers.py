"""Readers: a file of rows → its columns, whatever its kind; what is odd about it is noted, what is wrong with it refused.

Knows nothing of sentences or labels. A new kind of file is one reader and one line in READERS.
"""

import codecs
import csv
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from monju.data.notes import Note, refusal
from monju.errors import MonjuError

MOST_ROWS, MOST_BYTES = 10_000_000, 4 << 30  # of a Parquet file, unpacked: a small one may hold any number
SEPARATORS = {",": ",", ";": ";", "\t": "tab", "|": "|"}  # in the order in which they are tried → their names for people
MANY_LINES, MOST_NOTES = 10, 3  # a cell of so many lines is noted, since an unclosed quote swallows rows; so many times at most
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
        codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# a cell that only a writer that quotes would write: in quotes, with a doubled one inside
DOUBLED = re.compile(r'(?:^|\t)"(?:[^"\t]|"")*""(?:[^"\t]|"")*"(?=\t|\r?$)', re.MULTILINE)


@dataclass(frozen=True)
class Table:
    """Rows as they were read: `columns` maps a name to its values; `name` says in notes where they came from."""

    name: str
    columns: dict[str, list]
    classes: dict[str, list[str]] = field(default_factory=dict)  # label column → names of its classes 0, 1, …
    notes: list[Note] = field(default_factory=list)
    repeated: dict[str, list[int]] = field(default_factory=dict)  # a name that several columns have → their numbers, from 1


def read_parquet(path: Path) -> Table:
    import pyarrow.parquet

    with open(path, "rb") as file:  # a file, not a path: pyarrow reads columns and addresses out of paths
        parquet = pyarrow.parquet.ParquetFile(file)
        told = parquet.metadata
        if told.num_rows > MOST_ROWS or sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups)) > MOST_BYTES:
            raise refusal("too_large", path=str(path), rows=MOST_ROWS, gb=MOST_BYTES >> 30)
        table = parquet.read()
    return Table(path.name, dict(zip(table.column_names, (column.to_pylist() for column in table.columns))),
                 class_names(table.schema), repeated=repeated(table.column_names))


def class_names(schema) -> dict[str, list[str]]:
    """{column: the names of its classes} of an Arrow schema that `datasets` wrote."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    import datasets

    try:
        features = datasets.Features.from_arrow_schema(schema)
    except Exception:  # of a version that writes otherwise: the numbers stand without names
        return {}
    return {column: kind.names for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)}


def read_json(path: Path) -> Table:
    """One object a line, or one array of objects."""
    text, rows = decoded(path), []
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text, object_pairs_hook=unrepeated)
        except (ValueError, RecursionError) as error:
            raise refusal("not_json", path=str(path), line=getattr(error, "lineno", 1), why=first_line(error)) from None
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
    return Table(path.name, {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)})


def unrepeated(pairs):
    """A JSON object's pairs as a dictionary. Raises ValueError for a name that comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"an object has the name {next(name for name in repeated([name for name, _ in pairs]))!r} twice")
    return found


def read_csv(path: Path) -> Table:
    """Comma, semicolon, tab or bar between columns; quotes as RFC 4180 has them; a spreadsheet's first line `sep=;` is obeyed."""
    text, notes = decoded(path), []
    told = re.match(r"sep=(.)\r?\n", text)
    if told:
        rows = separated(path, text[told.end():], told[1], 1)
    else:
        rows, error = None, None
        for separator in SEPARATORS:
            try:
                found = separated(path, text, separator)
            except MonjuError as problem:
                error = error or problem
                continue
            if found and len(found[0][1]) > 1:
                rows = found
                notes += [Note("separator", {"table": path.name, "separator": SEPARATORS[separator]})] if separator != "," else []
                break
            rows = found if rows is None and error is None else rows  # a single column, unless another separator finds more
        if rows is None:
            raise error
    return of_rows(path, rows, notes)


def read_tsv(path: Path) -> Table:
    """Tabs between columns. GLUE's quotes are characters like any other; pandas and R quote a cell and double the quotes inside."""
    text = decoded(path)
    if text.startswith('"') or DOUBLED.search(text):
        try:
            return of_rows(path, separated(path, text, "\t"), [])
        except MonjuError:
            pass  # not quoted throughout: characters, then
    return of_rows(path, separated(path, text, "\t", quoting=csv.QUOTE_NONE), [])


def separated(path, text, separator, skipped=0, **dialect) -> list[tuple[int, list[str]]]:
    """The rows of a text that are not empty, the header first, each with the number of its first line in the file."""
    csv.field_size_limit(2**31 - 1)  # the module's own limit is 131,072 characters a field, for the whole process
    reader, rows, line = csv.reader(Lines(text), strict=True, delimiter=separator, **dialect), [], 1
    try:
        for row in reader:
            if row and rows and len(row) != len(rows[0][1]):
                raise csv.Error(f"{len(row)} fields where the header has {len(rows[0][1])}")
            rows += [(line + skipped, row)] if row else []
            line = reader.line_num + 1
    except csv.Error as error:
        raise refusal("broken_line", path=str(path), line=reader.line_num + skipped, why=str(error)) from None
    return rows


class Lines:
    """A text's lines with their ends, cut at line breaks alone (`str.splitlines` cuts at form feeds and the like, too)."""

    def __init__(self, text):
        self.found = re.finditer(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text)

    def __iter__(self):
        return (line[0] for line in self.found)


def of_rows(path, rows, notes) -> Table:
    """Rows with their line numbers, the header first → a Table; cells that may have swallowed rows are noted."""
    header, body = rows[0][1] if rows else [], rows[1:]
    edges = [{row[at] for _, row in body if "\n" not in row[at]} for at in (0, -1)] if len(header) > 1 else []
    for line, row in body:
        for cell in row:
            if "\n" in cell and ((n := cell.count("\n") + 1) >= MANY_LINES or swallows(cell.split("\n")[1:], edges)):
                notes = [*notes, Note("spanning_cell", {"table": path.name, "n": n, "line": line})]
    columns = dict(zip(header, map(list, zip(*(row for _, row in body))))) if body else {name: [] for name in header}
    return Table(path.name, columns, notes=notes[:MOST_NOTES], repeated=repeated(header))


def swallows(lines, edges) -> bool:
    """Whether two lines of a cell or more look like rows: their first or last field is one of the table's own."""
    fields = [re.split(r"[,;\t|]", line.strip()) for line in lines]
    return sum(len(row) > 1 and any(row[at] in known for at, known in zip((0, -1), edges)) for row in fields) > 1


def repeated(names) -> dict[str, list[int]]:
    """The names that come more than once → where, from 1."""
    places = {}
    for number, name in enumerate(names, 1):
        places.setdefault(name, []).append(number)
    return {name: found for name, found in places.items() if len(found) > 1}


def decoded(path: Path) -> str:
    """A file's text in UTF-8, or as its byte-order mark says. Raises MonjuError for any other encoding."""
    content = path.read_bytes()
    encoding = next((encoding for mark, encoding in BOMS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise refusal("not_utf8", path=str(path)) from None


READERS = {".parquet": read_parquet, ".csv": read_csv, ".tsv": read_tsv, ".jsonl": read_json, ".json": read_json}


def read_table(path: Path) -> Table:
    """A file's columns, by the reader of its extension; MonjuError for one that cannot be read or holds no rows."""
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


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?\s*%?", re.IGNORECASE | re.ASCII)


def no_formula(value):
    """A cell as a spreadsheet may have it: text that it would run as a formula starts with an apostrophe; a number stays one."""
    runs = isinstance(value, str) and (value.lstrip()[:1] in tuple("=+-@") or value[:1] in tuple("\t\r"))
    return f"'{value}" if runs and not NUMBER.fullmatch(value.strip()) else value
