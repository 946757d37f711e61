"""E6, the ladder of capacity: E1 at a cut size, from a linear head to full fine-tuning, by the project's training.

One file a model: a piece of a few minutes at most, so that an interrupted study goes on where it stopped.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments import corpora, heads
from experiments.settings import strength
from monju.clustering import clusterers
from monju.config import Config
from monju.data.rows import Split
from monju.models import backbones
from monju.models.classifier import Expert
from monju.training import trainer

LINEAR = "linear head"
RUNGS: dict[str, dict[str, Any] | None] = {  # name → settings of the training, in order of capacity
    LINEAR: None,
    "rank 1": {"finetuning": "lora", "lora_rank": 1, "learning_rate": 1e-3},
    "rank 16": {"finetuning": "lora", "lora_rank": 16, "learning_rate": 1e-3},
    "last two layers": {"frozen_layers": 4, "learning_rate": 2e-4},
    "full": {"learning_rate": 1e-4},
}
K, M = 3, 1
PER_DOMAIN, EPOCHS = 150, 4.0  # 800 reviews an expert: what two shared cores can do
HELD_OUT = 200  # reviews of a domain that are read, the same for all rungs and seeds
MODELS = ("A", "B", "C")


def drawn(domains: list[str], n: int, seed: int) -> np.ndarray:
    """Return the rows of n sentences of each domain, drawn by a seed."""
    rng, names = np.random.default_rng(seed), np.array(domains)
    return np.sort(np.concatenate([rng.choice(np.flatnonzero(names == name), n, replace=False)
                                   for name in np.unique(names)]))


def lacking(out: Path, rung: str, seed: int) -> list[str]:
    """Return the models of a rung that are not trained yet."""
    return [model for model in MODELS if not path_of(out, rung, seed, model).exists()]


def path_of(out: Path, rung: str, seed: int, model: str) -> Path:
    """Return the file of a model's answers."""
    return out / "ladder" / f"{rung}-{seed}-{model}.npy".replace(" ", "-")


def train(root: Path, out: Path, rung: str, seed: int, model: str) -> None:
    """Train one model of a rung and write its log-probabilities or logits [held-out sentences, 2]."""
    learned, asked, labels = parts(root, seed)
    clusters, _, vectors = placed(out, learned, seed)
    own = np.flatnonzero(clusters == MODELS.index(model))
    settings = RUNGS[rung]
    if settings is None:
        head = heads.Head(vectors[own], learned.labels[own], labels, strength(root, out, "fdu-mtl"))
        answers = head(vectors_of(out, asked, "held-out"))
    else:
        config = Config(max_tokens=corpora.MAX_TOKENS, epochs=EPOCHS, **settings)
        tokenizer = backbones.tokenizer(config.backbone)
        tokens = backbones.encode(tokenizer, [learned.texts[row] for row in own], config.max_tokens)
        expert = Expert.start(config, ["0", "1"], tokenizer.pad_token_id, seed, torch.device("cpu"))
        for _ in trainer.fit(expert, config, tokens, learned.labels[own], seed):
            pass
        tokens = backbones.encode(tokenizer, asked.texts, config.max_tokens)
        with torch.autocast("cpu", torch.bfloat16, enabled=backbones.computes_in_bf16(torch.device("cpu"))):
            answers = expert.logits(tokens)
    path = path_of(out, rung, seed, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path.with_suffix(".partial.npy"), answers.astype(np.float32))
    path.with_suffix(".partial.npy").replace(path)


def parts(root: Path, seed: int) -> tuple[Split, Split, int]:
    """Return a seed's training sentences, the held-out sentences that all read, and the number of labels."""
    train, held_out, labels = corpora.read(root, "fdu-mtl")
    return some(train, PER_DOMAIN, seed), some(held_out, HELD_OUT, 0), labels


def some(split: Split, n: int, seed: int) -> Split:
    """Return n sentences of each domain, drawn by a seed."""
    rows = drawn(split.domains, n, seed)
    return Split([split.texts[row] for row in rows], split.labels[rows], [split.domains[row] for row in rows])


def vectors_of(out: Path, part: Split, name: str) -> np.ndarray:
    """Return the vectors of a part, kept under its name."""
    return corpora.vectors(out, f"fdu-mtl-ladder-{name}", part.texts)


def placed(out: Path, learned: Split, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the clusters of a seed's training sentences, the centres, and the sentences' vectors."""
    vectors = vectors_of(out, learned, str(seed))
    clusterer = clusterers.TABLE["balanced"](K, seed).fit(vectors)
    return clusterer.labels_, clusterer.centres_, vectors


def answers(root: Path, out: Path, rung: str, seed: int) -> dict[str, Any]:
    """Return the arrays of a rung whose models are all trained, named as `settings.answers` names them."""
    learned, asked, _ = parts(root, seed)
    _, centres, _ = placed(out, learned, seed)
    logits, layout = [np.load(path_of(out, rung, seed, model)) for model in MODELS], f"k={K} m={M}"
    return {f"{layout} experts held out": np.stack(logits, axis=1),
            f"{layout} distances held out": clusterers.distances(vectors_of(out, asked, "held-out"), centres),
            f"{layout} labels held out": asked.labels, "trained on": np.array(len(learned.texts))}
