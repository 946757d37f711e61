"""Several models as one batch: no logit changes, whatever the architecture and whatever differs."""

import numpy as np
import peft
import pytest
import torch
import transformers

from monju.models import backbones
from monju.models.adapters import factors
from monju.models.classifier import Expert
from monju.models.members import BATCH, FEW, MemberEmbedding, MemberLinear, Members

CPU = torch.device("cpu")
SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
         "max_position_embeddings": 40, "num_labels": 3, "pad_token_id": 1}
FAMILIES = ["bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "electra", "modernbert"]
TOKENS = [np.random.default_rng(n).integers(4, 300, n).tolist() for n in (2, 17, 5, 9, 17, 3, 30, 8, 11, 4)]


def fresh(family, seed=0):
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(family, **SMALL)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    return shaken(model, model.named_parameters())


def shaken(model, weights):
    with torch.no_grad():
        for _, weight in weights:
            weight += 0.1 * torch.randn_like(weight)  # biases and norms too
    return model


def full(family, count=3):
    """Models that share no weight."""
    return [Expert(fresh(family, seed), 1, CPU) for seed in range(count)]


def adapted(family, count=3):
    """Adapters of one backbone, merged, with a head of their own."""
    experts = []
    for seed in range(count):
        model = fresh(family)
        head = [name for name, part in model.named_children() if name != model.base_model_prefix and list(part.parameters())]
        torch.manual_seed(10 + seed)
        model = peft.get_peft_model(model, peft.LoraConfig("SEQ_CLS", r=4, target_modules="all-linear", modules_to_save=head, exclude_modules=head))
        shaken(model, [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad])
        low_rank = factors(model, CPU)
        experts.append(Expert(model.merge_and_unload().eval(), 1, CPU, low_rank))
    return experts


def one_by_one(experts, tokens):
    """Each model's own logits, a sentence at a time."""
    with torch.inference_mode():
        return np.stack([np.concatenate([expert.model(input_ids=torch.tensor([ids])).logits.numpy() for ids in tokens])
                         for expert in experts], axis=1)


def mean(hidden, mask):
    return ((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy()


@pytest.mark.parametrize("n", [1, FEW, len(TOKENS)])
@pytest.mark.parametrize("make", [full, adapted])
@pytest.mark.parametrize("family", FAMILIES)
def test_members_answer_as_they_would_alone(family, make, n):
    experts = make(family)
    members = Members(experts)
    np.testing.assert_allclose(members.logits(TOKENS[:n]), one_by_one(experts, TOKENS[:n]), atol=1e-5)
    assert members.parameters == sum(weight.numel() for weight in experts[0].model.parameters())


def test_which_architectures_are_batched():
    """All with adapters; with all weights those in which every weight that differs is multiplied row by row."""
    assert all(Members(adapted(family)).apart is not None for family in FAMILIES)
    batched = {family: Members(full(family)).merged is not None for family in FAMILIES}
    assert batched == dict.fromkeys(FAMILIES, True) | {"mpnet": False}  # one table of relative positions for all rows


@pytest.mark.parametrize("make", [full, adapted])
@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_the_encoders_hidden_states_come_with_the_logits(family, make):
    """With adapters the encoder is their backbone; with all weights it is one more member."""
    experts, encoder = make(family), fresh(family).base_model
    members = Members(experts, encoder)
    if (family, make) == ("mpnet", full):
        assert not members.has_encoder
        return
    for tokens in (TOKENS[:2], TOKENS):
        logits, vectors = members.read(tokens, mean)
        np.testing.assert_allclose(logits, one_by_one(experts, tokens), atol=1e-5)
        for ids, vector in zip(tokens, vectors, strict=True):
            ids, mask = backbones.pad([ids], 1)
            with torch.inference_mode():
                np.testing.assert_allclose(vector, mean(encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask)[0], atol=1e-5)
        assert members.read(tokens)[1] is None


def test_an_adapter_of_another_backbone_is_merged_alone():
    experts = adapted("bert")
    with torch.no_grad():
        experts[1].model.bert.encoder.layer[2].output.dense.weight[3, 4] += 0.01
    members = Members(experts)
    assert members.apart is None and members.merged is not None
    np.testing.assert_allclose(members.logits(TOKENS[:2]), one_by_one(experts, TOKENS[:2]), atol=1e-5)


def test_what_is_shared_is_held_once():
    experts = adapted("bert")
    members, embeddings = Members(experts), experts[0].model.bert.embeddings
    for joined in (members.apart, members.merged):
        assert joined.bert.embeddings.word_embeddings.weight is embeddings.word_embeddings.weight
    linear = members.apart.bert.encoder.layer[0].output.dense
    assert linear.weight.shape == (32, 64) and linear.down.shape == (3, 64, 4)
    assert isinstance(members.merged.bert.encoder.layer[0].output.dense, MemberLinear) and not members.experts


def test_unlike_models_are_asked_one_after_another():
    experts = [*full("bert", 2), *full("roberta", 1)]
    members = Members(experts)
    assert members.merged is None
    np.testing.assert_allclose(members.logits(TOKENS), one_by_one(experts, TOKENS), atol=1e-5)


def test_one_model_alone():
    experts = full("bert", 1)
    np.testing.assert_allclose(Members(experts).logits(TOKENS), one_by_one(experts, TOKENS), atol=1e-5)


def test_member_embedding_by_hand():
    """Two members with tables of three rows; ids of positions come as one row for all."""
    tables = [{"weight": torch.tensor([[1.0], [2.0], [3.0]])}, {"weight": torch.tensor([[10.0], [20.0], [30.0]])}]
    layer = MemberEmbedding(torch.nn.Embedding(3, 1), tables)
    BATCH.rows = 2
    ids = torch.tensor([[0, 1], [2, 0], [0, 1], [2, 0]])  # two sentences, for both members
    assert layer(ids)[..., 0].tolist() == [[1, 2], [3, 1], [10, 20], [30, 10]]
    assert layer(torch.tensor([[0, 2]]))[..., 0].tolist() == [[1, 3], [1, 3], [10, 30], [10, 30]]


def test_batches_hold_little_padding(monkeypatch):
    members, padded, pad = Members(adapted("bert")), [], backbones.pad
    monkeypatch.setattr(backbones, "pad", lambda *given: padded.append(pad(*given)) or padded[-1])
    tokens = [[5] * (2 + n * 7 % 31) for n in range(200)]
    members.logits(tokens)
    assert sum(ids.numel() for ids, _ in padded) <= 1.1 * sum(map(len, tokens)) and len(padded) in (25, 26)  # as many for each core


def test_beside_weights_in_bf16_no_merged_ones_are_kept_in_full_precision():
    experts = adapted("bert")
    alone = one_by_one(experts, TOKENS)
    members = Members(experts, bf16=True)
    sizes = {name: sum(weight.nbytes for weight in joined.state_dict().values() if weight.dtype == torch.float32)
             for name, joined in vars(members).items() if isinstance(joined, torch.nn.Module)}
    assert sizes["rough"] == 0 and sizes["merged"] == sizes["apart"]
    np.testing.assert_allclose(members.logits(TOKENS), alone, atol=1e-5)
    np.testing.assert_allclose(members.read(TOKENS, rough=True)[0], alone, atol=0.1)
