"""A backbone for each expert: each reads with its own tokenizer, gates and fusion do not care, merging says why not."""

import numpy as np
import pytest
from conftest import tiny_size
from transformers import DistilBertConfig, DistilBertModel

from monju.config import Config
from monju.data import sources
from monju.errors import MonjuError
from monju.evaluation.comparison import compare
from monju.inference.pipeline import Monju
from monju.models import backbones
from monju.models.classifier import Expert
from monju.training.pipeline import train


@pytest.fixture(scope="module")
def mixed(movies, tiny_bert, tmp_path_factory):
    """(folder of a run whose first expert is a tiny BERT with MiniLM's words and whose second a tiny DistilBERT with words of its
    own, that one's folder)."""
    folder = tmp_path_factory.mktemp("tiny") / "distil"
    texts = sources.load(str(movies)).train.texts
    own = backbones.tokenizer("all-MiniLM-L6-v2").train_new_from_iterator(texts, 400)
    DistilBertModel(DistilBertConfig(vocab_size=len(own), dim=32, n_layers=2, n_heads=2, hidden_dim=64, pad_token_id=own.pad_token_id)).save_pretrained(folder)
    own.save_pretrained(folder)
    out = tmp_path_factory.mktemp("mixed") / "run"
    config = Config(data=str(movies), backbones=f"{tiny_bert},{folder}", embedder="tfidf", k=2, subset_size=1, epochs=1, sample=60, max_tokens=32,
                    precision="fp32", device="cpu", workers=1, tuning_size=20, finetuning="full", map_size=8)
    for _ in train(config, out):
        pass
    return out, str(folder)


def test_every_expert_answers_as_it_would_alone(mixed, tiny_bert):
    out, folder = mixed
    monju = Monju.load(out, "cpu")
    texts = ["a quiet triumph", "two hours of my life, gone", "it is what it is"]
    votes = monju.outputs(texts)
    for name, kind, backbone in (("A", "experts", str(tiny_bert)), ("B", "experts", folder), ("seed1", "baseline", folder)):
        tokenizer = backbones.tokenizer(backbone)
        alone = Expert.load(out / kind / name, 2, tokenizer.pad_token_id, backbones.pick_device("cpu"))
        assert votes.of([name])[:, 0] == pytest.approx(alone.logits(backbones.encode(tokenizer, texts, 32)), abs=1e-5)
    assert len(monju.groups) == 2 and np.allclose(monju.read(texts)[0].monju.logits, sum(
        alpha * votes.of([name])[0, 0] for name, alpha in monju.read(texts)[0].alpha.items()), atol=1e-6)


def test_they_are_compared_but_not_merged(mixed, movies):
    out, _ = mixed
    data = sources.load(str(movies))
    found = compare(Monju.load(out, "cpu", controls=True), data.validation.labels, data.validation.texts)
    assert {"monju", "baseline", "uniform"} <= {row["name"] for row in found["rows"]}
    sizes = {row["name"]: row["parameters"] for row in found["rows"]}
    assert sizes["monju"] == sizes["A"] + sizes["B"] and sizes["A"] == tiny_size() > 20 * sizes["B"]
    assert not [row for row in found["rows"] if row["kind"] == "merge"]
    assert any(row["name"] == "TIES" and "different backbones" in row["reason"] for row in found["left_out"])


def test_a_model_of_another_run_is_a_backbone_transfer(mixed, movies, tmp_path):
    out, _ = mixed
    config = Config(data=str(movies), backbone=str(out / "experts" / "A"), k=2, subset_size=1, epochs=0.1, sample=60, max_tokens=32,
                    learning_rate=1e-9, baselines=False, precision="fp32", device="cpu", workers=1, embedder="tfidf", map_size=8)
    for _ in train(config, tmp_path / "run"):
        pass
    text = ["a quiet triumph"]
    before = Monju.load(out, "cpu").outputs(text).of(["A"])[:, 0]
    assert Monju.load(tmp_path / "run", "cpu").outputs(text).of(["A"])[:, 0] == pytest.approx(before, abs=1e-3)


def test_more_backbones_than_experts_and_rounds_of_unlike_ones_are_refused():
    with pytest.raises(MonjuError, match="--backbones names 4 for 3 experts"):
        Config(backbones="a,b,c,d")
    with pytest.raises(MonjuError, match="different --backbones have no average"):
        Config(backbones="a,b,c", rounds=2)
