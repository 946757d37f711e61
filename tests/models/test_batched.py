"""Answering together changes no logit, and how much work it is."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
import torch
import transformers

import monju
from monju.config import Config
from monju.models import backbones, batched
from monju.models.adapters import factors
from monju.models.batched import BatchedModels
from monju.models.classifier import Expert
from monju.models.encoder import Encoder, is_known

TEXTS = ["a quiet triumph", "dull , loud and far too long for what little it has to say", "see it twice !"]
CPU = torch.device("cpu")
SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
         "max_position_embeddings": 40, "num_labels": 3}


@pytest.fixture(scope="module")
def ensemble(tiny_run):
    return monju.load(tiny_run, device="cpu")


@pytest.fixture
def cores():
    """A function that says on how many cores to compute, for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def plain(model, tokens):
    """The model's own logits, a sentence at a time."""
    with torch.inference_mode():
        return np.concatenate([model(input_ids=torch.tensor([ids])).logits.numpy() for ids in tokens])


def fresh(family, seed):
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(family, **SMALL, pad_token_id=1)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn_like(weight)  # biases and norms too
    return model


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "distilbert"])
def test_models_that_share_nothing_answer_as_they_would_alone(family):
    models = [fresh(family, seed) for seed in (0, 1)]
    tokens = [np.random.default_rng(n).integers(4, 300, n).tolist() for n in (2, 17, 5, 9)]
    logits, _ = BatchedModels([(model, None) for model in models], 1, CPU).logits(tokens)
    for place, model in enumerate(models):
        np.testing.assert_allclose(logits[:, place], plain(model, tokens), atol=1e-5)
    assert is_known(models[0]) == (family != "distilbert")


@pytest.mark.parametrize("number", [1, 2])
def test_adapters_of_one_backbone_share_its_products_and_answer_as_merged(ensemble, cores, number):
    cores(number)
    members = [(expert.model, expert.low_rank) for expert in ensemble.models.values()]
    together = BatchedModels(members, 0, CPU, ensemble.clustering.embedder.encoder())
    tokens = backbones.encode(ensemble.tokenizer, TEXTS, 48)
    assert [places for places, _ in together.groups] == ([[0, 1, 2, 3, 4, 5]] if number == 1 else [[0, 1, 2, 3], [4, 5]])
    logits, vectors = together.logits_and_vectors(tokens, ensemble.clustering.embedder.pool)
    for place, (model, _) in enumerate(members):
        np.testing.assert_allclose(logits[:, place], plain(model, tokens), atol=1e-5)
    np.testing.assert_allclose(vectors, ensemble.clustering.embedder.transform(TEXTS), atol=1e-6)
    np.testing.assert_allclose(together.logits(tokens)[0], logits, atol=1e-6)
    many, beside = together.logits(tokens * 12, beside=lambda: "meanwhile")  # more than a few: each model on its own
    np.testing.assert_allclose(many[:3], logits, atol=1e-5)
    assert beside == "meanwhile"


def test_bf16_moves_logits_a_little(ensemble, cores):
    cores(2)
    members, guest = [(expert.model, expert.low_rank) for expert in ensemble.models.values()], ensemble.clustering.embedder.encoder()
    tokens, pool = backbones.encode(ensemble.tokenizer, TEXTS * 12, 48), ensemble.clustering.embedder.pool
    full, rough = BatchedModels(members, 0, CPU, guest), BatchedModels(members, 0, CPU, guest, bf16=True)
    for asked in (tokens[:3], tokens):  # a few, and many
        for one, other in zip(full.logits_and_vectors(asked, pool), rough.logits_and_vectors(asked, pool)):
            assert 0 < np.abs(one - other).max() < 0.02
    np.testing.assert_allclose(full.logits(tokens[:3])[0], plain_all(members, tokens[:3]), atol=1e-5)  # whose weights are as they were


@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_some_members_are_asked_about_some_sentences(ensemble, adapted, monkeypatch):
    members = [(expert.model, expert.low_rank if adapted else None) for expert in ensemble.models.values()]
    together, tokens = BatchedModels(members, 0, CPU, ensemble.clustering.embedder.encoder()), backbones.encode(ensemble.tokenizer, TEXTS, 48)
    wanted = np.zeros((len(tokens), len(members)), bool)
    wanted[0, 1] = wanted[2, 1] = wanted[1, 4] = True
    asked, answer = [], BatchedModels._answer
    monkeypatch.setattr(BatchedModels, "_answer", lambda self, tokens, rows, group, out, keep=None:
                        [asked.append((group[0], sorted(rows))), answer(self, tokens, rows, group, out, keep)])
    np.testing.assert_allclose(together.some_logits(tokens, wanted)[wanted], plain_all(members, tokens)[wanted], atol=1e-5)
    assert sorted(asked) == [([1], [0, 2]), ([4], [1])]


def plain_all(members, tokens):
    return np.stack([plain(model, tokens) for model, _ in members], axis=1)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_frozen_layers_are_read_once_for_all(ensemble, cores, adapted, number):
    """Above four frozen layers: the members' logits, the guest's vectors, and each frozen layer once for all of them."""
    cores(number)
    config = Config(finetuning="lora" if adapted else "full", frozen_layers=4, device="cpu", precision="fp32")
    members = []
    for seed in range(3):
        model = Expert.start(config, ["no", "yes"], 0, seed, CPU).model
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.requires_grad:
                    weight += 0.02 * torch.randn_like(weight)
        low_rank = factors(model, CPU) if adapted else None
        members.append(((model.merge_and_unload() if adapted else model).eval(), low_rank))
    embedder = ensemble.clustering.embedder
    together = BatchedModels(members, 0, CPU, embedder.encoder())
    assert together.guest and {encoder.trunk.depth for _, encoder in together.groups + together.apart} == {4}
    assert sum(tail.count for _, encoder in together.groups for tail in encoder.tails) == 4  # the guest too
    assert sum(len(encoder.tails) for _, encoder in together.groups) == (number if adapted else 4)
    tokens = backbones.encode(ensemble.tokenizer, TEXTS, 48)
    for asked in (tokens, tokens * 12):  # a few, and many
        logits, vectors = together.logits_and_vectors(asked, embedder.pool)
        np.testing.assert_allclose(logits[:3], plain_all(members, tokens), atol=1e-5)
        np.testing.assert_allclose(vectors[:3], embedder.transform(TEXTS), atol=1e-6)


def test_an_adapter_of_another_backbone_stays_apart(ensemble):
    members = [(expert.model, expert.low_rank) for expert in ensemble.models.values()][:3]
    model, low_rank = members[1]
    other = type(model)(model.config).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.bert.encoder.layer[2].output.dense.weight[3, 4] += 0.01
    mixed = BatchedModels([members[0], (other, low_rank), members[2]], 0, CPU)
    assert sorted(place for places, _ in mixed.groups for place in places) == [0, 1, 2]
    assert [1] in [places for places, _ in mixed.groups]
    tokens = backbones.encode(ensemble.tokenizer, TEXTS, 48)
    np.testing.assert_allclose(mixed.logits(tokens)[0][:, 1], plain(other, tokens), atol=1e-5)
    assert not BatchedModels([(other, low_rank), members[0]], 0, CPU, ensemble.clustering.embedder.encoder()).guest


def test_threads_are_as_before(ensemble, cores):
    cores(2)
    ensemble.votes(TEXTS)
    assert torch.get_num_threads() == 2


def test_a_sentence_takes_one_forward_pass_a_core_and_its_embedding_none(ensemble, cores, monkeypatch):
    """The work of one sentence, counted: what a faster machine would hide."""
    cores(2)
    again = monju.load(ensemble.run.path, device="cpu")
    passes, asked = [], Encoder.__call__
    monkeypatch.setattr(Encoder, "__call__", lambda self, ids, mask: passes.append(ids.numel()) or asked(self, ids, mask))
    monkeypatch.setattr(type(again.clustering.embedder), "transform", lambda *_: pytest.fail("a pass of its own"))
    found = again.votes(["a quiet triumph"])
    assert len(passes) == 2 and found.vectors.shape == (1, 384)


@pytest.mark.parametrize("name, batch, padding", [("stacks", batched.BATCH, 1.15), ("rough", batched.BATCH_IN_BF16, 1.3)])
def test_batches_hold_little_padding(ensemble, movies, monkeypatch, name, batch, padding):
    from monju.data import sources

    tokens = backbones.encode(ensemble.tokenizer, sources.load(str(movies)).train.texts, 48)
    padded, pad = [], backbones.pad
    monkeypatch.setattr(backbones, "pad", lambda *given: padded.append(pad(*given)) or padded[-1])
    [(_, _, asked)] = getattr(ensemble, name)
    asked.logits(tokens)
    models, cores = len(ensemble.models), asked.cores
    assert sum(ids.numel() for ids, _ in padded) <= padding * models * sum(map(len, tokens))
    assert len(padded) == models * cores * -(-len(tokens) // (cores * batch))  # every core has as many


def test_what_waits_to_be_read_is_dropped_when_its_reader_gives_up():
    """As after Ctrl-C: the interpreter would otherwise read it all before it ends."""
    go, begun = threading.Event(), []

    def work(number):
        begun.append(number)
        if number == 0:
            raise KeyboardInterrupt
        go.wait(10)

    do = ThreadPoolExecutor(2).submit
    tasks = [do(work, number) for number in range(20)]
    with pytest.raises(KeyboardInterrupt):
        batched.finish(tasks)
    go.set()
    wait(tasks)
    assert set(begun) <= {0, 1, 2} and sum(task.cancelled() for task in tasks) >= 17
