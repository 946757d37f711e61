"""Embedders: sentence → vector, the space in which clusters and distances live.

Knows nothing of labels, clusters or experts. A new embedder is one class here and one line in TABLE.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors.numpy import load_file, save_file

from monju.config import Config
from monju.data.inputs import sentences
from monju.errors import MonjuError


class Embedder(Protocol):
    """An embedder, made from a configuration. It is kept without pickle, and places a sentence as before."""

    def fit(self, texts: Sequence[str]) -> Embedder:
        """Learn from the training sentences. Raises MonjuError where they do not do."""
        ...

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of sentences [n]: float32 [n, dim]."""
        ...

    def identity(self) -> list:
        """Return what, beside the sentences, decides the vectors, as JSON values: a key for the cache."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was learned into a folder."""
        ...

    def restore(self, folder: Path) -> Embedder:
        """Take up what `save` wrote."""
        ...


class TfidfEmbedder:
    """c-BTM's: TF-IDF without English stop words, numbers as one token, 100 SVD dimensions, unit length."""

    dimensions = 100
    words: list[str]
    arrays: dict[str, np.ndarray]

    def __init__(self, config: Config):
        self.seed = config.seed

    def fit(self, texts: Sequence[str]) -> TfidfEmbedder:
        """Learn vocabulary, idf and SVD from texts. Raises MonjuError where fewer than two words are left."""
        from sklearn.decomposition import TruncatedSVD

        vectorizer = self._vectorizer()
        try:
            counts = vectorizer.fit_transform(texts)
            svd = TruncatedSVD(min(self.dimensions, counts.shape[1]), random_state=self.seed).fit(counts)
        except ValueError:
            raise MonjuError("fewer than two words are left for the embedder tfidf once English stop words "
                             "are gone: use --embedder sbert, or bring longer sentences") from None
        self.words = list(vectorizer.get_feature_names_out())
        # float32: half the file, and no distance moves by more than 1e-6. safetensors writes an array's
        # memory as it lies, and scikit-learn's lies column by column
        self.arrays = {"idf": vectorizer.idf_.astype(np.float32),
                       "components": np.ascontiguousarray(svd.components_, np.float32)}
        return self

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        """Return vectors float32 [n, dim] of length one; of a sentence of unknown words the zero vector."""
        from scipy.sparse import csr_matrix
        from sklearn.preprocessing import normalize

        vectorizer = self._vectorizer(self.words)
        vectorizer.idf_ = self.arrays["idf"]
        counts = csr_matrix(vectorizer.transform(sentences(texts)))
        return normalize(counts @ self.arrays["components"].T).astype(np.float32)

    def identity(self) -> list:
        """Return the settings that decide the vectors, and scikit-learn's version."""
        return ["tfidf", "float32", self.dimensions, self.seed, version("scikit-learn")]

    def save(self, folder: Path) -> None:
        """Write idf, SVD and vocabulary."""
        save_file(self.arrays, folder / "embedder.safetensors")
        (folder / "vocabulary.json").write_text(json.dumps(self.words, ensure_ascii=False), encoding="utf-8")

    def restore(self, folder: Path) -> TfidfEmbedder:
        """Take up what `save` wrote."""
        self.arrays = {name: array.astype(np.float32)  # float64 in earlier runs
                       for name, array in load_file(folder / "embedder.safetensors").items()}
        self.words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        return self

    @staticmethod
    def _vectorizer(vocabulary: list[str] | None = None) -> Any:
        """Return c-BTM's vectorizer, unfitted or with a vocabulary."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(stop_words="english", preprocessor=one_number, vocabulary=vocabulary,
                               dtype=np.float64)


def one_number(text: str) -> str:
    """Return text in lower case with every number the same token (c-BTM's preprocessing)."""
    return re.sub(r"\d+(?:[.,]\d+)*", " seennumber ", text.lower())


class BackboneEmbedder:
    """The run's own backbone before fine-tuning: last hidden states, averaged over tokens, unit length."""

    batch = 128  # sentences per forward pass

    def __init__(self, config: Config):
        self.name, self.max_tokens, self.device = config.backbone, config.max_tokens, config.device

    def fit(self, texts: Sequence[str]) -> BackboneEmbedder:
        """Do nothing: there is nothing to learn."""
        return self

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        """Return vectors float32 [n, hidden]: the mean over a sentence's tokens, of length one."""
        import torch

        from monju.models import backbones

        tokenizer, model, device = self._loaded()
        tokens = backbones.encode(tokenizer, texts, self.max_tokens)
        vectors = np.zeros((len(tokens), model.config.hidden_size), np.float32)
        for rows in backbones.length_batches([len(sentence) for sentence in tokens], self.batch):
            ids, mask = backbones.pad([tokens[row] for row in rows], tokenizer.pad_token_id)
            ids, mask = ids.to(device), mask.to(device)
            with torch.inference_mode():
                vectors[rows] = self.pool(model(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
        return vectors

    @staticmethod
    def pool(hidden: Any, mask: Any) -> np.ndarray:
        """Return vectors [n, hidden] from hidden states [n, length, hidden] and the attention mask."""
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return (mean / mean.norm(dim=1, keepdim=True)).float().cpu().numpy()

    def identity(self) -> list:
        """Return what decides the vectors: the encoder, by its files where it is a folder."""
        from monju.models import backbones

        folder = Path(backbones.locate(self.name))
        files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
        versions = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return ["mean", backbones.hub_name(self.name), self.max_tokens, versions]

    def encoder(self) -> Any:
        """Return the transformers model."""
        return self._loaded()[1]

    def save(self, folder: Path) -> None:
        """Write nothing: the weights are the backbone's, found again by name."""

    def restore(self, folder: Path) -> BackboneEmbedder:
        """Do nothing: the weights are found by name."""
        return self

    def _loaded(self) -> tuple:
        """Tokenizer, model, its forward pass and device, loaded once."""
        import transformers

        from monju.models import backbones

        if not hasattr(self, "model"):
            device = backbones.pick_device(self.device)
            model = backbones.from_pretrained(transformers.AutoModel, self.name).eval().to(device)
            self.model = backbones.tokenizer(self.name), model, device
        return self.model


class SbertEmbedder(BackboneEmbedder):
    """Sentence-BERT's all-MiniLM-L6-v2: sentences of like meaning are near (Reimers & Gurevych 2019)."""

    # mean pooling and unit length are this model's whole recipe, so that plain transformers gives
    # sentence-transformers' vectors (a test compares them) without its long import
    def __init__(self, config: Config):
        self.name, self.max_tokens, self.device = "all-MiniLM-L6-v2", 256, config.device


TABLE: dict[str, type] = {"tfidf": TfidfEmbedder, "sbert": SbertEmbedder, "backbone": BackboneEmbedder}
