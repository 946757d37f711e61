"""Learning: the lean forward pass has the whole model's loss and gradients."""

import pytest
import torch
import transformers

from monju.config import Config
from monju.models import train_forward
from monju.models.adapters import with_adapter

SIZES = dict(vocab_size=50, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, max_position_embeddings=40,
             num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
SENTENCES = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 1, 1], [15, 16, 17, 18, 19, 1]])  # 1 pads
LABELS = torch.tensor([0, 2, 1])


def made(family, **changes):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, pad_token_id=1, **{**SIZES, **changes})
    return transformers.AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").train()


def adapted(model):
    model = with_adapter(model, Config(lora_rank=4))
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # zero at the start: nothing to see
            torch.nn.init.normal_(weight, std=0.1)
    return model.train()


def gradients(model, logits):
    model.zero_grad()
    torch.nn.functional.cross_entropy(logits, LABELS).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "of one length"])
@pytest.mark.parametrize("family, adapter", [("bert", False), ("roberta", False), ("xlm-roberta", False), ("bert", True), ("roberta", True),
                                             ("distilbert", False), ("distilbert", True)])
def test_logits_and_gradients_are_the_whole_models(family, adapter, padded):
    if family == "distilbert":  # no encoder of the kind that is known: asked as it is
        torch.manual_seed(0)
        model = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(
            vocab_size=50, dim=24, n_layers=2, n_heads=4, hidden_dim=48, num_labels=3, dropout=0.0, attention_dropout=0.0,
            seq_classif_dropout=0.0)).train()
    else:
        model = made(family)
    model = adapted(model) if adapter else model
    ids = SENTENCES if padded else SENTENCES[:, :4]
    mask = (ids != 1).long()
    whole = model(input_ids=ids, attention_mask=mask).logits
    ours = train_forward.forward(model)({"input_ids": ids}, mask if padded else None)
    torch.testing.assert_close(ours, whole, atol=1e-6, rtol=1e-5)
    expected, found = gradients(model, whole), gradients(model, ours)
    assert {name for name, gradient in expected.items() if gradient.abs().max() > 0} <= found.keys() <= expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4, msg=name)


def test_the_last_layer_is_worked_out_for_the_first_token_alone():
    """The work, counted: of each linear layer's rows, six tokens of three sentences, the last layer's but one a sentence."""
    model, rows = made("bert"), {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda module, given, _, name=name: rows.__setitem__(name, given[0].shape[:-1].numel()))
    train_forward.forward(model)({"input_ids": SENTENCES}, None)
    last = "bert.encoder.layer.2."
    assert {name: count for name, count in rows.items() if name.startswith(last)} == {
        last + "attention.self.query": 3, last + "attention.self.key": 18, last + "attention.self.value": 18,
        last + "attention.output.dense": 3, last + "intermediate.dense": 3, last + "output.dense": 3}
    assert rows["bert.encoder.layer.1.output.dense"] == 18


@pytest.mark.parametrize("wanted", [6, 1])
@pytest.mark.parametrize("padded", [True, False])
def test_attention_in_one_kernel_is_the_same(padded, wanted):
    """What a GPU takes, here on the CPU: values and gradients."""
    torch.manual_seed(0)
    attention = made("bert").bert.encoder.layer[0].attention.self
    seen, found = (SENTENCES != 1)[:, None, None] if padded else None, []
    query, key, value = torch.randn(3, 4, wanted, 6), torch.randn(3, 4, 6, 6), torch.randn(3, 4, 6, 6)
    for fused in (True, False):
        given = [each.clone().requires_grad_() for each in (query, key, value)]
        mixed = train_forward.attend(attention, *given, seen, fused)
        mixed.square().sum().backward()
        found.append([mixed, *(each.grad for each in given)])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_decoder_is_no_encoder_of_that_kind():
    assert train_forward.is_known(made("bert")) and not train_forward.is_known(made("bert", is_decoder=True))


def test_attention_is_dropped_while_training_alone():
    model = made("bert", attention_probs_dropout_prob=0.5)
    ask = train_forward.forward(model)
    assert not torch.equal(ask({"input_ids": SENTENCES}, None), ask({"input_ids": SENTENCES}, None))
    model.eval()
    torch.testing.assert_close(ask({"input_ids": SENTENCES}, None), ask({"input_ids": SENTENCES}, None))
