"""Documents: running texts without labels, for language models → the same `Data` as of labelled sentences.

A text file holds paragraphs, a folder of text files documents; of any other source one column is read, and
its labels are not. Knows nothing of models or clusters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from monju.data.named import VALIDATION_STEMS, Parts, Source, called, open_source, unread
from monju.data.notes import Note, refusal
from monju.data.readers import Table, decoded
from monju.data.rows import TEXT_COLUMNS, Rows, find_column, plain, read_alike
from monju.data.splits import split, stratified, without_overlap

LINE_BREAK = re.compile(r"<br\s*/?>|\r\n?", re.IGNORECASE)
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # all but tabs and line ends
PARAGRAPHS = re.compile(r"\n[ \t]*\n\s*")


def load_parts(sources: Sequence[str], text_column: str | None, keep_overlap: bool, sample: int | None,
               held_out: int | None, seed: int, notes: list[Note]) -> tuple[Rows, Rows, int]:
    """Read documents of one source, or of several joined ones, each a domain.

    Parameters
    ----------
    sources : sequence of str
        Names, files, folders or hub datasets.
    text_column : str, optional
        The column of the documents; by default found by its usual names.
    keep_overlap : bool
        Keep training documents that also stand in the held-out part.
    sample, held_out : int, optional
        Numbers of documents to train and to measure on; by default all.
    seed : int
        Seed of the training sample. The held-out documents are the same for every run.
    notes : list of Note
        Takes what was found and dropped.

    Returns
    -------
    train, validation : Rows
        Without labels: each is 0.
    overlap : int
        Number of training documents that also stand in the held-out part.

    Raises
    ------
    MonjuError
        For a source that cannot be read, and one with too few documents.
    """
    parts = [documents_of(source, text_column, notes, domain=source if len(sources) > 1 else None)
             for source in sources]
    train, validation = (under([part[i] for part in parts]) for i in (0, 1))
    train, overlap = without_overlap(train, validation, keep_overlap, notes)
    if not train.texts:
        raise refusal("nothing_left", source=" + ".join(map(called, sources)))
    if sample is not None:
        total = len(train.texts)
        train = train.take(stratified(train.labels, min(sample, total), seed))
        notes.append(Note("sample_documents", {"n": len(train.texts), "total": total}))
    if held_out is not None and held_out < len(validation.texts):
        total = len(validation.texts)
        validation = validation.take(stratified(validation.labels, held_out, 0))
        notes.append(Note("held_out_documents", {"n": held_out, "total": total}))
    return train, validation, overlap


def documents_of(source: Source, text_column: str | None, notes: list[Note],
                 domain: str | None) -> tuple[Rows, Rows]:
    """Return a source's training and held-out documents; a tenth is held out where it has no such part."""
    parts = open_texts(source)
    notes += unread(parts)
    if parts.train is None:
        raise refusal("no_train", source=called(source))
    train, *rest = (documents(table, text_column, notes, domain)
                    for table in (parts.train, parts.validation) if table)
    if rest:
        return train, rest[0]
    if len(train.texts) < 2:
        raise refusal("few_documents", source=called(source), n=len(train.texts))
    kept, held_out = split(train.labels)
    notes.append(Note("held_out", {"source": called(source), "n": len(held_out)}))
    return train.take(kept), train.take(held_out)


def open_texts(source: Source) -> Parts:
    """Open a source as `open_source` does, and text files besides."""
    path = Path(os.path.expanduser(source))
    if path.is_file() and path.suffix.lower() == ".txt":
        return Parts(text_table([path]))
    files = sorted(path.glob("*.txt")) if path.is_dir() and os.fspath(source) else []
    if not files:
        return open_source(source)
    by_stem = {file.stem.lower(): file for file in files}
    held_out = next((by_stem[stem] for stem in VALIDATION_STEMS if stem in by_stem), None)
    if "train" in by_stem:
        return Parts(text_table([by_stem["train"]]), None if held_out is None else text_table([held_out]))
    return Parts(text_table(files))


def text_table(files: Sequence[Path]) -> Table:
    """Return text files as a table: of several each a document, of a single one its paragraphs or lines."""
    texts = [decoded(file) for file in files]
    if len(files) > 1:
        return Table(files[0].parent.name, {"text": texts})
    whole = LINE_BREAK.sub("\n", texts[0]).strip()
    found = PARAGRAPHS.split(whole)
    return Table(files[0].name, {"text": found if len(found) > 1 else whole.split("\n")})


def documents(table: Table, text_column: str | None, notes: list[Note], domain: str | None) -> Rows:
    """Return a table's documents, cleaned, each once. Raises MonjuError where there is none."""
    notes.extend(table.notes)
    column = find_column(table, text_column, TEXT_COLUMNS, "--text-column", notes)
    cells = [clean(plain(value, table, column)) for value in table.columns[column]]
    found = list({read_alike(text): text for text in reversed(cells) if text}.values())[::-1]
    notes.append(Note("documents", {"table": table.name, "n": len(found), "text": column}))
    if (dropped := len(cells) - len(found)):
        notes.append(Note("documents_dropped", {"table": table.name, "n": dropped}))
    if not found:
        raise refusal("no_documents", table=table.name)
    return Rows(found, [0] * len(found), {}, [domain] * len(found) if domain else None)


def clean(text: str) -> str:
    """Return a text with plain line ends and without control characters."""
    return UNPRINTABLE.sub(" ", LINE_BREAK.sub("\n", text)).strip()


def under(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several sources, one under the other."""
    texts = [text for part in parts for text in part.texts]
    domains = [name for part in parts for name in part.domains or []]
    return Rows(texts, [0] * len(texts), {}, domains or None)
