"""Corpora: the three data sets, as the project reads them, with frozen MiniLM's vectors kept on disk.

Knows nothing of experts or gates. What is kept holds numbers, no sentence.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from monju.clustering.embedders import BackboneEmbedder
from monju.config import Config
from monju.data import sources
from monju.data.rows import Split
from monju.models.backbones import computes_in_bf16

MAX_TOKENS = 64  # of a review; a longer one is cut, for heads and for trained layers alike
CHUNK = 2048  # sentences that are embedded between two files: an interrupted start loses no more
DOMAINS = {"fdu-mtl": "domain", "clinc150": "domain", "sst2": None}


class Corpus(NamedTuple):
    """One data set: training and held-out sentences, and their vectors [n, 384] of length one."""

    train: Split
    held_out: Split
    labels: int
    train_vectors: np.ndarray
    held_out_vectors: np.ndarray


def read(root: Path, name: str) -> tuple[Split, Split, int]:
    """Return training sentences, held-out sentences and the number of labels.

    The project's loader drops training sentences that also stand in the held-out part.
    """
    data = sources.load(root / name, domain_column=DOMAINS[name])
    return data.train, data.validation, len(data.labels)


def load(root: Path, name: str, out: Path) -> Corpus:
    """Return a data set with its vectors, from the folder `out` where it has them."""
    train, held_out, labels = read(root, name)
    return Corpus(train, held_out, labels, vectors(out, f"{name}-train", train.texts),
                  vectors(out, f"{name}-held-out", held_out.texts))


def vectors(out: Path, name: str, texts: list[str]) -> np.ndarray:
    """Return float32 vectors [n, 384] of texts [n], chunk by chunk from files in `out`."""
    embedder, parts, bf16 = None, [], computes_in_bf16(torch.device("cpu"))
    (out / "vectors").mkdir(parents=True, exist_ok=True)
    for first in range(0, len(texts), CHUNK):
        path = out / "vectors" / f"{name}-{first}-of-{len(texts)}.npy"
        if not path.exists():
            embedder = embedder or BackboneEmbedder(Config(max_tokens=MAX_TOKENS, device="cpu"))
            partial = path.with_suffix(".partial.npy")
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):  # twice as fast; vectors differ by 1e-3
                np.save(partial, embedder.transform(texts[first:first + CHUNK]))
            partial.replace(path)
        parts.append(np.load(path))
    return np.concatenate(parts)
