"""Checkpoints: how far one model's training has come, kept on disk so that a killed one goes on from there to the bit.

A checkpoint is the trained weights, the optimiser's moments and the random state after an epoch. Two files, the numbers
last: they name the tensors that they belong to and hold their digest, so that a kill between the two leaves the checkpoint
before. No pickle.

    FOLDER/STEP.safetensors    the tensors
    FOLDER/checkpoint.json     {step, tensors (the file's name), sha256, and what the writer adds}
"""

import json
import os
import shutil

from safetensors.torch import load_file, save_file

from monju.utils.files import digest, write


class Checkpoints:
    """Those of one model, of which the last is kept, in a folder that need not exist."""

    def __init__(self, folder):
        self.folder = folder

    def save(self, step, tensors, **facts):
        """Keep {name: tensor} and facts that JSON can hold; the checkpoint before goes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{step}.safetensors"
        partial = file.with_suffix(".partial")
        try:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)  # on a full disk it would leave no room even to say so
        write(self.folder / "checkpoint.json", json.dumps({"step": step, "tensors": file.name, "sha256": digest(file), **facts}))
        for other in self.folder.glob("*.safetensors"):
            if other != file:
                other.unlink()

    @property
    def facts(self):
        """What was kept beside the tensors, with `step`; {"step": 0} where there is no checkpoint, or none that is whole."""
        try:
            facts = json.loads((self.folder / "checkpoint.json").read_text(encoding="utf-8"))
            if isinstance(facts["step"], int) and digest(self.folder / os.path.basename(facts["tensors"])) == facts["sha256"]:
                return facts
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return {"step": 0}

    def load(self):
        """({name: tensor}, facts); no tensor where there is no checkpoint, or none that is whole."""
        facts = self.facts
        return load_file(self.folder / facts["tensors"]) if facts["step"] else {}, facts

    @property
    def damaged(self):
        """Whether something is there that cannot be gone on from."""
        return (self.folder / "checkpoint.json").exists() and not self.facts["step"]

    def clear(self):
        shutil.rmtree(self.folder, ignore_errors=True)
