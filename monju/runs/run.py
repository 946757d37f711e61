"""The run folder: write, read, check.

Writes are atomic (temporary name, fsync, rename). The manifest run.json is written first with the status
"training", and last with the size and SHA-256 of every other file: a reader sees a whole run or a clear
error. No pickle anywhere.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from monju.config import Config
from monju.errors import MonjuError
from monju.runs import schema
from monju.utils import locks
from monju.utils.files import digest, write

FORMAT = 1
CHANGE = ".change"  # in a run: the whole run as it is to be, while its files are moved to their places
UNLISTED = ("run.json", "README.md")  # files that the manifest does not list
AnyPath = str | os.PathLike[str]


class Run:
    """One run folder. Open one with `Run.open`, make one with `Run.create`.

    Parameters
    ----------
    path : str or path
        The folder.
    manifest : dict
        Its run.json: `config`, `status` ("training" or "finished"), `data`, `models`, finally `files`.

    Examples
    --------
    >>> run = Run.open("trained/sst2-minilm")
    >>> run.finished, run.manifest["models"]["experts"]
    (True, ['AB', 'BC', 'CA'])
    """

    def __init__(self, path: AnyPath, manifest: dict[str, Any]):
        self.path, self.manifest = Path(path), manifest

    @classmethod
    def create(cls, path: AnyPath, config: Config, **facts: Any) -> Run:
        """Make a new, unfinished run in an empty or new folder.

        Parameters
        ----------
        path : str or path
            The folder.
        config : Config
            The run's settings.
        **facts
            More entries of the manifest.

        Returns
        -------
        Run
            The run, its manifest written.

        Raises
        ------
        MonjuError
            Where the folder holds something or cannot be written.
        """
        path = Path(path)
        refuse_taken(path)
        run = cls(path, {"format": FORMAT, "status": "training", "config": config.to_json(), **facts})
        try:
            path.mkdir(parents=True, exist_ok=True)
            run.write_manifest()
        except OSError as error:
            raise MonjuError(f"the run folder {path} cannot be written ({error.strerror}): "
                             "choose another --out") from None
        return run

    @classmethod
    def open(cls, path: AnyPath) -> Run:
        """Open the run in a folder, finished or not, by reading its manifest.

        Parameters
        ----------
        path : str or path
            The folder.

        Returns
        -------
        Run
            The run; `check` compares its files with the manifest.

        Raises
        ------
        MonjuError
            Where there is no run, its manifest is damaged, or its format is another.
        """
        path = Path(path)
        if not os.path.isdir(path):
            raise MonjuError(f"there is no run folder {path}: train one with `{command(path)}`")
        finish_change(path)
        try:
            manifest = schema.read_value(path / "run.json")
            if manifest["format"] != FORMAT:
                raise MonjuError(f"written in format {repr(manifest['format'])[:40]}, and this Monju reads "
                                 f"{FORMAT}: train the run again")
            Config.from_json(manifest["config"])
            schema.Manifest.model_validate(manifest)
        except MonjuError as error:
            raise MonjuError(f"{path / 'run.json'}: {error}") from None
        except FileNotFoundError:
            raise MonjuError(f"{path} is not a run folder (it has no run.json): "
                             "name a folder that `train` wrote") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise damaged(path / "run.json") from None
        return cls(path, manifest)

    @classmethod
    @contextmanager
    def changing(cls, path: AnyPath) -> Iterator[Run]:
        """Open a finished run that `replacing` is to change, locked until the block ends.

        Raises MonjuError for a run that is not whole, or is in use.
        """
        cls.open(path)  # a folder that is no run has its own message
        in_use = MonjuError(f"{path} is in use by another training, distill, refresh or map: "
                            "wait for it, or stop it first")
        with locks.holding(path, in_use):
            yield cls.open(path).check()

    @contextmanager
    def replacing(self) -> Iterator[Run]:
        """Change a copy of a run opened by `changing`, which takes its place if the block ends without error.

        Killed at any moment, the old or the new run is there: `open` finishes what was killed between two
        files.
        """
        partial = self.path / f"{CHANGE}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(self.path, partial, copy_function=link, ignore=shutil.ignore_patterns(".*"))
        changed = Run(partial, copy.deepcopy(self.manifest))
        try:
            yield changed
            changed.finish()
            os.replace(partial, self.path / CHANGE)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        move_change(self.path)
        self.manifest = changed.manifest

    @property
    def config(self) -> Config:
        """The run's settings."""
        return Config.from_json(self.manifest["config"])

    @property
    def task(self) -> str:
        """What the run's models learned: "classify" or "lm"."""
        return self.manifest["config"].get("task", "classify")

    def refuse_task(self, task: str) -> None:
        """Raise MonjuError unless the run's models learned this task."""
        if self.task != task:
            raise MonjuError(f"{self.path} is a run of language models, which label no sentence: write or "
                             "score texts with it, or name a run of classifiers" if self.task == "lm" else
                             f"{self.path} is a run of classifiers, which write no text: name a run that was "
                             "trained with --task lm")

    @property
    def finished(self) -> bool:
        """Whether training has ended and every file is listed."""
        return self.manifest.get("status") == "finished"

    def check(self, *names: str) -> Run:
        """Compare a finished run's files, or those named, with the manifest.

        Returns
        -------
        Run
            Itself.

        Raises
        ------
        MonjuError
            Where the run is not finished, or a file is not as it was written.
        """
        if not self.finished:
            raise MonjuError(f"the run {self.path} is not finished ({self.manifest.get('status')}): "
                             f"continue it with `{command(self.path)} --resume`")
        files = self.manifest.get("files")
        if not files or self.manifest.get("seal", self.seal()) != self.seal():
            raise damaged(self.path / "run.json")
        return self.intact(*names)

    def intact(self, *names: str) -> Run:
        """Compare the files that the manifest lists, or those named, with it; return the run itself.

        Of an unfinished run it lists what does not change any more. Raises MonjuError as `check`.
        """
        files = self.manifest.get("files", {})
        for name, written in {name: files.get(name, {}) for name in names or files}.items():
            file = self.path / name
            if not file.is_file():
                raise MonjuError(f"{file} is missing: restore the file or train the run again")
            if file.stat().st_size != written.get("bytes") or digest(file) != written["sha256"]:
                raise MonjuError(f"{file} is not the file that the run wrote (truncated or foreign): "
                                 "restore it or train the run again")
        return self

    def finish(self) -> None:
        """Write the manifest with every file's size and digest, and the status "finished"."""
        self.manifest["files"] = self.listed()
        self.manifest["status"] = "finished"
        self.manifest["seal"] = self.seal()
        self.write_manifest()

    def listed(self, folder: str = "") -> dict[str, dict[str, Any]]:
        """Return {file: {bytes, sha256}} of all files in the run, or in one of its folders."""
        files = sorted(file for file in (self.path / folder).rglob("*")
                       if file.is_file() and file.name not in UNLISTED)
        return {file.relative_to(self.path).as_posix(): {"bytes": file.stat().st_size, "sha256": digest(file)}
                for file in files}

    def seal(self) -> str:
        """Return the SHA-256 of the manifest's other entries."""
        others = {name: value for name, value in self.manifest.items() if name != "seal"}
        return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()

    def update(self, **facts: Any) -> None:
        """Set entries of the manifest and write it."""
        self.manifest.update(facts)
        self.write_manifest()

    def write_manifest(self) -> None:
        """Write run.json."""
        self.write_json("run.json", self.manifest)

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as JSON; NaN raises ValueError."""
        write(self.path / name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file."""
        write(self.path / name, content)

    def read_json(self, name: str) -> Any:
        """Return the value of a JSON file. Raises OSError or ValueError for a bad one."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def metrics(self) -> dict[str, Any]:
        """Return a finished run's results, metrics.json.

        Raises MonjuError as `check`, and for results that cannot be this run's.
        """
        try:
            found = schema.read_value(self.check("metrics.json").path / "metrics.json")
            known: Any = schema.METRICS[self.task].model_validate(found)
            fits = (list(known.experts) == self.manifest["models"]["experts"]
                    and (self.task == "lm" or known.labels == len(self.manifest["data"]["labels"]))
                    and bool(known.baseline) == bool(self.manifest["models"]["baseline"])
                    and bool(known.equal_cost) == bool(self.manifest["models"]["equal-cost"]))
        except (OSError, ValueError):
            fits = False
        if not fits:
            raise damaged(self.path / "metrics.json")
        return found

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """Fill a subfolder under a temporary name, which gets its own when the block ends without error."""
        final = self.path / name
        partial = final.with_name(f".{final.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    with open(file, "rb+") as handle:
                        os.fsync(handle.fileno())
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a killed writer left under temporary names."""
        for partial in list(self.path.rglob(".*.partial")):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()

    # history.jsonl: appended line by line while models train

    def append_history(self, line: Mapping[str, Any]) -> None:
        """Append one logged step: model, step, tokens, loss, learning rate, seconds."""
        with open(self.path / "history.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """Return the logged steps, without a last line cut short by a kill."""
        lines, path = [], self.path / "history.jsonl"
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError):
                    lines.append(json.loads(line))
        return [line for line in lines if isinstance(line, dict) and {"model", "step"} <= line.keys()]

    def keep_history(self, reached: Mapping[str, int]) -> None:
        """Drop the lines after the step that each model reached, {model: step}: a resume logs them again."""
        kept = [line for line in self.history() if line["step"] <= reached.get(line["model"], 0)]
        write(self.path / "history.jsonl", "".join(json.dumps(line) + "\n" for line in kept))


def refuse_taken(path: AnyPath) -> None:
    """Raise MonjuError where a folder already holds something."""
    path = Path(path)
    if os.path.exists(path / "run.json"):
        raise MonjuError(f"{path} already holds a run: choose another --out, or continue it with --resume")
    if os.path.exists(path) and (not path.is_dir() or any(path.iterdir())):
        raise MonjuError(f"{path} already holds something that is no run: choose another --out")


def finish_change(path: Path) -> None:
    """Finish a change whose process was killed while it moved the files."""
    if not (path / CHANGE).is_dir():
        return
    try:
        held = locks.take(path)
        if held is not None:  # else it is being moved
            try:
                move_change(path)
            finally:
                os.close(held)
    except OSError as error:
        raise MonjuError(f"{path} was being changed when that was stopped, and it cannot be finished "
                         f"({error.strerror}): make the folder writable, then try again") from None


def move_change(path: Path) -> None:
    """Move the files of a change to their places, run.json last; delete those that the run has no more."""
    change = path / CHANGE
    if (change / "run.json").exists():  # else all are moved
        files = Run.open(change).manifest["files"]
        for name in files:
            if (change / name).exists():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(change / name, path / name)
        for file in path.rglob("[!.]*"):
            name = file.relative_to(path).as_posix()
            if file.is_file() and name[0] != "." and not files.keys() & {name} and file.name not in UNLISTED:
                file.unlink()
        os.replace(change / "run.json", path / "run.json")
    shutil.rmtree(change, ignore_errors=True)


def link(source: str, target: str) -> None:
    """Give a file a second name, or copy it where that cannot be: what writes a file here replaces it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def command(path: AnyPath) -> str:
    """Return the shell command that trains into this folder."""
    return f"python -m monju train --out {shlex.quote(str(path))}"


def damaged(file: AnyPath) -> MonjuError:
    """Return the error for a damaged file."""
    return MonjuError(f"{file} is damaged: restore the file or train the run again")
