"""Tables: a file of rows → its columns, whatever its kind; what is wrong with it told in one sentence.

Knows nothing of sentences or labels. A new kind of file is one reader and one line in READERS.
"""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

from monju.errors import MonjuError

MOST_ROWS, MOST_BYTES = 10_000_000, 4 << 30  # of a Parquet file, unpacked: a small one may hold any number


@dataclass(frozen=True)
class Table:
    """Rows as they were read: `columns` maps a name to its values; `name` says in notes where they came from."""

    name: str
    columns: dict[str, list]
    classes: dict[str, list[str]] = field(default_factory=dict)  # label column → names of its classes 0, 1, …



def read_parquet(path: Path) -> dict[str, list]:
    import pyarrow.parquet

    with open(path, "rb") as file:  # a file, not a path: pyarrow reads columns and addresses out of paths
        parquet = pyarrow.parquet.ParquetFile(file)
        told = parquet.metadata
        if told.num_rows > MOST_ROWS or sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups)) > MOST_BYTES:
            raise MonjuError(f"{path} unpacks to more than {MOST_ROWS:,} rows or {MOST_BYTES >> 30} GB: give a part of it")
        return parquet.read().to_pydict()


def read_jsonl(path: Path) -> dict[str, list]:
    rows = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            try:
                rows += [json.loads(line)] if line.strip() else []
            except (ValueError, RecursionError) as error:
                raise MonjuError(f"{path}, line {number} is not JSON ({first_line(error)}): "
                                 "put one object on each line") from None
            if rows and not isinstance(rows[-1], dict):
                raise MonjuError(f"{path}, line {number} is not a JSON object: put one object on each line")
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def read_csv(path: Path, **dialect) -> dict[str, list]:
    csv.field_size_limit(2**31 - 1)  # the module's own limit is 131,072 characters a field, for the whole process
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True, **dialect)
        try:
            header = next(reader, [])
            rows = []
            for row in reader:
                if row and len(row) != len(header):
                    raise csv.Error(f"{len(row)} fields where the header has {len(header)}")
                rows += [row] if row else []
        except csv.Error as error:
            raise MonjuError(f"{path}, line {reader.line_num} is broken ({error}): mend it") from None
    return dict(zip(header, map(list, zip(*rows)))) if rows else {name: [] for name in header}


def read_tsv(path: Path) -> dict[str, list]:
    return read_csv(path, delimiter="\t", quoting=csv.QUOTE_NONE)  # GLUE's: a stray " is a character like any other


READERS = {".parquet": read_parquet, ".csv": read_csv, ".tsv": read_tsv, ".jsonl": read_jsonl, ".json": read_jsonl}


def read_table(path: Path) -> Table:
    """A file's columns, by the reader of its extension; MonjuError for one that cannot be read or holds no rows."""
    kind = path.suffix.lower()
    if kind not in READERS:
        raise MonjuError(f"{path} is of a kind that is not read here: give one of {', '.join(READERS)}")
    try:
        columns = READERS[kind](path)
    except UnicodeDecodeError:
        raise MonjuError(f"{path} is not UTF-8: save it in that encoding") from None
    except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's own errors are of these kinds
        raise MonjuError(f"{path} cannot be read as {kind[1:]} ({first_line(error)}): "
                         "give a whole file of that kind") from None
    if not any(columns.values()):
        raise MonjuError(f"{path} holds no rows: give a file with a header and labelled sentences")
    return Table(path.name, columns)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def no_formula(value):
    """A cell as a spreadsheet may have it: text that it would run as a formula starts with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in tuple("=+-@\t\r") else value
