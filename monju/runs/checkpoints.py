"""Checkpoints of one model's training, from which a killed training resumes with the same bits.

A checkpoint is the trained weights, the optimiser's moments and the random state after an epoch. Of its two
files the JSON is written last and holds the tensors' digest: a kill between the two leaves the one before.
No pickle.

    FOLDER/STEP.safetensors    the tensors
    FOLDER/checkpoint.json     {step, tensors (the file's name), sha256, and what the writer adds}
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from monju.utils.files import digest, write


class Checkpoints:
    """The last checkpoint of one model, in a folder that need not exist."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], **facts: Any) -> None:
        """Write tensors by name and facts that JSON can hold, in place of the checkpoint before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{step}.safetensors"
        partial = file.with_suffix(".partial")
        try:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)  # a full disk needs the room
        facts = {"step": step, "tensors": file.name, "sha256": digest(file), **facts}
        write(self.folder / "checkpoint.json", json.dumps(facts))
        for other in self.folder.glob("*.safetensors"):
            if other != file:
                other.unlink()

    @property
    def facts(self) -> dict[str, Any]:
        """The facts beside the tensors, with `step`; {"step": 0} where there is no whole checkpoint."""
        try:
            facts = json.loads((self.folder / "checkpoint.json").read_text(encoding="utf-8"))
            tensors = self.folder / os.path.basename(facts["tensors"])
            if isinstance(facts["step"], int) and digest(tensors) == facts["sha256"]:
                return facts
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return {"step": 0}

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return tensors by name, and `facts`; no tensor where there is no whole checkpoint."""
        facts = self.facts
        return load_file(self.folder / facts["tensors"]) if facts["step"] else {}, facts

    def files(self, after: int = 0) -> dict[str, bytes]:
        """Return the checkpoint's files by name; none where there is no later one than after that step.

        Also while another thread writes the next one.
        """
        try:
            facts = (self.folder / "checkpoint.json").read_bytes()
            found = json.loads(facts)
            tensors = os.path.basename(found["tensors"])
            return {tensors: (self.folder / tensors).read_bytes(),
                    "checkpoint.json": facts} if found["step"] > after else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write what `files` returned elsewhere, in place of the checkpoint before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key="checkpoint.json".__eq__):
            write(self.folder / name, files[name])
        for other in self.folder.glob("*.safetensors"):
            if other.name not in files:
                other.unlink()

    @property
    def damaged(self) -> bool:
        """Whether there is a checkpoint from which no training can resume."""
        return (self.folder / "checkpoint.json").exists() and not self.facts["step"]

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
