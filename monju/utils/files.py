"""Files: written whole or not at all, told apart by their content; and where the checkout is."""

import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).parents[2]  # the checkout: assets/ and trained/ lie in it


def write(path, content):
    """Write bytes or text so that a reader sees the old or the new file, whatever happens meanwhile."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def digest(file):
    """A file's SHA-256, in hexadecimal."""
    found = hashlib.sha256()
    with open(file, "rb") as handle:
        while block := handle.read(1 << 20):
            found.update(block)
    return found.hexdigest()
