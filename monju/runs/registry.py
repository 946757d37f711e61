"""The runs in a folder: list, rename, delete, archive, upload, download.

Only a plain folder inside the runs' folder is ever touched, and no link is followed.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monju.data.notes import refusal
from monju.errors import MonjuError
from monju.runs.run import Run
from monju.utils import locks
from monju.utils.files import ROOT

AnyPath = str | os.PathLike[str]
SHIPPED = [ROOT / "trained" / name for name in ("clinc150-minilm", "sst2-minilm", "sst2-mpnet")]
SHIPPED_WRITERS = [ROOT / "trained" / "reviews-smollm2"]  # of language models
FIRST = SHIPPED[0]  # the web app opens on it
LONGEST = 80  # characters of a name
FORBIDDEN = set('/\\:*?"<>|')
# what Windows takes for a device, whatever ending follows
DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$",
           *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
ALIKE = {"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"}  # scripts with letters that look Latin


def validate_name(name: Any) -> str:
    """Return the name of a run that may be there. Raises MonjuError for one that is no plain folder's."""
    name = name.strip() if isinstance(name, str) else ""
    if not name:
        raise refusal("name_missing")
    if (len(name) > LONGEST or name[0] in ".-" or name[-1] == "." or not name.isprintable()
            or FORBIDDEN & set(name)):
        raise refusal("name_invalid", name=name[:LONGEST], most=LONGEST)
    return name


def validate_new_name(name: Any) -> str:
    """Return a name for a new run, fit for a folder on every system. Raises MonjuError for any other.

    Runs that are there keep names that an earlier version took.
    """
    name = validate_name(name)
    if name.split(".")[0].rstrip().casefold() in DEVICES:
        raise MonjuError(f"a run cannot be named {name!r}, which is a device on Windows: choose another name")
    if (plain := unicodedata.normalize("NFKC", name)) != name:
        raise MonjuError(f"a run cannot be named {name!r}, which has letters that only look like {plain!r}: "
                         "type those")
    scripts = {unicodedata.name(letter, "").split(" ")[0] for letter in name if letter.isalpha()}
    if "LATIN" in scripts and scripts & ALIKE:
        raise MonjuError(f"a run cannot be named {name!r}, which mixes scripts that look alike: use one")
    return name


def run_dir(folder: AnyPath, name: Any) -> Path:
    """Return the folder of a run's name, whether it exists or not. Raises MonjuError for an invalid name."""
    return Path(folder) / validate_name(name)


def new_run_dir(folder: AnyPath, name: Any) -> Path:
    """Return the folder of a new run of this name. Raises MonjuError where something is there already."""
    path = Path(folder) / validate_new_name(name)
    if os.path.lexists(path):
        raise refusal("name_taken", name=path.name)
    return path


def writable_run(folder: AnyPath, name: Any) -> Path:
    """Return the folder of a run that may be changed.

    Raises MonjuError for the bundled run, a link, or a run in training.
    """
    path = run_dir(folder, name)
    if path.is_symlink() or not (path / "run.json").is_file():
        raise MonjuError(f"there is no run {path.name} here: choose one from the list")
    if path.resolve() in [run.resolve() for run in (*SHIPPED, *SHIPPED_WRITERS)]:
        raise MonjuError(f"{path.name} ships with Monju: it stays as it is")
    if locks.taken(path):
        raise refusal("stop_first", name=path.name)
    return path


def rename(folder: AnyPath, old: Any, new: Any) -> None:
    """Rename a run. Raises MonjuError where it may not be changed or the name is taken."""
    path, target = writable_run(folder, old), new_run_dir(folder, new)
    try:
        os.rename(path, target)
    except OSError as error:
        raise MonjuError(f"{path.name} could not be renamed ({error.strerror})") from None


def delete(folder: AnyPath, name: Any) -> None:
    """Delete a run, hidden first so that nobody opens half of it. Raises MonjuError as `writable_run`."""
    path = writable_run(folder, name)
    gone = Path(folder) / f".{path.name}.deleted"
    try:
        shutil.rmtree(gone, ignore_errors=True)
        os.rename(path, gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise MonjuError(f"{path.name} could not be deleted ({error.strerror})") from None


def list_runs(folder: AnyPath) -> list[dict[str, Any]]:
    """Return a summary of every run in the folder, the newest first, as plain values.

    Accuracies are fractions; what is unknown is None.
    """
    runs = []
    for manifest in manifests(folder):
        try:
            runs.append(summarize(Run.open(manifest.parent), manifest.stat().st_mtime))
        except Exception:  # whatever stands in it: the others are listed
            unknown = dict.fromkeys(("date", "task", "data", "backbone", "monju", "baseline", "perplexity",
                                     "meter", "bytes"))
            runs.append({"name": manifest.parent.name, **unknown, "status": "damaged"})
    return sorted(runs, key=lambda run: run["date"] or 0, reverse=True)


def manifests(folder: AnyPath) -> Iterator[Path]:
    """Yield the run.json of every run in the folder whose name can be shown."""
    return (path for path in Path(folder).glob("[!.]*/run.json") if path.parent.name.isprintable())


def summarize(run: Run, date: float) -> dict[str, Any]:
    """Return one run's line in the list. Raises MonjuError for results that are not as they were written."""
    metrics = run.metrics() if run.finished else {}
    status = run.manifest.get("status")
    if status == "training" and not locks.taken(run.path):
        status = "died"
    return {"name": run.path.name, "date": date, "task": run.task, "data": Path(run.config.data).name,
            "backbone": run.config.backbone, "monju": metrics.get("monju", {}).get("accuracy"),
            "baseline": metrics.get("baseline", {}).get("accuracy"),
            "perplexity": metrics.get("monju", {}).get("perplexity"), "n": metrics.get("n"),
            "meter": metrics.get("gate_meter"),
            "bytes": sum(file.stat().st_size for file in files(run.path)), "status": status}


def files(path: AnyPath) -> list[Path]:
    """Return the run's own files: no links, nothing hidden."""
    paths = []
    for folder, folders, names in os.walk(path):  # does not walk through links
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(folder) / name for name in names if not name.startswith(".")]
    return sorted(file for file in paths if file.is_file() and not file.is_symlink())


def archive(path: AnyPath, within: AnyPath | None = None) -> Path:
    """Write the run as a zip into a new temporary folder inside `within`, which the caller removes; its path.

    Raises MonjuError where there is no run.
    """
    path = Path(path)
    if not (path / "run.json").is_file() or path.is_symlink():
        raise MonjuError(f"there is no run {path.name} here: choose one from the list")
    target = Path(tempfile.mkdtemp(prefix="monju-", dir=within)) / f"{path.name}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        for file in files(path):
            zipped.write(file, Path(path.name) / file.relative_to(path))
    return target


def upload(path: AnyPath, repository: str | None, token: str | None, inside: str | None = None) -> str:
    """Upload a finished run to a private model repository on the hub; return its address.

    `inside` is a folder of the repository. The token is not kept. Raises MonjuError where the hub refuses.
    """
    from huggingface_hub import HfApi

    path = Path(path)
    run = Run.open(path).check()
    repository, token = (repository or "").strip(), (token or "").strip()
    if not repository or not token:
        raise MonjuError("the hub needs a repository (owner/name) and your token with write access: "
                         "give both")
    try:
        hub = HfApi(token=token)
        address = hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(repo_id=address.repo_id, folder_path=run.path, path_in_repo=inside,
                          commit_message="A Monju run",
                          allow_patterns=[file.relative_to(path).as_posix() for file in files(path)])
    except Exception as error:  # the hub, the network and the rights fail each in their own way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].replace(token, "…")
        raise MonjuError(f"the hub did not take {path.name}: {reason}") from None
    return str(address)


def download(folder: AnyPath, repository: str, token: str | None = None) -> list[str]:
    """Fetch the runs of a hub repository, a folder each, that are not here yet; return their names.

    Only files that a run's manifest lists are kept, and only if the run is whole. Raises MonjuError where the
    hub does not answer or, once all the others are fetched, for a run that cannot be used.
    """
    from huggingface_hub import HfApi

    folder, fetched, refused = Path(folder), [], None
    try:
        hub = HfApi(token=token or None)
        manifests = [file for file in hub.list_repo_files(repository) if file.endswith("/run.json")]
        for name in sorted(file.removesuffix("/run.json") for file in manifests if file.count("/") == 1):
            try:
                if not os.path.lexists(run_dir(folder, name)):
                    _take(hub, repository, name, new_run_dir(folder, name))
                    fetched.append(name)
            except MonjuError as error:
                refused = refused or error
        if refused:
            raise refused
    except MonjuError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MonjuError(f"the runs in {repository} could not be fetched: {reason}") from None
    return fetched


def _take(hub: Any, repository: str, name: str, target: Path) -> None:
    """Fetch one run into a temporary folder, check it, and move it to its place."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as temporary:
        hub.snapshot_download(repository, local_dir=temporary, allow_patterns=[f"{glob.escape(name)}/*"],
                              ignore_patterns=["*/.*"])
        run = Run.open(Path(temporary) / name).check()
        for file in files(run.path):
            if file.relative_to(run.path).as_posix() not in {*run.manifest["files"], "run.json", "README.md"}:
                file.unlink()
        os.rename(run.path, target)
