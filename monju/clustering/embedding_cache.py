"""On-disk embedding cache: the same sentences and the same embedder are embedded once.

A small cache in $MONJU_CACHE, else $XDG_CACHE_HOME/monju, else ~/.cache/monju: a folder for each pair of
sentences and embedder, named by their content, written atomically; the oldest go when there are
too many. It holds numbers (and tfidf's vocabulary), no sentence. A folder that is damaged, or cannot be
written, costs the time of embedding again and nothing else.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

KEPT = 8  # 67,349 sentences of 384 numbers are 103 MB


def fitted(embedder, texts):
    """(embedder fitted on texts, their vectors): as `embedder.fit(texts)` and its `transform(texts)`, or from the cache."""
    kept = folder() / fingerprint(embedder, texts)
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


def folder():
    """Where the cache lies."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MONJU_CACHE") or Path(home) / "monju") / "vectors"


def fingerprint(embedder, texts):
    """SHA-256 over what decides the vectors: the embedder's settings and every sentence."""
    found = hashlib.sha256(json.dumps(embedder.identity()).encode())
    for text in texts:
        found.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def keep(embedder, vectors, kept):
    """Write one folder of the cache, whole or not at all, and let the oldest go."""
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
        known = sorted((path for path in kept.parent.iterdir() if not path.name.startswith(".")), key=lambda path: path.stat().st_mtime)
        for old in known[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:
        pass  # no room, or not ours to write
