"""Benchmarks: Monju's speed beside what one would otherwise use, in turn, in one process tree.

`predict`: six transformers pipelines one after another, and six ONNX Runtime sessions.
`train`: transformers' Trainer with its ordinary recipe, and tuned. Timings are ratios within one
run: everything is measured in rounds, each contender once a round, and medians are compared.
"""

import importlib.util
import logging
import resource
import tempfile
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import transformers

from monju.benchmark.gpu_profile import gpu_profile
from monju.data import sources
from monju.errors import MonjuError
from monju.inference.pipeline import Monju
from monju.models import backbones, train_forward
from monju.models.classifier import Expert
from monju.training import local_engine, trainer
from monju.training.local_engine import in_a_process
from monju.training.lockstep import wants_bf16
from monju.training.member import Training
from monju.training.pipeline import machine, versions
from monju.utils.files import ROOT

STEPS = 100  # of each contender in training: the first few, with shapes not met before, are slower
PEER_LIMIT_S = 240  # for one measurement of a peer in training, its start included
BATCH = 32  # of the peers: what the pipelines were fastest with
WORDS = ["film", "story", "the", "a", "of", "and", "is", "it", "with", "heart", "slow", "dull", "bright",
         "cast", "scene", "never", "quite", "funny", "sad", "long", "plot", "director", "music", "charm",
         "waste", "time"]


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
    experts = [Expert.load(monju.run.path / kind / name, len(monju.labels), monju.tokenizer.pad_token_id,
                           device)
               for kind, names in (("experts", monju.experts), ("baseline", monju.members)) for name in names]
    with tempfile.TemporaryDirectory() as folder:
        contenders, left_out = {"ours": Ours(monju), "pipelines": Pipelines(monju, experts)}, {}
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
        outputs = {}
        single_seconds, batch_seconds = ({name: [] for name in contenders} for _ in range(2))
        tell(f"One sentence at a time: {rounds} rounds.")
        single_texts = [texts[number * 7 % len(texts)] for number in range(rounds)]
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
    report = {name: {"median_ms": 1000 * float(np.median(single_seconds[name])),
                     "p95_ms": 1000 * float(np.quantile(single_seconds[name], 0.95)),
                     "sentences_per_s": len(texts) / float(np.median(batch_seconds[name]))}
              for name in contenders}
    for name in contenders:  # labels that differ from ours, of every model on every sentence
        report[name]["flipped_labels"] = int((outputs[name].argmax(-1) != outputs["ours"].argmax(-1)).sum())
    ours = report.pop("ours") | {"load_s": load_seconds, "models": len(experts)}
    ratios = {"ratio": {name: peer["median_ms"] / ours["median_ms"] for name, peer in report.items()},
              "ratio_batch": {name: ours["sentences_per_s"] / peer["sentences_per_s"]
                              for name, peer in report.items()}}
    peers = report | {name: {"left_out": why} for name, why in left_out.items()}
    return {"ours": ours, "peers": peers, **ratios, "sentences": len(texts), "source": source,
            "rounds": rounds, "machine": machine(device) | versions()}


class Ours:
    """Embedding, α, all models and the fusion of both ensembles; the peers do the models alone."""

    def __init__(self, monju):
        self.monju = monju

    def one(self, text):
        """Return the logits [1, models, labels] of one sentence."""
        return self.all([text])

    def all(self, texts):
        """Return the logits [n, models, labels] of all sentences."""
        predictions = self.monju.predict(texts)
        return predictions.logits[:, : len(self.monju.experts + self.monju.members)]


class Pipelines:
    """One transformers pipeline a model, one after another."""

    def __init__(self, monju, experts):
        self.labels = {name: number for number, name in experts[0].model.config.id2label.items()}
        self.pipelines = [transformers.pipeline("text-classification", model=expert.model,
                                                tokenizer=monju.tokenizer,
                                                device=expert.device, top_k=None) for expert in experts]

    def one(self, text):
        """Return the probabilities [1, models, labels] of one sentence."""
        return self.ask([text], 1)

    def all(self, texts):
        """Return the probabilities [n, models, labels] of all sentences."""
        return self.ask(texts, BATCH)

    def ask(self, texts, batch):
        """Return the probabilities [n, models, labels], read in batches."""
        out = np.zeros((len(texts), len(self.pipelines), len(self.labels)))
        for model, pipeline in enumerate(self.pipelines):
            for row, scores in enumerate(pipeline(texts, batch_size=batch, truncation=True, max_length=128)):
                for score in scores:
                    out[row, model, self.labels[score["label"]]] = score["score"]
        return out


class Sessions:
    """One ONNX Runtime session a model, one after another; sentences of similar length together, as ours."""

    def __init__(self, monju, files):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # spinning threads would sit on the next contender's cores
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.monju = monju
        self.sessions = [onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
                         for file in files]

    def one(self, text):
        """Return the logits [1, models, labels] of one sentence."""
        return self.all([text])

    def all(self, texts):
        """Return the logits [n, models, labels] of all sentences."""
        tokens = backbones.encode(self.monju.tokenizer, texts, self.monju.config.max_tokens)
        out = np.zeros((len(texts), len(self.sessions), len(self.monju.labels)), np.float32)
        for rows in backbones.length_batches([len(sentence) for sentence in tokens], BATCH):
            ids, mask = backbones.pad([tokens[row] for row in rows], self.monju.tokenizer.pad_token_id)
            for model, session in enumerate(self.sessions):
                out[rows, model] = session.run(None, {"ids": ids.numpy(), "mask": mask.numpy()})[0]
        return out


class Logits(torch.nn.Module):
    """A classifier as ONNX needs it: tensors in, one tensor out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask):
        """Return the logits [n, labels] of token ids and mask [n, length]."""
        return self.model(input_ids=ids, attention_mask=mask).logits


def export(experts, folder):
    """Export each model to an ONNX file, its adapter merged; return the paths."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec")
    files = []
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    for number, expert in enumerate(experts):
        files.append(folder / f"{number}.onnx")
        example = torch.ones(2, 9, dtype=torch.long), torch.ones(2, 9, dtype=torch.long)
        torch.onnx.export(Logits(expert.model).eval(), example, str(files[-1]), input_names=["ids", "mask"],
                          output_names=["logits"],
                          dynamic_shapes=(shape, shape), dynamo=True, verbose=False)
    return files


def quantized(files):
    """Write the same with int8 weights (dynamic quantization); return the paths."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it warns through the root
    int8_files = [file.with_suffix(".int8.onnx") for file in files]
    for file, int8_file in zip(files, int8_files):
        quantize_dynamic(file, int8_file, weight_type=QuantType.QInt8)
    return int8_files


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


def made_up(n, seed=0, mean=19.5, spread=8.8):
    """Return n random word sequences of SST-2's lengths, by their mean and standard deviation in words."""
    random = np.random.default_rng(seed)
    lengths = np.clip(np.round(random.normal(mean, spread, n)), 2, 47).astype(int)
    return [" ".join(random.choice(WORDS, length)) for length in lengths]


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


@dataclass(frozen=True)
class Bench:
    """What every contender trains: can be sent to another process."""

    config: object
    tokens: list
    labels: np.ndarray
    names: list[str]
    tokenizer: object
    steps: int
    device: str

    def ours(self):
        """Train three experts, as many at a time as `train` would; return what was measured."""
        on_gpu = self.device == "cuda"
        devices = local_engine.places(torch.device(self.device), 1 if on_gpu else 3, self.config.workers)
        last_steps, memory, device_seconds = {}, {}, [0.0] * len(devices)
        first_steps, profile = {}, {}
        groups = [range(3)] if on_gpu else [[number] for number in range(3)]
        for _, (number, step, peak, seen) in local_engine.run_all(self, groups, devices):
            first_steps.setdefault(number, step)
            last_steps[number], memory[number], profile = step, peak, seen
        # the clock of training alone, as the Trainer's: no start of a process, no reading of a model
        for number in range(3):
            device_seconds[device_seconds.index(min(device_seconds))] += last_steps[number].seconds
        padded = sum(step.padded for step in last_steps.values())
        steady = [(last.sentences - first.sentences) / max(last.seconds - first.seconds, 1e-9)
                  for first, last in ((first_steps[number], last_steps[number]) for number in range(3))]
        return {"steady": float(np.mean(steady)) * len(devices), "profile": profile,
                "sentences": sum(step.sentences for step in last_steps.values()),
                "tokens": sum(step.tokens for step in last_steps.values()),
                "padded": padded, "seconds": max(device_seconds),
                "memory": sum(sorted(memory.values())[-len(devices):]), "bf16": self.bf16,
                "flops": self.flops(padded)}

    def fit(self, jobs, device):
        """Train experts in lockstep, for `local_engine`.

        Yields (number, Step, peak memory in bytes, profile of the GPU), four times for each; the profile is
        that of steps after the last.
        """
        on_gpu, quarter = device.type == "cuda", max(1, self.steps // 4)
        steps = (self.steps // quarter + 1) * quarter if on_gpu else self.steps
        trainings = [Training(Expert.start(self.config, self.names, self.tokenizer.pad_token_id,
                                                   seed, device),
                                      self.tokens, self.labels, seed, steps) for seed in jobs]
        running, measured, profile = trainer.fit_in_lockstep(trainings, self.config, quarter), [], {}
        for number, step in running:
            measured.append((jobs[number], step, peak_memory(self.device)))
            if on_gpu and step.step == steps - quarter and number == len(jobs) - 1:
                break
        if on_gpu:
            with gpu_profile(quarter) as profile:
                for _ in running:
                    pass
        for each in measured:
            yield *each, profile

    def trainer(self, tuned):
        """Train with transformers' Trainer: its ordinary recipe, or `tuned`, all that its arguments offer."""
        torch.manual_seed(0)
        model = backbones.from_pretrained(transformers.AutoModelForSequenceClassification,
                                          self.config.backbone, num_labels=len(self.names))
        bf16 = tuned and self.bf16
        collate = transformers.DataCollatorWithPadding(self.tokenizer)
        counts, clock = {"tokens": 0, "padded": 0, "sentences": 0}, Clock(self.steps, self.device)

        def counting(rows):
            batch = collate(rows)
            counts["tokens"] += int(batch["attention_mask"].sum())
            counts["padded"] += batch["input_ids"].numel()
            counts["sentences"] += len(rows)
            return batch

        settings = {"bf16": bf16, "train_sampling_strategy": "group_by_length", "optim": "adamw_torch_fused",
                    "torch_compile": self.device == "cuda"} if tuned else {}
        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                folder, max_steps=self.steps + clock.quarter * (self.device == "cuda"),
                per_device_train_batch_size=self.config.batch_size,
                learning_rate=self.config.learning_rate,
                weight_decay=self.config.weight_decay, warmup_steps=self.config.warmup,
                lr_scheduler_type="linear", report_to=[],
                save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=self.device == "cpu",
                seed=0, **settings)
            rows = [{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(label)}
                    for ids, label in zip(self.tokens, self.labels)]
            trainer = transformers.Trainer(model, arguments, train_dataset=rows, data_collator=counting,
                                           processing_class=self.tokenizer)
            trainer.remove_callback(transformers.PrinterCallback)  # standard output is the report's
            trainer.add_callback(clock)
            trainer.train()
        # the loader reads one batch ahead at most: what was counted is scaled to what was trained
        share = self.steps * self.config.batch_size / max(1, counts["sentences"])
        padded = round(counts["padded"] * share)
        return {"sentences": self.steps * self.config.batch_size, "tokens": round(counts["tokens"] * share),
                "padded": padded, "steady": self.config.batch_size * clock.steady_steps_per_s,
                "profile": clock.profile, "seconds": clock.seconds, "memory": peak_memory(self.device),
                "bf16": bf16,
                "flops": self.flops(padded, whole=True)}

    @property
    def bf16(self):
        """Whether ours trains in bf16."""
        return wants_bf16(self.config.precision, torch.device(self.device))

    def flops(self, padded, whole=False):
        """Return the floating-point operations of forward and backward over so many tokens.

        Counted on one batch of usual length: those of our forward pass, or of the whole model's.
        """
        from torch.utils.flop_counter import FlopCounterMode

        length = max(2, round(float(np.mean([len(sentence) for sentence in self.tokens]))))
        expert = Expert.start(self.config, self.names, self.tokenizer.pad_token_id, 0, torch.device("cpu"))
        ids = torch.ones(self.config.batch_size, length, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            logits = expert.model(input_ids=ids).logits if whole else train_forward.forward(
                expert.model)({"input_ids": ids}, None)
            logits.sum().backward()
        return counter.get_total_flops() * padded / ids.numel()

    def matmul_rates(self):
        """Return the measured operations a second of large matrix products, by precision."""
        return {kind: matmul_rate(dtype, self.device)
                for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}


class Clock(transformers.TrainerCallback):
    """Times a Trainer's steps as ours are timed; on a GPU it profiles a quarter as many after the last."""

    def __init__(self, steps, device):
        self.steps, self.device, self.quarter, self.times = steps, device, max(1, steps // 4), {}
        self.profile, self.profiling = {}, ExitStack()

    def on_train_begin(self, *given, **options):
        """Begin."""
        self.times[0] = time.perf_counter()

    def on_step_end(self, arguments, state, *given, **options):
        """Note the time at a quarter and at the end of the steps."""
        if state.global_step in (self.quarter, self.steps):
            if self.device == "cuda":
                torch.cuda.synchronize()
            self.times[state.global_step] = time.perf_counter()
            if self.device == "cuda" and state.global_step == self.steps:
                self.profile = self.profiling.enter_context(gpu_profile(self.quarter))

    def on_train_end(self, *given, **options):
        """End."""
        self.profiling.close()

    @property
    def seconds(self):
        """Of all steps."""
        return self.times[self.steps] - self.times[0]

    @property
    def steady_steps_per_s(self):
        """Without the first quarter."""
        return (self.steps - self.quarter) / max(1e-9, self.times[self.steps] - self.times[self.quarter])


def matmul_rate(dtype, device, side=None):
    """Return the operations a second of the fastest of eight products of square matrices.

    `side` is their size, by default one that fills the device.
    """
    side = side or (8192 if device == "cuda" else 1536)
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    seconds = np.inf
    for _ in range(8):
        seconds = min(seconds, clocked(lambda: (matrix @ matrix)[0, 0].item())[0])
    return 2 * side**3 / seconds


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


# ---- both --------------------------------------------------------------------------------------------------


def clocked(work, *arguments):
    """Return (seconds, result) of a call."""
    began = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - began, result


def turn(contenders, number):
    """Return every contender once, another one first each round."""
    names = list(contenders)
    start = number % len(names)
    return [(name, contenders[name]) for name in names[start:] + names[:start]]


def peak_memory(device):
    """Return the peak memory in bytes: of the GPU, or of this process."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else 1024 * resource.getrusage(
        resource.RUSAGE_SELF).ru_maxrss
