"""The sentences of a run: it stores none, so they are read again from its own source, as its training read them.

What is read counts only where its fingerprint is the run's: other sentences are never shown as the run's own.
"""

from dataclasses import replace
from pathlib import Path

from monju import sources
from monju.cache import Cache
from monju.errors import MonjuError

_read = Cache(2)  # fingerprint → Data, of the runs whose sentences stay in memory


def recall(run):
    """The sentences that a run was trained on and checked with, as `sources.Data`. Raises MonjuError where they cannot be had."""
    fingerprint = run.manifest["data"]["fingerprint"]
    return _read.get(fingerprint, lambda: read_again(run, fingerprint))


def read_again(run, fingerprint, given=None):
    """`recall` without its memory: the run's source (or the one that is given), else the named source of the same name
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
