"""The forward passes of known encoders, and their products in bf16."""

import numpy as np
import pytest
import torch
from test_batched import CPU, TEXTS, ensemble, fresh  # noqa: F401  # ensemble is a fixture

from monju.models import backbones, encoder
from monju.models.batched import BatchedModels


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_hidden_states_are_the_encoders_own(family):
    bare = fresh(family, 0).base_model
    ids, mask = backbones.pad([[5, 6, 7, 8], [9, 10]], 1)
    with torch.inference_mode():
        ours, theirs = encoder.hidden_states(bare)(ids, mask), bare(input_ids=ids, attention_mask=mask).last_hidden_state
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
    np.testing.assert_allclose(ours[1, :2], theirs[1, :2], atol=1e-5)


def test_bf16_products_come_in_few_sizes(ensemble, monkeypatch):  # noqa: F811
    """Each size that is new costs time and memory that is kept."""
    sizes, times = set(), encoder.Product.times
    monkeypatch.setattr(encoder.Product, "times", lambda self, x: [sizes.add(x.shape[0] if x.dtype == torch.bfloat16 else None),
                                                                 times(self, x)][1])
    members = [(expert.model, None) for expert in ensemble.models.values()]
    rough, lengths = BatchedModels(members, 0, CPU, bf16=True), range(2, 47)
    for length in lengths:
        rough.logits([[5] * length] * 20)
    assert None not in sizes and len(sizes) < 30 < len(lengths)
    assert [encoder.round_up(rows) for rows in (1, 16, 17, 255, 256, 1000)] == [16, 16, 32, 256, 256, 1024]


def test_weights_laid_out_for_the_processor_change_nothing(ensemble, monkeypatch):  # noqa: F811
    """Nor does it where torch lacks the operator for them."""
    members, tokens = [(expert.model, None) for expert in ensemble.models.values()], backbones.encode(ensemble.tokenizer, TEXTS * 4, 48)
    laid_out = BatchedModels(members, 0, CPU, bf16=True)
    monkeypatch.setattr(encoder, "HAS_PACKED_LINEAR", False)
    plain = BatchedModels(members, 0, CPU, bf16=True)
    kinds = [{product.linear for _, ask in each.apart for product in ask.products} for each in (laid_out, plain)]
    assert kinds == [{encoder.packed_linear}, {torch.nn.functional.linear}]
    np.testing.assert_allclose(laid_out.logits(tokens)[0], plain.logits(tokens)[0], atol=1e-3)
