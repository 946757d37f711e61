"""Embedders: sentence → vector, the space in which clusters and distances live.

An embedder sees texts only; it knows nothing of labels, clusters or experts. `fit` learns from
the training sentences, `transform` places any sentence, and `save`/`restore` keep it without
pickle, so that a loaded run places a new sentence exactly where the original did.
A new embedder is one class here and one line in TABLE.
"""

import json
import re
from pathlib import Path

import numpy as np
import sklearn
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from monju.data.inputs import sentences
from monju.errors import MonjuError


class TfidfEmbedder:
    """c-BTM's: TF-IDF without English stop words, numbers as one token, 100 SVD dimensions, unit length."""

    dimensions = 100

    def __init__(self, config):
        self.seed = config.seed

    def fit(self, texts):
        """Learn vocabulary, idf and the SVD from texts. Raises MonjuError where hardly a word is left."""
        vectorizer = self._vectorizer()
        try:
            counts = vectorizer.fit_transform(texts)
            svd = TruncatedSVD(min(self.dimensions, counts.shape[1]), random_state=self.seed).fit(counts)
        except ValueError:
            raise MonjuError("fewer than two words are left for the embedder tfidf once English stop words are gone: "
                             "use --embedder sbert, or bring longer sentences") from None
        self.words = list(vectorizer.get_feature_names_out())
        # safetensors writes an array's memory as it lies, and scikit-learn's lies column by column
        self.arrays = {"idf": vectorizer.idf_, "components": np.ascontiguousarray(svd.components_)}
        return self

    def transform(self, texts):
        """texts [n] → float32 [n, dim] of length one; a sentence of unknown words alone is the zero vector."""
        vectorizer = self._vectorizer(self.words)
        vectorizer.idf_ = self.arrays["idf"]
        return normalize(csr_matrix(vectorizer.transform(sentences(texts))) @ self.arrays["components"].T).astype(np.float32)

    def identity(self):
        """What, beside the sentences, decides the vectors."""
        return ["tfidf", self.dimensions, self.seed, sklearn.__version__]

    def save(self, folder):
        save_file(self.arrays, folder / "embedder.safetensors")
        (folder / "vocabulary.json").write_text(json.dumps(self.words, ensure_ascii=False), encoding="utf-8")

    def restore(self, folder):
        self.arrays = load_file(folder / "embedder.safetensors")
        self.words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        return self

    @staticmethod
    def _vectorizer(vocabulary=None):
        return TfidfVectorizer(stop_words="english", preprocessor=one_number, vocabulary=vocabulary, dtype=np.float64)


def one_number(text):
    """Lower case, every number the same token (c-BTM's preprocessing)."""
    return re.sub(r"\d+(?:[.,]\d+)*", " seennumber ", text.lower())


class BackboneEmbedder:
    """The run's own backbone before fine-tuning: its last hidden states, averaged over tokens, unit length."""

    batch = 128

    def __init__(self, config):
        self.name, self.max_tokens, self.device = config.backbone, config.max_tokens, config.device

    def fit(self, texts):
        """Nothing is learned."""
        return self

    def transform(self, texts):
        """texts [n] → float32 [n, hidden], the mean over a sentence's tokens, divided by its length."""
        import torch

        from monju.models import backbones

        tokenizer, model, device = self._loaded()
        tokens = backbones.encode(tokenizer, texts, self.max_tokens)
        vectors = np.zeros((len(tokens), model.config.hidden_size), np.float32)
        for rows in backbones.length_batches([len(sentence) for sentence in tokens], self.batch):
            ids, mask = (part.to(device) for part in backbones.pad([tokens[row] for row in rows], tokenizer.pad_token_id))
            with torch.inference_mode():
                vectors[rows] = self.pool(model(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
        return vectors

    @staticmethod
    def pool(hidden, mask):
        """Hidden states [n, length, hidden] → vectors [n, hidden]."""
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return (mean / mean.norm(dim=1, keepdim=True)).float().cpu().numpy()

    def identity(self):
        """What, beside the sentences, decides the vectors: the encoder, by its files where it is a folder."""
        from monju.models import backbones

        place = Path(backbones.locate(self.name))
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(place.iterdir()) if path.is_file()] if place.is_dir() else []
        return ["mean", backbones.hub_name(self.name), self.max_tokens, files]

    def encoder(self):
        """The transformers model itself."""
        return self._loaded()[1]

    def save(self, folder):
        """The weights are the backbone's own, found again by name: nothing to keep."""

    def restore(self, folder):
        return self

    def _loaded(self):
        import transformers

        from monju.models import backbones

        if not hasattr(self, "model"):
            device = backbones.pick_device(self.device)
            model = backbones.from_pretrained(transformers.AutoModel, self.name).eval().to(device)
            self.model = backbones.tokenizer(self.name), model, device
        return self.model


class SbertEmbedder(BackboneEmbedder):
    """Sentence-BERT's all-MiniLM-L6-v2, trained so that sentences alike in meaning are near (Reimers & Gurevych 2019)."""

    # mean pooling and unit length are this model's whole recipe, so that plain transformers gives
    # sentence-transformers' own vectors (a test holds them together) without its long import
    def __init__(self, config):
        self.name, self.max_tokens, self.device = "all-MiniLM-L6-v2", 256, config.device


TABLE = {"tfidf": TfidfEmbedder, "sbert": SbertEmbedder, "backbone": BackboneEmbedder}
