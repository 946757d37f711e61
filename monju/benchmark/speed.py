"""Benchmarks: Monju's speed beside what one would otherwise use, in turn, in one process tree.

`predict`: six transformers pipelines one after another, on a GPU also in bf16 with torch.compile; elsewhere
six ONNX Runtime sessions.
`train`: transformers' Trainer with its ordinary recipe, and tuned. Timings are ratios within one
run: everything is measured in rounds, each contender once a round, and medians are compared.
"""

import importlib.util
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from monju.benchmark.readers import CompiledPipelines, Ours, Pipelines, Sessions, export, quantized
from monju.benchmark.timing import clocked, made_up, turn
from monju.benchmark.trainers import Bench
from monju.data import sources
from monju.errors import MonjuError
from monju.inference.pipeline import Monju
from monju.models import backbones
from monju.models.classifier import Expert
from monju.training.local_engine import in_a_process
from monju.training.pipeline import machine, versions
from monju.utils.files import ROOT

STEPS = 100  # of each contender in training: the first few, with shapes not met before, are slower
PEER_LIMIT_S = 240  # for one measurement of a peer that compiles or trains, its start included
COMPILE = {"cuda": {"mode": "reduce-overhead"}}  # how pipelines are compiled, by device; not on others


# ---- predict -----------------------------------------------------------------------------------------------


def predict(run=None, data=None, rounds=40, passes=1, together=None, device="auto", tell=lambda text: None):
    """Time one sentence and all sentences through the run's models and through each peer.

    Parameters
    ----------
    run : path, optional
        A finished run's folder; by default the one that ships.
    data : str, optional
        A labelled source; by default the run's own, or made-up sentences.
    rounds : int
        Sentences that are timed one at a time.
    passes : int
        How often all sentences are timed together.
    together : int, optional
        How many sentences are read together; by default all.
    device : str
        "auto", "cpu" or "cuda".
    tell : callable
        Called with one line of text for each stage.

    Returns
    -------
    dict
        {"ours", "peers", "ratio", "ratio_batch", "sentences", "source", "rounds", "machine"}. A contender has
        "median_ms", "p95_ms", "sentences_per_s" and "flipped_labels"; a peer that is not measured,
        "left_out".
    """
    import peft  # noqa: F401  # loading is timed after the imports

    began = time.perf_counter()
    monju = Monju.load(run or ROOT / "trained" / "sst2-minilm", device)
    load_seconds = time.perf_counter() - began
    texts, source = sentences(monju, data)
    if together:
        # of all lengths, whatever their order
        texts = [texts[row] for row in sources.stratified([0] * len(texts), together, seed=0)]
    device = backbones.pick_device(device)
    experts = models_of(monju, device)
    with tempfile.TemporaryDirectory() as folder:
        contenders, left_out = {"ours": Ours(monju), "pipelines": Pipelines(monju.tokenizer, experts)}, {}
        if missing := [name for name in ("onnx", "onnxruntime", "onnxscript")
                       if importlib.util.find_spec(name) is None]:
            left_out |= dict.fromkeys(("onnx", "onnx_int8"), f"not measured: install {' and '.join(missing)}")
        elif device.type == "cuda":
            left_out |= dict.fromkeys(("onnx", "onnx_int8"),
                                      "not measured: sessions on the CPU are no peer of a GPU")
        else:
            tell("Exporting the models to ONNX.")
            files = export(experts, Path(folder))
            contenders |= {"onnx": Sessions(monju, files), "onnx_int8": Sessions(monju, quantized(files))}
        for why in sorted(set(left_out.values())):
            tell(f"{' and '.join(name for name, reason in left_out.items() if reason == why)} {why}.")
        single_texts = [texts[number * 7 % len(texts)] for number in range(rounds)]
        measured = in_turn(contenders, single_texts, texts, passes, tell)
    if device.type in COMPILE:
        try:
            tell("pipelines_compiled: in a process of its own.")
            measured["pipelines_compiled"] = in_a_process(
                compiled, monju.run.path, device, COMPILE[device.type], single_texts, texts, passes,
                limit=PEER_LIMIT_S)
        except TimeoutError:
            left_out["pipelines_compiled"] = f"not ended after {PEER_LIMIT_S} s"
        except RuntimeError as error:  # a machine without a compiler, for one
            left_out["pipelines_compiled"] = f"not measured: {str(error).strip().splitlines()[0]}"
    labels = measured["ours"][2].argmax(-1)
    report = {name: {"median_ms": 1000 * float(np.median(single_seconds)),
                     "p95_ms": 1000 * float(np.quantile(single_seconds, 0.95)),
                     "sentences_per_s": len(texts) / float(np.median(batch_seconds)),
                     # labels that differ from ours, of every model on every sentence
                     "flipped_labels": int((outputs.argmax(-1) != labels).sum())}
              for name, (single_seconds, batch_seconds, outputs) in measured.items()}
    ours = report.pop("ours") | {"load_s": load_seconds, "models": len(experts)}
    ratios = {"ratio": {name: peer["median_ms"] / ours["median_ms"] for name, peer in report.items()},
              "ratio_batch": {name: ours["sentences_per_s"] / peer["sentences_per_s"]
                              for name, peer in report.items()}}
    peers = report | {name: {"left_out": why} for name, why in left_out.items()}
    return {"ours": ours, "peers": peers, **ratios, "sentences": len(texts), "source": source,
            "rounds": rounds, "machine": machine(device) | versions()}


def models_of(monju, device):
    """Return the experts and the baseline of a run, each as a model of its own."""
    return [Expert.load(monju.run.path / kind / name, len(monju.labels), monju.tokenizer.pad_token_id, device)
            for kind, names in (("experts", monju.experts), ("baseline", monju.members)) for name in names]


def in_turn(contenders, single_texts, texts, passes, tell=lambda text: None):
    """Return {name: (seconds of each single text, seconds of each pass over all texts, last outputs)}."""
    single_seconds, batch_seconds = ({name: [] for name in contenders} for _ in range(2))
    outputs = {}
    tell(f"One sentence at a time: {len(single_texts)} rounds.")
    # warm, as a page is that has been up for a while: every length has been met
    for contender in contenders.values():
        for text in single_texts:
            contender.one(text)
    for number, text in enumerate(single_texts):
        for name, contender in turn(contenders, number):
            single_seconds[name].append(clocked(contender.one, text)[0])
    tell(f"All {len(texts):,} sentences together, {passes} times.")
    for number in range(passes):
        for name, contender in turn(contenders, number):
            seconds, outputs[name] = clocked(contender.all, texts)
            batch_seconds[name].append(seconds)
    return {name: (single_seconds[name], batch_seconds[name], outputs[name]) for name in contenders}


def compiled(path, device, options, single_texts, texts, passes):
    """Return what `in_turn` does, of a run's models as compiled pipelines."""
    monju = Monju.load(path, device.type)
    pipelines = CompiledPipelines(monju.tokenizer, models_of(monju, device), **options)
    pipelines.all(texts)  # compiles
    return in_turn({"compiled": pipelines}, single_texts, texts, passes)["compiled"]


def sentences(monju, data):
    """Return (texts, source): of `data`, of the run's own source where it can be read, else made-up ones."""
    if data:
        split = sources.load_labelled(data, monju.labels, monju.label_names)
        return split.texts, data
    try:
        split = sources.load_labelled(monju.config.data, monju.labels, monju.label_names)
        return split.texts, monju.config.data
    except MonjuError:
        return made_up(872), "made up, of SST-2's lengths"


# ---- train -------------------------------------------------------------------------------------------------


def train(config, steps=None, seconds=None, rounds=1, tell=lambda text: None):
    """Train three experts for some steps as `train` does, and one model with each Trainer.

    Parameters
    ----------
    config : Config
        The settings of training.
    steps : int, optional
        Steps of each model.
    seconds : float, optional
        About how long the ordinary Trainer is to take, instead of `steps`.
    rounds : int
        How often each is timed, in turn.
    tell : callable
        Called with one line of text for each stage.

    Returns
    -------
    dict
        {"ours", "peers", "ratio", "ratio_tokens", "ratio_steady" (without the first quarter of the steps),
        "steps", "batch_size", "backbone", "finetuning", "source", "matmul_flops_per_s", "machine"}. A peer
        that did not end in its time is {"left_out": why}, and has no ratio.
    """
    device = backbones.pick_device(config.device)
    try:
        data = sources.load(config.data, sample=config.sample)
        texts, labels, source = data.train.texts, data.train.labels, config.data
    except MonjuError as error:
        texts, source = made_up(20_000, mean=9.4, spread=8), f"made up, of SST-2's lengths ({error})"
        labels = np.random.default_rng(0).integers(0, 2, len(texts))
    tokenizer = backbones.tokenizer(config.backbone)
    tokens = backbones.encode(tokenizer, texts, config.max_tokens)
    bench = Bench(config, tokens, np.asarray(labels), [str(label) for label in sorted(set(labels.tolist()))],
                  tokenizer,
                  steps or STEPS, device.type)
    if seconds and not steps:
        trial = in_a_process(bench.trainer, False)
        bench = replace(bench, steps=max(5, round(seconds / trial["seconds"] * bench.steps)))
        tell(f"{bench.steps} steps: about {seconds:g} s with the ordinary Trainer.")
    rounds_of = {"ours": [], "trainer": [], "trainer_tuned": []}
    contenders = {"ours": bench.ours,
                  "trainer": lambda: in_a_process(bench.trainer, False, limit=PEER_LIMIT_S),
                  "trainer_tuned": lambda: in_a_process(bench.trainer, True, limit=PEER_LIMIT_S)}
    for number in range(rounds):
        for name, measure in turn(contenders, number):
            try:
                measured = measure()
            except TimeoutError:
                tell(f"{name}: not ended after {PEER_LIMIT_S} s")
                continue
            rounds_of[name].append(measured)
            tell(f"{name}: {measured['sentences'] / measured['seconds']:.0f} sentences/s")
    rates = in_a_process(bench.matmul_rates)
    peers = {name: summary(measured, rates) if measured else {"left_out": f"not ended after {PEER_LIMIT_S} s"}
             for name, measured in rounds_of.items()}
    ours = peers.pop("ours")

    def ratio(what):
        return {name: ours[what] / peer[what] for name, peer in peers.items() if what in peer}

    return {"ours": ours, "peers": peers, "ratio": ratio("sentences_per_s"),
            "ratio_tokens": ratio("tokens_per_s"), "ratio_steady": ratio("steady_sentences_per_s"),
            "steps": bench.steps, "batch_size": config.batch_size, "backbone": config.backbone,
            "finetuning": config.finetuning,
            "source": source, "matmul_flops_per_s": rates, "machine": machine(device) | versions()}


def summary(rounds, rates):
    """Return one contender's numbers, of the round of median speed."""
    by_speed = sorted(rounds, key=lambda measured: measured["sentences"] / measured["seconds"])
    median = by_speed[len(rounds) // 2]
    return {"sentences_per_s": median["sentences"] / median["seconds"],
            "steady_sentences_per_s": median["steady"], **median["profile"],
            "tokens_per_s": median["tokens"] / median["seconds"],
            "padding_share": 1 - median["tokens"] / median["padded"], "peak_memory_bytes": median["memory"],
            "flops": median["flops"], "precision": "bf16" if median["bf16"] else "fp32",
            "share_of_matmul_rate": median["flops"] / median["seconds"]
            / rates["bf16" if median["bf16"] else "fp32"],
            "seconds": median["seconds"]}
