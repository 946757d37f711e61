"""The sentences of a run: it stores none, so they are read again from its own source, as its training read them.

What is read counts only where its fingerprint is the run's: other sentences are never shown as the run's own.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from monju.data import sources
from monju.data.notes import Note, refusal
from monju.data.rows import Split, read_alike, twins
from monju.errors import MonjuError
from monju.utils.cache import Cache

_read = Cache(2)  # fingerprint → Data, of the runs whose sentences stay in memory


def load_run_data(run):
    """The sentences that a run was trained on and checked with, as `sources.Data`. Raises MonjuError where they cannot be had."""
    fingerprint = run.manifest["data"]["fingerprint"]
    return _read.get(fingerprint, lambda: read_again(run, fingerprint))


def read_again(run, fingerprint, given=None):
    """`load_run_data` without its memory: the run's source (or the one that is given), else the named source of the same name
    where the path is gone."""
    config, errors = run.config, []
    for source in [given] if given else dict.fromkeys((config.data, Path(config.data).name)):
        if source not in (given, config.data, *sources.SOURCES):
            continue
        try:
            data = sources.load_for(replace(config, data=source))
        except MonjuError as error:
            errors.append(error)
            continue
        if data.fingerprint == fingerprint:
            return data
        errors.append(MonjuError(f"{source} no longer holds the sentences that the run was trained on: bring the same data back"))
    raise errors[0]


def evaluation_data(run, source, *, text_column=None, label_column=None, keep_trained=False):
    """Labelled sentences to evaluate a run on, none of which it trained on: (Split, notes on what was read and left out).

    Of the run's own source they are its held-out part. Of any other, sentences that the run trained on, as a model reads them, are
    left out; with `keep_trained` they stay and are counted. Raises MonjuError for what cannot be read, and where nothing is left.
    """
    from monju.models import backbones  # here, since torch comes with it

    own = own_data(run, source)
    if own and not keep_trained:
        split, notes = own.validation, [Note("own_source", {"n": len(own.validation.texts)}), *twins(own.validation.texts)]
    else:
        notes = []
        split = sources.load_labelled(source, run.manifest["data"]["labels"], run.manifest["data"]["label_names"],
                                      text_column=text_column, label_column=label_column, notes=notes)
        split = without_trained(run, own, split, source, keep_trained, notes)
    return split, notes + backbones.token_notes(run.config.all_backbones, split.texts, run.config.max_tokens)


def own_data(run, source):
    """The run's Data, where the source holds just that; else None."""
    try:
        return read_again(run, run.manifest["data"]["fingerprint"], source)
    except MonjuError:
        return None


def without_trained(run, own, split, source, keep, notes):
    """The sentences that the run did not train on (all of them with `keep`); how many there are is noted."""
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
