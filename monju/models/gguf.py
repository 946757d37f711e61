"""GGUF files: a decoder in one file, as llama.cpp reads it → a folder that transformers reads, in the cache.

The file is unpacked once, whole or not at all, and found again by its digest. Weights are kept in half
precision.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

from monju.data.notes import refusal
from monju.errors import MonjuError
from monju.utils import locks
from monju.utils.files import cache, digest

PATIENCE_S = 600  # for another process that unpacks the same file
MAGIC = b"GGUF"


def folder_of(file: Path, sha256: str | None = None) -> Path:
    """Return the cache's folder with a GGUF file's model and tokenizer, unpacked if need be.

    Parameters
    ----------
    file : Path
        The file.
    sha256 : str, optional
        The digest that it must have.

    Returns
    -------
    Path

    Raises
    ------
    MonjuError
        For a file with another digest, that is no GGUF, or whose architecture transformers does not read;
        where the package gguf is missing, and where nothing can be written.
    """
    try:
        found = digest(file)
        with open(file, "rb") as handle:
            magic = handle.read(len(MAGIC))
    except OSError as error:
        raise MonjuError(f"{file} cannot be read ({error.strerror})") from None
    if sha256 is not None and found != sha256:
        raise refusal("decoder_digest", file=file.name)
    if magic != MAGIC:
        raise MonjuError(f"{file} is no GGUF file: name one that llama.cpp reads, or a transformers folder")
    folder = cache("backbones") / f"gguf-{found[:32]}"
    if (folder / "config.json").exists():
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise refusal("gguf_package")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locks.holding(folder.parent, refusal("backbone_busy", name=file.name), PATIENCE_S):
            if not folder.exists():  # another process may have unpacked it
                with tempfile.TemporaryDirectory(prefix=".partial", dir=folder.parent) as work:
                    unpack(file, Path(work) / "files")
                    os.rename(Path(work) / "files", folder)
    except OSError as error:
        raise refusal("backbone_room", name=file.name, folder=str(folder.parent),
                      gb=4 * file.stat().st_size / 1e9, why=error.strerror or str(error)) from None
    return folder


def unpack(file: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer into a folder as transformers does."""
    import torch
    import transformers

    given = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        packed = transformers.AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **given)
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **given)
    except Exception as error:  # each architecture, and each library, fails in its own way
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MonjuError(f"{file} cannot be read as a decoder ({why}): "
                         "name a GGUF file of an architecture that transformers reads") from None
    if hasattr(packed.config, "quantization_config"):  # with it, transformers refuses to save
        del packed.config.quantization_config
    model = type(packed)(packed.config)
    model.load_state_dict(packed.state_dict())
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for written in folder.iterdir():
        with open(written, "rb+") as handle:
            os.fsync(handle.fileno())
