"""Arrow: routing by adapters, on a layer worked out by hand and on a real tiny run."""

import numpy as np
import pytest
import torch
import transformers
from peft.tuners.lora import Linear as LoraLinear

from monju.errors import MonjuError
from monju.evaluation import arrow
from monju.evaluation.merge_runner import MergeRunner
from monju.inference.pipeline import Monju
from monju.models import backbones

TEXTS = ["a quiet triumph", "dull", "a film of great warmth and little plot"]


@pytest.fixture(scope="module")
def monju(tiny_run):
    return Monju.load(tiny_run)


def routed(monju, *names):
    backbone = backbones.from_pretrained(transformers.AutoModelForSequenceClassification, monju.config.backbone, num_labels=2)
    return arrow.arrow_model(backbone, [monju.run.path / "experts" / name for name in names])


def test_a_layer_by_hand(monju):
    model = routed(monju, "AB", "BC")
    layer = next(part for part in model.modules() if isinstance(part, LoraLinear))
    scale = layer.scaling["task_0"]
    with torch.no_grad():
        for number, name in enumerate(("task_0", "task_1")):  # B A = e_number u e_numberᵀ: it listens to one direction of h
            layer.lora_A[name].weight.zero_()[0, number] = 1
            layer.lora_B[name].weight.zero_()[number, 0] = 10
        h = torch.zeros(1, 1, layer.in_features)
        h[0, 0, :2] = torch.tensor([2.0, 1.0])
        found = (layer(h) - layer.base_layer(h))[0, 0] / scale
    # |v · h| = 2 and 1: c = e² / (e² + e) = 0.731 and 0.269; c_e · 10 · h_e
    assert found[:2].tolist() == pytest.approx([0.7311 * 20, 0.2689 * 10], rel=1e-3) and found[2:].abs().max() < 1e-4


def test_an_expert_routed_with_itself_is_that_expert(monju):
    tokens = MergeRunner(monju).tokens(TEXTS)
    found = arrow.Expert(routed(monju, "BC", "BC", "BC"), 0, torch.device("cpu")).logits(tokens)
    np.testing.assert_allclose(found, monju.outputs(TEXTS).of(["BC"])[:, 0], atol=1e-3)


def test_the_heads_are_averaged(monju):
    model = routed(monju, "AB", "BC", "CA")
    heads = model.base_model.model.classifier.modules_to_save
    mean = torch.stack([heads[f"task_{i}"].weight for i in range(3)]).mean(0)
    torch.testing.assert_close(heads["arrow_router"].weight, mean)
    assert not torch.equal(heads["task_0"].weight, heads["task_1"].weight)


@pytest.mark.parametrize("settings, why", [({"finetuning": "full"}, "--finetuning lora"),
                                           ({"backbones": "all-MiniLM-L6-v2,other"}, "different backbones")])
def test_what_is_no_adapter_of_one_backbone_is_refused(monju, settings, why):
    with pytest.raises(MonjuError, match=why):
        arrow.arrow_logits(MergeRunner(monju.under(**settings)), TEXTS)
