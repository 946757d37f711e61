"""Prefetch: keeps what finished runs read from elsewhere, for a start without a network.

Backbones and sentences stay where the hub's library, or the project's cache, keeps them. Knows nothing of
what they are used for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import transformers

from monju.clustering import embedders
from monju.data import hub
from monju.errors import MonjuError
from monju.models import backbones
from monju.runs.run import AnyPath, Run
from monju.runs.run_data import load_run_data


def prefetch(paths: Iterable[AnyPath]) -> Iterator[tuple[str, bool]]:
    """Fetch what each run needs and this machine lacks.

    Parameters
    ----------
    paths : iterable of str or path
        Folders of finished runs.

    Yields
    ------
    text : str
        What is kept, where, and how large; or what is missing and how to get it.
    kept : bool
        Whether it is kept.
    """
    for path in paths:
        try:
            run = Run.open(path)
        except MonjuError as error:
            yield f"{error}.", False
            continue
        embedder = embedders.TABLE[run.config.embedder](run.config)
        names = [*run.config.all_backbones, *filter(None, [getattr(embedder, "name", None)])]
        for name in dict.fromkeys(map(backbones.hub_name, names)):
            try:
                folder = keep_backbone(name)
                yield f"{run.path.name}: the backbone {name} is in {sized(folder)}.", True
            except MonjuError as error:
                yield f"{run.path.name}: {error}.", False
        try:
            yield f"{run.path.name}: {kept_sentences(run)}.", True
        except MonjuError as error:
            yield f"{run.path.name}: its sentences are missing: {way_out(error, run.path)}.", False


def keep_backbone(name: str) -> Path:
    """Return the folder that holds a backbone, fetched if need be. Raises MonjuError where it is not had."""
    found = backbones.locate(name)
    if os.path.isdir(found):
        return Path(found)
    if not hub.cached(name):
        # just the files that a run will ask for
        backbones.tokenizer(name)
        backbones.from_pretrained(transformers.AutoModel, name)
    return hub.model_folder(name)


def kept_sentences(run: Run) -> str:
    """Return what is kept of a run's sentences, read if need be. Raises MonjuError where they cannot be."""
    data = load_run_data(run)
    told = f"its {len(data.texts):,} sentences ({run.config.data}) are in"
    tables = [note.values["table"].rpartition(" (")[0] for note in data.notes if note.code == "rows"]
    folders = [folder for name in dict.fromkeys(tables) if (folder := hub.dataset_folder(name)).is_dir()]
    return f"{told} {' and '.join(map(sized, folders))}" if folders else f"{told} files or packages here"


def way_out(error: MonjuError, path: Path) -> str:
    """Return why a run's sentences are missing and how to get them."""
    if getattr(error.note, "code", "") != "hub_unreachable":
        return str(error)
    return ("the Hugging Face hub cannot be reached: connect to the network, then run "
            f"`python -m monju prefetch {path}`")


def sized(folder: Path) -> str:
    """Return a folder's path and size; what links lead to inside it counts once."""
    files = {file.resolve() for file in folder.rglob("*") if file.is_file()}
    return f"{folder} ({sum(file.stat().st_size for file in files) / 1e6:,.1f} MB)"
