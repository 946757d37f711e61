"""The sentences of a run. It stores none: they are read again from its source, as its training read them.

Data are the run's own only where their fingerprint is the run's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from monju.data import named, sources
from monju.data.notes import Note, refusal
from monju.data.rows import Split, read_alike, twins
from monju.errors import MonjuError
from monju.runs.run import Run
from monju.utils.cache import Cache

_read = Cache(2)  # fingerprint → Data


def load_run_data(run: Run) -> sources.Data:
    """Return the data that a run was trained and evaluated on, cached. Raises MonjuError if they are gone."""
    fingerprint = run.manifest["data"]["fingerprint"]
    return _read.get(fingerprint, lambda: read_again(run, fingerprint))


def read_again(run: Run, fingerprint: str, given: sources.Source | None = None) -> sources.Data:
    """Read a run's data from its source or a given one; where its path is gone, from the source so named."""
    config, errors = run.config, []
    for source in [given] if given else dict.fromkeys((config.data, Path(config.data).name)):
        if source not in (given, config.data, *named.SOURCES):
            continue
        try:
            data = sources.load_for(replace(config, data=str(source)))
        except MonjuError as error:
            errors.append(error)
            continue
        if data.fingerprint == fingerprint:
            return data
        errors.append(MonjuError(f"{source} no longer holds the sentences that the run was trained on: "
                                 "bring the same data back"))
    raise errors[0]


def is_named(run: Run) -> bool:
    """Return whether a run's source is known by a name, not a file that must be brought."""
    source = run.config.data
    return all(name in named.SOURCES or Path(name).name in named.SOURCES or named.is_hub_id(name)
               for name in sources.joined(source) or [source])


def evaluation_data(run: Run, source: sources.Source, *, text_column: str | None = None,
                    label_column: str | None = None, keep_trained: bool = False) -> tuple[Split, list[Note]]:
    """Return labelled sentences to evaluate a run on, none of which it trained on, and notes.

    Of the run's own source they are its held-out part. Of any other, sentences that the run trained on (in
    the normal form of `read_alike`) are left out, or kept and counted with `keep_trained`. Raises MonjuError
    for a source that cannot be read, and where nothing is left.
    """
    from monju.models import backbones  # here, since torch comes with it

    own = own_data(run, source)
    if own and not keep_trained:
        split = own.validation
        notes = [Note("own_source", {"n": len(split.texts)}), *twins(split.texts)]
    else:
        notes = []
        labels, names = run.manifest["data"]["labels"], run.manifest["data"]["label_names"]
        split = sources.load_labelled(source, labels, names, text_column=text_column,
                                      label_column=label_column, notes=notes)
        split = without_trained(run, own, split, source, keep_trained, notes)
    return split, notes + backbones.token_notes(run.config.all_backbones, split.texts, run.config.max_tokens)


def held_out_documents(run: Run, source: sources.Source | None = None, text_column: str | None = None,
                       keep_trained: bool = False) -> tuple[Split, list[Note]]:
    """Return documents to measure language models on, and notes: by default the run's own held-out ones.

    Of another source, documents that the run trained on are left out, or kept and counted with
    `keep_trained`. Raises MonjuError for a source that cannot be read, and where nothing is left.
    """
    own = own_data(run, run.config.data if source is None else source)
    if source is None and own is None:
        return load_run_data(run).validation, []  # raises, and says why
    if own:
        return own.validation, [Note("own_documents", {"n": len(own.validation.texts)})]
    config = replace(run.config, data=str(source), text_column=text_column, sample=None)
    data = sources.load_documents(config)
    split = without_trained(run, None, data.validation, str(source), keep_trained, data.notes)
    return split, data.notes


def own_data(run: Run, source: sources.Source) -> sources.Data | None:
    """Return the run's data where the source holds exactly them; else None."""
    try:
        return read_again(run, run.manifest["data"]["fingerprint"], source)
    except MonjuError:
        return None


def without_trained(run: Run, own: sources.Data | None, split: Split, source: sources.Source, keep: bool,
                    notes: list[Note]) -> Split:
    """Drop sentences that the run trained on, unless `keep`; note their number."""
    try:
        data = own or load_run_data(run)
    except MonjuError:
        notes.append(Note("trained_unknown"))
        return split
    trained = {read_alike(text) for part in (data.train, data.tuning) if part for text in part.texts}
    fresh = np.array([read_alike(text) not in trained for text in split.texts])
    n, total = int((~fresh).sum()), len(fresh)
    if n and keep:
        notes.append(Note("trained_kept", {"n": n, "total": total}))
    elif n == total:
        raise refusal("all_trained", n=n, source=sources.called(source))
    elif n:
        notes.append(Note("trained_left_out", {"n": n, "total": total}))
        return Split([text for text, here in zip(split.texts, fresh) if here], split.labels[fresh])
    return split
