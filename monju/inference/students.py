"""Logits of a run's students, the models that were distilled from its ensemble."""

from __future__ import annotations

import numpy as np

from monju.inference.pipeline import Monju
from monju.models import backbones
from monju.models.classifier import Expert


def student_logits(monju: Monju, texts: list[str]) -> dict[str, np.ndarray]:
    """Return {student's name: logits [n, labels]} of texts [n], one forward pass each."""
    tokens = backbones.encode(monju.tokenizer, texts, monju.config.max_tokens)
    device = backbones.pick_device(monju.config.device)
    return {name: Expert.load(monju.run.path / "students" / name, len(monju.label_names),
                              monju.tokenizer.pad_token_id, device).logits(tokens)
            for name in monju.run.manifest.get("students", {})}
