"""A run folder: write, read, check.

Everything that touches a run's files goes through here. Writes are atomic (temporary name,
fsync, rename), and the manifest run.json is written last, with the size and SHA-256 of every
other file: a reader sees a whole run or a clear error, never a half. No pickle anywhere.
"""

import hashlib
import json
import os
import shlex
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

from monju.config import Config
from monju.errors import MonjuError
from monju.utils import locks
from monju.utils.files import digest, write

FORMAT = 1


class Run:
    """One run folder and its manifest (run.json as a dictionary)."""

    def __init__(self, path, manifest):
        self.path, self.manifest = Path(path), manifest

    @classmethod
    def create(cls, path, config, **facts):
        """A new, unfinished run in a folder that holds nothing yet. Raises MonjuError where it cannot be made."""
        path = Path(path)
        refuse_taken(path)
        run = cls(path, {"format": FORMAT, "status": "training", "config": config.to_json(), **facts})
        try:
            path.mkdir(parents=True, exist_ok=True)
            run.write_manifest()
        except OSError as error:
            raise MonjuError(f"the run folder {path} cannot be written ({error.strerror}): choose another --out") from None
        return run

    @classmethod
    def open(cls, path):
        """The run in a folder, finished or not; its manifest alone is read. Raises MonjuError for anything else."""
        path = Path(path)
        if not os.path.isdir(path):
            raise MonjuError(f"there is no run folder {path}: train one with `{command(path)}`")
        try:
            manifest = json.loads((path / "run.json").read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise MonjuError(f"written in format {manifest['format']!r}, and this Monju reads {FORMAT}: train the run again")
            Config.from_json(manifest["config"])
            manifest["data"]["fingerprint"], manifest["models"]["experts"]
        except MonjuError as error:
            raise MonjuError(f"{path / 'run.json'}: {error}") from None
        except FileNotFoundError:
            raise MonjuError(f"{path} is not a run folder (it has no run.json): name a folder that `train` wrote") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise damaged(path / "run.json") from None
        return cls(path, manifest)

    @classmethod
    @contextmanager
    def changing(cls, path):
        """The finished run in a folder, for one who adds to it: nobody else does until the block ends.

        The manifest is read once the run is locked. Raises MonjuError for a run that is not whole, or is in use.
        """
        cls.open(path)  # a folder that is no run is told as such
        in_use = MonjuError(f"{path} is in use by another training, distill or map: wait for it, or stop it first")
        with locks.holding(path, in_use):
            yield cls.open(path).check()

    @property
    def config(self):
        return Config.from_json(self.manifest["config"])

    @property
    def finished(self):
        return self.manifest.get("status") == "finished"

    def check(self, *names):
        """Raise MonjuError unless the run is finished and each of its files (or those named) is exactly as it was written."""
        if not self.finished:
            raise MonjuError(f"the run {self.path} is not finished ({self.manifest.get('status')}): "
                             f"continue it with `{command(self.path)} --resume`")
        files = self.manifest.get("files")
        if not files or self.manifest.get("seal", self.seal()) != self.seal():
            raise damaged(self.path / "run.json")
        return self.intact(*names)

    def intact(self, *names):
        """Raise MonjuError unless each file that the manifest lists (or those named) is exactly as it was written; of a run that is not
        finished it lists what will not change any more."""
        files = self.manifest.get("files", {})
        for name, written in {name: files.get(name, {}) for name in names or files}.items():
            file = self.path / name
            if not file.is_file():
                raise MonjuError(f"{file} is missing: restore the file or train the run again")
            if file.stat().st_size != written.get("bytes") or digest(file) != written["sha256"]:
                raise MonjuError(f"{file} is not the file that the run wrote (truncated or foreign): "
                                 "restore it or train the run again")
        return self

    def finish(self):
        """Seal the run: list every file with size and digest in the manifest, and write it last."""
        self.manifest["files"] = self.listed()
        self.manifest["status"] = "finished"
        self.manifest["seal"] = self.seal()
        self.write_manifest()

    def listed(self, folder=""):
        """{file: {bytes, sha256}} of all that lies in the run, or in one of its folders."""
        files = sorted(file for file in (self.path / folder).rglob("*") if file.is_file() and file.name not in ("run.json", "README.md"))
        return {file.relative_to(self.path).as_posix(): {"bytes": file.stat().st_size, "sha256": digest(file)} for file in files}

    def seal(self):
        """The SHA-256 of all else that the manifest says: what the files' digests are to the files."""
        said = {name: value for name, value in self.manifest.items() if name != "seal"}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def update(self, **facts):
        """Change facts of the manifest on disk."""
        self.manifest.update(facts)
        self.write_manifest()

    def write_manifest(self):
        self.write_json("run.json", self.manifest)

    def write_json(self, name, value):
        write(self.path / name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_bytes(self, name, content):
        write(self.path / name, content)

    def read_json(self, name):
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    @contextmanager
    def folder(self, name):
        """Fill a subfolder under a temporary name; it appears under its own, whole, when the block ends well."""
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

    def sweep(self):
        """Remove what a killed writer left under temporary names."""
        for partial in list(self.path.rglob(".*.partial")):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()

    # history.jsonl: appended line by line while models train

    def append_history(self, line):
        with open(self.path / "history.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def history(self):
        """The lines of history.jsonl; a last line cut short by a kill is left out, and what is no line of a training."""
        lines = []
        if (self.path / "history.jsonl").exists():
            for line in (self.path / "history.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError):
                    lines.append(json.loads(line))
        return [line for line in lines if isinstance(line, dict) and {"model", "step"} <= line.keys()]

    def keep_history(self, reached):
        """Drop the lines of what a resume will train again: those after the step that each model has reached, {model: step}."""
        kept = [line for line in self.history() if line["step"] <= reached.get(line["model"], 0)]
        write(self.path / "history.jsonl", "".join(json.dumps(line) + "\n" for line in kept))


def refuse_taken(path):
    """Raise MonjuError where a new run would mix with something that is already there."""
    path = Path(path)
    if os.path.exists(path / "run.json"):
        raise MonjuError(f"{path} already holds a run: choose another --out, or continue it with --resume")
    if os.path.exists(path) and (not path.is_dir() or any(path.iterdir())):
        raise MonjuError(f"{path} already holds something that is no run: choose another --out")


def command(path):
    """The command that trains into this folder, as a shell takes it."""
    return f"python -m monju train --out {shlex.quote(str(path))}"


def damaged(file):
    return MonjuError(f"{file} is damaged: restore the file or train the run again")


