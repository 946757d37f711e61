"""On-disk embedding cache: the same sentences and the same embedder are embedded once.

It lies in the cache's folder vectors/: a folder for each pair of sentences and embedder, named by their
content, written atomically; at most KEPT, the oldest are removed. It holds numbers (and tfidf's vocabulary),
no sentence. A damaged or unwritable folder costs only another embedding.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from monju.clustering.embedders import Embedder
from monju.utils.files import cache

KEPT = 8  # 67,349 sentences of 384 numbers are 103 MB


def fitted(embedder: Embedder, texts: Sequence[str]) -> tuple[Embedder, np.ndarray]:
    """Return the embedder fitted on texts [n] and their vectors [n, dim], from the cache if it has them."""
    kept = cache("vectors") / fingerprint(embedder, texts)
    try:
        vectors = load_file(kept / "vectors.safetensors")["vectors"]
        if vectors.ndim == 2 and len(vectors) == len(texts):
            embedder.restore(kept)
            os.utime(kept)
            return embedder, vectors
    except Exception:  # not there, or not whole: each reader has its own error
        pass
    vectors = embedder.fit(texts).transform(texts)
    keep(embedder, vectors, kept)
    return embedder, vectors


def fingerprint(embedder: Embedder, texts: Sequence[str]) -> str:
    """Return the SHA-256 of what decides the vectors: the embedder's settings and every sentence."""
    digest = hashlib.sha256(json.dumps(embedder.identity()).encode())
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def keep(embedder: Embedder, vectors: np.ndarray, kept: Path) -> None:
    """Write one folder of the cache, whole or not at all, and remove the oldest."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial", dir=kept.parent))
        try:
            embedder.save(partial)
            save_file({"vectors": np.ascontiguousarray(vectors)}, partial / "vectors.safetensors")
            shutil.rmtree(kept, ignore_errors=True)
            os.replace(partial, kept)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        folders = [path for path in kept.parent.iterdir() if not path.name.startswith(".")]
        for old in sorted(folders, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:
        pass  # no room, or not ours to write
