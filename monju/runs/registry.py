"""The runs in a folder: list, rename, delete, pack, send to the hub.

Only a plain folder inside the runs' folder is ever touched, and no link is followed. Knows nothing of the page.
"""

import glob
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from monju.errors import MonjuError
from monju.runs.run import Run
from monju.utils import locks
from monju.utils.files import ROOT

SHIPPED = ROOT / "trained" / "sst2-minilm"
LONGEST = 80  # characters of a name
FORBIDDEN = set('/\\:*?"<>|')


def validate_name(name):
    """The name, as a folder's on every system. Raises MonjuError for any other."""
    name = name.strip() if isinstance(name, str) else ""
    if not name:
        raise MonjuError("a run needs a name: type one, for example my-run")
    if len(name) > LONGEST or name[0] in ".-" or name[-1] == "." or not name.isprintable() or FORBIDDEN & set(name):
        raise MonjuError(f"a run cannot be named {name[:LONGEST]!r}: use letters, digits, - and _, at most {LONGEST}")
    return name


def run_dir(folder, name):
    """The folder of a run's name, there or not."""
    return Path(folder) / validate_name(name)


def new_run_dir(folder, name):
    """The folder that a new run of this name will have. Raises MonjuError where there is something already."""
    path = run_dir(folder, name)
    if os.path.lexists(path):
        raise MonjuError(f"there is already a run named {path.name}: choose another name")
    return path


def writable_run(folder, name):
    """The folder of a run that may be changed. Raises MonjuError for the run that ships, a link, or one in training."""
    path = run_dir(folder, name)
    if path.is_symlink() or not (path / "run.json").is_file():
        raise MonjuError(f"there is no run {path.name} here: choose one from the list")
    if path.resolve() == SHIPPED.resolve():
        raise MonjuError(f"{path.name} ships with Monju, and the page starts on it: it stays as it is")
    if locks.taken(path):
        raise MonjuError(f"{path.name} is being trained: stop it first")
    return path


def rename(folder, old, new):
    """Give a run another name."""
    path, target = writable_run(folder, old), new_run_dir(folder, new)
    try:
        os.rename(path, target)
    except OSError as error:
        raise MonjuError(f"{path.name} could not be renamed ({error.strerror})") from None


def delete(folder, name):
    """Delete a run: first out of sight, so that nobody opens half of it."""
    path = writable_run(folder, name)
    gone = Path(folder) / f".{path.name}.deleted"
    try:
        shutil.rmtree(gone, ignore_errors=True)
        os.rename(path, gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise MonjuError(f"{path.name} could not be deleted ({error.strerror})") from None


def list_runs(folder):
    """Every run in the folder, the newest first, as plain values; accuracies are fractions, None where unknown."""
    found = []
    for manifest in Path(folder).glob("[!.]*/run.json"):
        try:
            found.append(summarize(Run.open(manifest.parent), manifest.stat().st_mtime))
        except (MonjuError, OSError):
            found.append({"name": manifest.parent.name, "date": None, "data": None, "backbone": None, "monju": None,
                          "baseline": None, "bytes": None, "status": "damaged"})
    return sorted(found, key=lambda run: run["date"] or 0, reverse=True)


def summarize(run, date):
    """One run's line in the list. Raises MonjuError for results that are not as they were written."""
    metrics = run.check("metrics.json").read_json("metrics.json") if run.finished else {}
    status = run.manifest.get("status")
    if status == "training" and not locks.taken(run.path):
        status = "died"
    return {"name": run.path.name, "date": date, "data": Path(run.config.data).name, "backbone": run.config.backbone,
            "monju": metrics.get("monju", {}).get("accuracy"), "baseline": metrics.get("baseline", {}).get("accuracy"),
            "n": metrics.get("n"), "bytes": sum(file.stat().st_size for file in files(run.path)), "status": status}


def files(path):
    """The run's own files: no links, nothing hidden."""
    found = []
    for run_dir, folders, names in os.walk(path):  # does not walk through links
        folders[:] = [name for name in folders if not name.startswith(".") and not os.path.islink(os.path.join(run_dir, name))]
        found += [Path(run_dir) / name for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.is_file() and not file.is_symlink())


def archive(path, within=None):
    """The run as a zip in a new folder within `within` (where temporary files lie): its path. Whoever asked removes the folder."""
    path = Path(path)
    if not (path / "run.json").is_file() or path.is_symlink():
        raise MonjuError(f"there is no run {path.name} here: choose one from the list")
    packed = Path(tempfile.mkdtemp(prefix="monju-", dir=within)) / f"{path.name}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in files(path):
            archive.write(file, Path(path.name) / file.relative_to(path))
    return packed


def upload(path, repository, token, inside=None):
    """Send a finished run to a private model repository on the hub, there into the folder `inside` (none); its address.
    The token is used and forgotten. Raises MonjuError where the hub does not take it."""
    from huggingface_hub import HfApi

    path = Path(path)
    run = Run.open(path).check()
    if not (repository or "").strip() or not (token or "").strip():
        raise MonjuError("the hub needs a repository (owner/name) and your token with write access: give both")
    try:
        hub = HfApi(token=token.strip())
        address = hub.create_repo(repository.strip(), private=True, exist_ok=True)
        hub.upload_folder(repo_id=address.repo_id, folder_path=run.path, path_in_repo=inside, commit_message="A Monju run",
                          allow_patterns=[file.relative_to(path).as_posix() for file in files(path)])
    except Exception as error:  # the hub, the network and the rights fail each in their own way
        said = (str(error).strip() or type(error).__name__).splitlines()[0].replace(token.strip(), "…")
        raise MonjuError(f"the hub did not take {path.name}: {said}") from None
    return str(address)


def download(folder, repository, token=None):
    """Fetch the runs of a hub repository, a folder each, that are not here yet: their names. Only what a run's manifest lists
    is kept, and only if it is whole. Raises MonjuError where the hub does not give them, or, once all the others are here, for
    one that cannot be taken."""
    from huggingface_hub import HfApi

    folder, fetched, refused = Path(folder), [], None
    try:
        hub = HfApi(token=token or None)
        there = hub.list_repo_files(repository)
        for name in sorted({file.removesuffix("/run.json") for file in there if file.count("/") == 1 and file.endswith("/run.json")}):
            try:
                if not os.path.lexists(target := run_dir(folder, name)):
                    _take(hub, repository, name, target)
                    fetched.append(name)
            except MonjuError as error:
                refused = refused or error
        if refused:
            raise refused
    except MonjuError:
        raise
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MonjuError(f"the runs in {repository} could not be fetched: {said}") from None
    return fetched


def _take(hub, repository, name, target):
    """Fetch one run of a repository, look at it aside, and put it in its place."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as aside:
        hub.snapshot_download(repository, local_dir=aside, allow_patterns=[f"{glob.escape(name)}/*"])
        run = Run.open(Path(aside) / name).check()
        for file in files(run.path):
            if file.relative_to(run.path).as_posix() not in {*run.manifest["files"], "run.json", "README.md"}:
                file.unlink()
        os.rename(run.path, target)
