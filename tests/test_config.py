"""The schema refuses what cannot be, in one sentence that names the flag, and survives JSON."""

import dataclasses
import json

import numpy as np
import pytest

from monju import config, presets
from monju.config import SETTINGS, Config
from monju.errors import MonjuError
from monju.presets import PRESETS


def having(bound):
    """Every setting with a bound of this kind, and where it lies."""
    return pytest.mark.parametrize(
        "name, limit", [(name, config.bounds(name)[bound])
                        for name in SETTINGS if bound in config.bounds(name)])


def ask(name, value):
    """A configuration with this value; the smallest subset size, so that only the value can be wrong."""
    return Config(**{"subset_size": 1, name: value})


def refused(name, value):
    """The one sentence with which this value is refused."""
    with pytest.raises(MonjuError) as caught:
        ask(name, value)
    told = str(caught.value)
    assert told.startswith(config.flag(name) + " ")
    assert "\n" not in told
    return told


def just_below(name, limit):
    return limit - 1 if config.kind(name) is int else np.nextafter(limit, -np.inf)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_explained_and_has_a_place_in_the_form(name):
    assert SETTINGS[name].description
    assert config.group(name) in ("data", "clusters", "fusion", "fine-tuning", "machine")
    assert config.kind(name) in (bool, int, float, str, list)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_default_passes_its_own_check(name):
    default = SETTINGS[name].default
    for found in (getattr(Config(), name), getattr(Config(**{name: default}), name)):
        assert found == default and type(found) is type(default)


@having("ge")
def test_the_least_is_allowed_and_less_is_not(name, limit):
    assert getattr(ask(name, limit), name) == limit
    assert f"at least {limit}" in refused(name, just_below(name, limit))


@having("gt")
def test_an_open_lower_bound_is_not_reached(name, limit):
    assert f"more than {limit}" in refused(name, limit)
    assert getattr(ask(name, limit + 1e-9), name) == limit + 1e-9


@having("lt")
def test_an_open_upper_bound_is_not_reached(name, limit):
    assert f"below {limit}" in refused(name, limit)
    assert getattr(ask(name, just_below(name, limit)), name) == just_below(name, limit)


@pytest.mark.parametrize("name", [name for name in SETTINGS if config.choices(name)])
def test_only_the_choices_can_be_chosen(name):
    for choice in config.choices(name):
        other = {"gate": {"clusterer": "gmm"}, "finetuning": {"task": "lm"}}.get(name, {})
        assert getattr(Config(**{name: choice, **other}), name) == choice
    told = refused(name, "nonsense")
    assert "nonsense" in told and all(choice in told for choice in config.choices(name))


def test_choices_that_are_parts_come_from_the_parts_table():
    assert config.choices("embedder") == ("tfidf", "sbert", "backbone")
    assert config.choices("clusterer") == ("balanced", "kmeans", "gmm", "several-centres", "random", "domain")
    assert config.choices("gate") == ("distance", "inverse-distance", "nearest", "membership", "posterior")
    assert config.choices("fusion") == ("logits", "probabilities", "product")
    assert config.choices("k") is None


@pytest.mark.parametrize("name, value", [
    ("k", 2.5), ("k", "x"), ("k", True), ("k", None), ("k", [3]), ("k", float("nan")), ("k", float("inf")),
    ("sample", 10.5), ("sample", ""), ("seed", 2**53 + 1), ("seed", 10**400),
    ("learning_rate", float("nan")), ("learning_rate", float("inf")), ("learning_rate", True),
    ("learning_rate", "fast"), ("learning_rate", None), ("learning_rate", "nan"), ("learning_rate", 10**400),
    ("sharpness", -float("inf")),
    ("baselines", 1), ("baselines", "yes"), ("baselines", None), ("equal_cost", 0),
    ("data", None), ("data", 3), ("data", True), ("text_column", 3), ("embedder", 3), ("embedder", ["tfidf"]),
    ("label_names", "positive"), ("label_names", None), ("label_names", 3), ("label_names", [None]),
    ("label_names", [[]]), ("label_names", [1.5]), ("label_names", {"no": 0}),
    # what pydantic alone would take
    ("k", b"4"), ("data", b"sst2"), ("seed", False), ("batch_size", 10**400), ("batch_size", "9" * 400),
    # what cannot be hashed, or is infinite in JSON
    ("gate", {}), ("precision", []), ("device", None), ("epochs", json.loads("1e400")),
    ("epochs", {"a": [{}]}), ("sample", {}),
], ids=repr)
def test_a_value_of_another_kind_is_refused(name, value):
    refused(name, value)


@pytest.mark.parametrize("name", ["k", "sample", "workers", "epochs", "data", "gate", "baselines",
                                  "label_names"])
def test_what_python_itself_cannot_print_is_refused(name):
    nest = []
    for _ in range(100_000):
        nest = [nest]
    for value in (nest, 10**5000, -(10**5000)):
        refused(name, value)


def test_a_refused_value_cannot_break_the_sentence_into_lines():
    assert r"'a\nb'" in refused("k", "a\nb")


@pytest.mark.parametrize("name, value, kept", [
    ("k", 4.0, 4), ("k", np.int64(4), 4), ("k", "4", 4),  # a slider gives 4.0, a table an int64
    ("epochs", 2, 2.0), ("epochs", np.float32(0.5), 0.5), ("sharpness", "8", 8.0),
    ("label_names", ("no", "yes"), ["no", "yes"]), ("label_names", [0, 1], ["0", "1"]),
    ("sample", None, None), ("top_k", None, None),
])
def test_a_value_is_kept_in_the_settings_own_kind(name, value, kept):
    found = getattr(Config(**{name: value}), name)
    assert found == kept and type(found) is type(kept)


@pytest.mark.parametrize("k, m", [(3, 3), (2, 2), (3, 5)])
def test_an_expert_must_not_learn_every_cluster(k, m):
    with pytest.raises(MonjuError, match=f"--subset-size {m} must be smaller than --k {k}"):
        Config(k=k, subset_size=m)


def test_there_are_at_most_64_experts():
    # C(8, 4) = 70, C(8, 3) = 56, C(12, 2) = 66, C(11, 2) = 55, C(26, 25) = 26
    for k, m, experts in [(8, 4, 70), (12, 2, 66)]:
        with pytest.raises(MonjuError, match=f"--k {k} with --subset-size {m} asks for {experts} experts"):
            Config(k=k, subset_size=m)
    for k, m in [(8, 3), (11, 2), (26, 1), (26, 25)]:
        assert Config(k=k, subset_size=m).subset_size == m


@pytest.mark.parametrize("clusterer", ["balanced", "kmeans"])
def test_the_posterior_gate_is_refused_before_a_training_that_could_not_use_it(clusterer):
    with pytest.raises(MonjuError, match="--gate posterior needs --clusterer gmm"):
        Config(gate="posterior", clusterer=clusterer)


def test_a_run_with_a_setting_that_is_gone_is_read():
    assert Config.from_json({"k": 4, "compile": True}) == Config(k=4)


def test_an_unknown_setting_is_named():
    with pytest.raises(MonjuError, match="unknown setting 'colour'.*learning_rate"):
        Config.from_json({"k": 3, "colour": "red"})


def test_json_keeps_every_setting():
    changed = Config(data="reviews.csv", text_column="review", label_names=["no", "yes"], sample=100, k=4,
                     subset_size=1, gate="membership", top_k=2, temperature=0.3, baselines=False, seed=7)
    text = json.dumps(changed.to_json())
    assert Config.from_json(json.loads(text)) == changed
    assert list(changed.to_json()) == list(SETTINGS) == [field.name for field in dataclasses.fields(Config)]


def test_settings_that_json_leaves_out_have_their_defaults():
    assert Config.from_json({}) == Config()


def test_the_json_is_a_copy():
    original = Config(label_names=["no", "yes"])
    original.to_json()["label_names"].append("perhaps")
    assert original.label_names == ["no", "yes"]
    assert Config().label_names is not Config().label_names


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().k = 4
    assert dataclasses.replace(Config(), k=4).k == 4
    with pytest.raises(MonjuError, match="--k cannot be 1"):
        dataclasses.replace(Config(), k=1)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_configurations(name):
    found = Config.from_json(PRESETS[name])
    assert {setting: getattr(found, setting) for setting in PRESETS[name]} == PRESETS[name]
    assert presets.choose_preset(name) == (name, f"Preset {name}.")


def test_the_posters_preset_is_the_posters_recipe():
    found = Config.from_json(PRESETS["poster"])
    assert (found.backbone, found.finetuning, found.data) == ("FacebookAI/roberta-base", "full", "sst2")
    assert (found.learning_rate, found.batch_size, found.epochs) == (2e-5, 32, 3.0)
    assert (found.warmup, found.weight_decay) == (0.06, 0.1)
    assert (found.k, found.subset_size, found.embedder, found.clusterer) == (3, 2, "tfidf", "balanced")
    assert (found.gate, found.sharpness, found.fusion) == ("distance", 1.0, "logits")


@pytest.mark.parametrize("gpu, hub, preset, reason", [
    (False, True, "laptop", "no GPU"), (True, False, "laptop", "does not answer"),
    (True, True, "poster", "hub answers")])
def test_auto_says_which_preset_and_why(monkeypatch, gpu, hub, preset, reason):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("monju.data.hub.answers", lambda: hub)
    name, told = presets.choose_preset("auto")
    assert name == preset
    assert reason in told and "\n" not in told
