"""Pieces: the study cut into parts of a few minutes, each leaving one file of numbers.

A piece is one setting with one seed, or one rung of the ladder with one seed. Its models' answers are kept beside
its numbers, so that other numbers can be had of them without training.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import ladder, measures, settings
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run

RUNS = {"SST-2 MiniLM": "sst2-minilm", "SST-2 MPNet": "sst2-mpnet", "CLINC150 adapters": "clinc150-minilm"}
NATURAL = ("E1", "E3", "SST-2")  # labels and texts as they come


class Piece(NamedTuple):
    """A setting, or a rung as "E6 rank 16", with one seed."""

    setting: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.setting}-{self.seed}".replace(" ", "-")

    def numbers(self, out: Path) -> Path:
        """Return the file of its numbers."""
        return out / "numbers" / f"{self.name}.json"

    def make(self, root: Path, out: Path) -> None:
        """Train it and measure it; of a rung, train one model that it lacks, or measure it when none is."""
        kept = out / "answers" / f"{self.name}.npz"
        if not kept.exists():
            rung = self.setting.removeprefix("E6 ")
            if rung == self.setting:
                found = settings.answers(root, out, self.setting, self.seed)
            elif lacking := ladder.lacking(out, rung, self.seed):
                return ladder.train(root, out, rung, self.seed, lacking[0])
            else:
                found = ladder.answers(root, out, rung, self.seed)
            write(kept, lambda path: np.savez(path, **found))
        with np.load(kept) as arrays:
            found = dict(arrays)
        end = " labels held out"
        layouts = [name.removesuffix(end) for name in found if name.endswith(end)]
        numbers: dict[str, Any] = {layout: measures.measure(found, layout, self.seed) for layout in layouts}
        if self.setting in NATURAL:
            numbers["aim"] = measures.aim(found, layouts, self.seed)
        text = json.dumps(measures.rounded(numbers))
        write(self.numbers(out), lambda path: path.write_text(text))


def make(root: Path, out: Path, most: int | None = None) -> int:
    """Make what `out` lacks, at most so many steps; return how many pieces are then left."""
    for piece in everything():
        while not piece.numbers(out).exists() and most != 0:
            print(piece.name, flush=True)
            piece.make(root, out)
            most = most and most - 1
    return sum(not piece.numbers(out).exists() for piece in everything())


def restore(found: dict[str, Any], out: Path) -> None:
    """Give `out` the numbers that `collect` found elsewhere, so that only what they lack is trained."""
    for piece in everything():
        stored = found["settings"].get(piece.setting, {}) | {"aim": found["aim"].get(piece.setting, [])}
        numbers = {layout: one for layout, seeds in stored.items() for one in seeds if one["seed"] == piece.seed}
        if numbers and not piece.numbers(out).exists():
            write(piece.numbers(out), lambda path, numbers=numbers: path.write_text(json.dumps(numbers)))
    for corpus, c in found["strength"].items():
        write(out / f"strength-{corpus}.txt", lambda path, c=c: path.write_text(f"{c}\n"))


def write(path: Path, fill: Any) -> None:
    """Let `fill` write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("partial-" + path.name)
    fill(partial)
    partial.replace(path)


def everything() -> list[Piece]:
    """Return all pieces in the order in which they are made: seed by seed, the ladder last."""
    rungs = tuple(f"E6 {rung}" for rung in ladder.RUNGS)
    return [Piece(name, seed) for names in (tuple(settings.SETTINGS), rungs) for seed in settings.SEEDS
            for name in names]


def collect(out: Path, folders: Sequence[Path]) -> dict[str, Any]:
    """Return all numbers that there are: {"settings": {name: {layout: [one a seed]}}, "aim", "strength", "runs"}."""
    found: dict[str, Any] = {"settings": {}, "aim": {}, "strength": {}, "runs": {}}
    made = [piece for piece in everything() if piece.numbers(out).exists()]
    for piece in made:
        for layout, numbers in json.loads(piece.numbers(out).read_text()).items():
            of = found["aim"] if layout == "aim" else found["settings"].setdefault(piece.setting, {})
            of.setdefault(piece.setting if layout == "aim" else layout, []).append(numbers)
    for path in sorted(out.glob("strength-*.txt")):
        found["strength"][path.stem.removeprefix("strength-")] = float(path.read_text().split()[0])
    for name, folder in RUNS.items():
        for path in (parent / folder for parent in folders):
            if path.exists():
                found["runs"][name] = measures.rounded(measures.stored_run(*load_predictions(Run.open(path))))
    return found
