"""What a run's students, the models that were distilled from its ensemble, say of sentences."""

from monju.models import backbones
from monju.models.classifier import Expert


def student_logits(monju, texts):
    """What a run's students say of texts [n]: {name: logits [n, labels]}, one forward pass each."""
    tokens = backbones.encode(monju.tokenizer, texts, monju.config.max_tokens)
    return {name: Expert.load(monju.run.path / "students" / name, len(monju.label_names), monju.tokenizer.pad_token_id,
                              backbones.pick_device(monju.config.device)).logits(tokens)
            for name in monju.run.manifest.get("students", {})}
