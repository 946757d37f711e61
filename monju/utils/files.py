"""Files: atomic writes, digests, the folder of the checkout and those of the machine's cache."""

import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).parents[2]  # the checkout: assets/ and trained/ lie in it


def write(path: Path, content: bytes | str) -> None:
    """Write a file atomically: a reader sees the old or the new file, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def cache(name: str) -> Path:
    """Return a folder of the cache: in $MONJU_CACHE, else $XDG_CACHE_HOME/monju, else ~/.cache/monju."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MONJU_CACHE") or Path(home) / "monju") / name


def digest(file: str | os.PathLike[str]) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    sha256 = hashlib.sha256()
    with open(file, "rb") as handle:
        while block := handle.read(1 << 20):
            sha256.update(block)
    return sha256.hexdigest()
