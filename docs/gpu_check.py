"""Checks and measures training and reading on a GPU: `python docs/gpu_check.py [--device cuda] [--rehearse] [--out FOLDER]`.

Needs torch, transformers and this repository; no network. What else a stage needs and the machine lacks is named,
and the stage is skipped. Every stage runs in a process of its own with a limit of its own; its result is printed and
written as soon as it is known. Ends with 0 only if every correctness stage passed.

--rehearse does everything at tiny size, for the CPU. --data takes a folder with train and validation files (without
it, sentences of SST-2's lengths are made), --backbone a folder that transformers loads (without it, a RoBERTa of
base size with random weights). --out gets gpu_check.json: {stage: {ok, seconds, figures, error}}.
"""

import argparse
import csv
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package beside this folder, installed or not
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking whether there is a GPU does not touch it

LIMIT_S = 460  # of all stages together
LABELS = ["negative", "positive"]
SKIPPED = 3  # exit code of a stage that lacks something


# ---- what the stages share --------------------------------------------------------------------------------------


class Check:
    """The device, the sizes, and the folder in which data and backbones are."""

    def __init__(self, device, rehearse, work):
        import torch

        self.device, self.rehearse, self.work = torch.device(device), rehearse, Path(work)
        self.on_gpu = device == "cuda"
        self.data, self.backbone = self.work / "data", self.work / "backbone"

    def config(self, **more):
        """The settings of a training, full size or tiny."""
        from monju.config import Config

        size = {"batch_size": 8, "sample": 80, "workers": 1} if self.rehearse else {"batch_size": 32}
        return Config(**{"data": str(self.data), "backbone": str(self.backbone), "embedder": "tfidf", "finetuning": "full",
                         "device": self.device.type, "learning_rate": 2e-5, "precision": "auto", "max_tokens": 128, **size, **more})

    def tokens(self, config):
        """Token ids and labels of the training sentences."""
        import numpy as np

        from monju.data import sources
        from monju.models import backbones

        data = sources.load(config.data, sample=min(config.sample or 20_000, 20_000))
        return backbones.encode(backbones.tokenizer(config.backbone), data.train.texts, config.max_tokens), np.asarray(data.train.labels)

    def trainings(self, config, number, steps=None, still=False, shares=True):
        """Models to train in lockstep; `shares`: half on two thirds of the sentences. `still`: nothing is dropped."""
        import numpy as np

        from monju.models import backbones
        from monju.models.classifier import Expert
        from monju.training.member import Training

        tokens, labels = self.tokens(config)
        padding, made = backbones.tokenizer(config.backbone).pad_token_id, []
        for seed in range(number):
            rows = np.arange(len(tokens))
            rows = rows[rows % 3 != seed] if shares and seed < number / 2 else rows
            expert = Expert.start(config, LABELS, padding, seed, self.device)
            for part in expert.model.modules():
                if still and hasattr(part, "p") and isinstance(part.p, float):
                    part.p = 0.0
            made.append(Training(expert, [tokens[row] for row in rows], labels[rows], seed, steps, name=f"model {seed}"))
        return made

    def small(self, family, folder=None):
        """The folder of a small random encoder of a family, with the words of the large one's tokenizer."""
        import torch
        import transformers

        from monju.models import backbones

        folder = Path(folder or self.work / family)
        if not folder.exists():
            words = backbones.tokenizer(str(self.backbone))
            torch.manual_seed(0)
            config = transformers.AutoConfig.for_model(
                family, vocab_size=len(words), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
                max_position_embeddings=160, pad_token_id=words.pad_token_id, initializer_range=0.2)
            transformers.AutoModel.from_config(config).save_pretrained(folder)
            words.save_pretrained(folder)
        return str(folder)


def prepare(check, data, backbone):
    """Put data and backbone where the stages find them."""
    from monju.benchmark.speed import made_up

    check.work.mkdir(parents=True, exist_ok=True)
    if data:
        check.data.symlink_to(Path(data).resolve())
    else:
        check.data.mkdir()
        for name, count, seed in (("train", 400 if check.rehearse else 20_000, 0), ("validation", 60 if check.rehearse else 872, 1)):
            with open(check.data / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
                texts = made_up(count, seed, **({} if name == "validation" else {"mean": 9.4, "spread": 8}))
                csv.writer(file).writerows([("text", "label"), *((text, int("a" in text.split())) for text in texts)])
    if backbone:
        check.backbone.symlink_to(Path(backbone).resolve())
        return
    import torch
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    from monju.data import sources

    words = ByteLevelBPETokenizer()
    words.train_from_iterator(sources.load(str(check.data), sample=5000 if not check.rehearse else 200).train.texts, vocab_size=5000, show_progress=False,
                              special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    check.backbone.mkdir()
    words.save_model(str(check.backbone))
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
            "vocab_size": 6000} if check.rehearse else {"vocab_size": 50265}
    torch.manual_seed(0)
    transformers.RobertaModel(transformers.RobertaConfig(max_position_embeddings=514, type_vocab_size=1, **size)).save_pretrained(check.backbone)
    transformers.RobertaTokenizer.from_pretrained(check.backbone, model_max_length=512).save_pretrained(check.backbone)


def finetunings(figures):
    """Both ways, or whole models alone where there is no peft, which is noted."""
    if find_spec("peft"):
        return ("full", "lora")
    figures["lora"] = "skipped: this machine lacks peft"
    return ("full",)


def parameters(training):
    """The weights of a model as numbers on the CPU."""
    return {name: weight.detach().float().cpu() for name, weight in training.expert.trained.items()}


def farthest(ones, others):
    """The largest difference between the weights of models."""
    return max(float((one[name] - other[name]).abs().max()) for one, other in zip(ones, others) for name in one)


def losses(trainings, config):
    """Each model's losses, a step each, in lockstep; and the models' steps."""
    from monju.training import trainer

    told = [[] for _ in trainings]
    for number, step in trainer.fit_in_lockstep(trainings, config, 1):
        told[number].append(step)
    return [[step.loss for step in steps] for steps in told], told


# ---- correctness ------------------------------------------------------------------------------------------------


def device(check):
    """What is measured on."""
    import torch
    import transformers

    facts = {"torch": torch.__version__, "transformers": transformers.__version__, "cores": os.cpu_count()}
    if check.on_gpu:
        facts |= {"name": torch.cuda.get_device_name(), "gib": torch.cuda.get_device_properties(0).total_memory / 2**30}
    return facts


def logits_and_gradients(check):
    """The large backbone's logits and gradients in fp32, against the CPU's."""
    import torch

    from monju.models import backbones
    from monju.models.classifier import Expert

    config = check.config(precision="fp32")
    tokens, labels = check.tokens(config)
    padding, found = backbones.tokenizer(config.backbone).pad_token_id, []
    for where in (torch.device("cpu"), check.device):
        expert = Expert.start(config, LABELS, padding, 0, where)
        expert.model.eval()
        ids, mask = (part.to(where) for part in backbones.pad(tokens[:8], padding))
        logits = expert.model(input_ids=ids, attention_mask=mask).logits
        torch.nn.functional.cross_entropy(logits, torch.as_tensor(labels[:8], device=where)).backward()
        found.append((logits.detach().cpu(), {name: weight.grad.cpu() for name, weight in expert.trained.items() if weight.grad is not None}))
    (logits, gradients), (theirs, their_gradients) = found
    scale = max(float(gradient.abs().max()) for gradient in gradients.values())
    figures = {"logits": float((logits - theirs).abs().max()), "gradients": farthest([gradients], [their_gradients]) / scale}
    assert figures["logits"] < 5e-3 and figures["gradients"] < 2e-2, figures
    return figures


def lockstep_against_single(check):
    """Three models in lockstep and each alone: two architectures, whole models and adapters, fp32, no dropout."""
    figures = {}
    for family in ("bert", "mpnet"):
        for finetuning in finetunings(figures):
            config = check.config(backbone=check.small(family), finetuning=finetuning, precision="fp32", learning_rate=1e-4)
            together, apart = (check.trainings(config, 3, 12, still=True) for _ in range(2))
            ours, theirs = losses(together, config)[0], [losses([one], config)[0][0] for one in apart]
            # alone a model has its own order of batches: the first losses are before any learning
            figures[f"{family} {finetuning}"] = abs(sum(map(sum, ours)) - sum(map(sum, theirs))) / sum(map(sum, theirs))
            assert figures[f"{family} {finetuning}"] < 0.1, figures
            ordered = [[replace(one, order="short-to-long") for one in check.trainings(config, 3, 12, still=True)] for _ in range(2)]
            ours, theirs = losses(ordered[0], config)[0], [losses([one], config)[0][0] for one in ordered[1]]
            figures[f"{family} {finetuning}, one order"] = max(abs(a - b) for one, other in zip(ours, theirs) for a, b in zip(one, other))
            assert figures[f"{family} {finetuning}, one order"] < 5e-3, figures
    return figures


def graphs_against_eager(check):
    """The same steps recorded and replayed, and launched one by one; without dropout."""
    from monju.training import lockstep

    config, real = check.config(backbone=check.small("bert"), precision="fp32", learning_rate=1e-4), lockstep.Replay
    steps = 60 if check.on_gpu else 8
    recorded = check.trainings(config, 3, steps, still=True)
    ours, told = losses(recorded, config)
    lockstep.Replay = lambda act, forget: act
    try:
        theirs, _ = losses(check.trainings(config, 3, steps, still=True), config)
    finally:
        lockstep.Replay = real
    figures = {"losses": max(abs(a - b) for one, other in zip(ours, theirs) for a, b in zip(one, other)), "note": told[0][-1].note}
    assert figures["losses"] < 1e-2 and not figures["note"], figures
    return figures


def resumed(check):
    """Trainings that end in the middle and are resumed, and undisturbed ones; without dropout."""
    from monju.runs.checkpoints import Checkpoints
    from monju.training import trainer

    config = check.config(backbone=check.small("bert"), precision="fp32", learning_rate=1e-4, epochs=2, sample=80)

    def kept(folder):
        return [replace(one, checkpoints=Checkpoints(check.work / folder / one.name)) for one in check.trainings(config, 3, still=True)]

    whole, cut = kept("whole"), kept("cut")
    losses(whole, config)
    running = trainer.fit_in_lockstep(cut, config, 1)
    middle = max(one.checkpoints.facts["step"] for one in cut) + len(cut[-1].tokens) // config.batch_size + 2
    for _, step in running:
        if step.step >= middle:
            running.close()
            break
    again = kept("cut")
    starts = [one.checkpoints.facts["step"] for one in again]
    losses(again, config)
    figures = {"resumed at": starts, "weights": farthest([parameters(one) for one in whole], [parameters(one) for one in again])}
    assert max(starts) > 0 and figures["weights"] < 5e-3, figures
    return figures


def without_room(check):
    """Models that do not fit into the memory together: trained in groups, with the same losses."""
    import torch

    from monju.models import joint

    config = check.config(precision="fp32", batch_size=8)
    call = joint.Joint.__call__
    if check.on_gpu:
        losses(check.trainings(config, 1, 3), config)
        most = torch.cuda.max_memory_allocated()
        torch.cuda.empty_cache()
        share = 3.2 * most / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    else:
        def refuse(self, ids, mask):
            if len(ids) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return call(self, ids, mask)

        joint.Joint.__call__ = refuse
    try:
        told = losses(check.trainings(config, 4, 3), config)[1]
    finally:
        joint.Joint.__call__ = call
        if check.on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0)
    figures = {"in lockstep": sorted({step.lockstep for steps in told for step in steps}), "note": told[0][-1].note}
    assert all(len(steps) == 3 for steps in told) and max(figures["in lockstep"]) < 4, figures
    return figures


def without_sdpa(check):
    """An architecture that transformers has no SDPA for (MPNet) is trained whole and with adapters."""
    figures = {}
    for finetuning in finetunings(figures):
        config = check.config(backbone=check.small("mpnet"), finetuning=finetuning, learning_rate=1e-3)
        told = losses(check.trainings(config, 2, 10), config)[1]
        figures[finetuning] = [told[0][0].loss, told[0][-1].loss]
        assert {step.lockstep for steps in told for step in steps} == {2} and not told[0][-1].note, (figures, told[0][-1].note)
    return figures


def whole_run(check):
    """`train`, in one process: clusters, six models in lockstep, evaluation, map; then predictions on the device and the CPU."""
    import numpy as np

    from monju.inference.pipeline import Monju
    from monju.runs.run import Run
    from monju.training.pipeline import Progress, train

    config = check.config(backbone=check.small("bert"), epochs=1, sample=200 if check.rehearse else 4000,
                          map_size=8 if check.rehearse else 50, learning_rate=1e-3)
    began, folder = time.perf_counter(), check.work / "run"
    told = list(train(config, folder))
    seconds, metrics = time.perf_counter() - began, Run.open(folder).check().read_json("metrics.json")
    texts = ["a quiet triumph", "slow and dull, never funny", "the cast is bright"] * 4
    here, there = (Monju.load(folder, name).outputs(texts).logits for name in (check.device.type, "cpu"))
    figures = {"seconds": seconds, "reports": sum(isinstance(each, Progress) for each in told), "monju": metrics["monju"]["accuracy"],
               "baseline": metrics["baseline"]["accuracy"], "logits against the CPU": float(np.abs(here - there).max())}
    assert figures["logits against the CPU"] < 1e-2, figures
    return figures


def job(check):
    """The app's job manager: a training is started, watched, stopped and resumed to its end."""
    from monju.training.job_manager import JobManager

    jobs = JobManager(check.work / "jobs")
    size = {"epochs": 3, "sample": 80} if check.rehearse else {"epochs": 20, "sample": 8000}
    config = check.config(backbone=check.small("bert"), map_size=8 if check.rehearse else 50, **size)
    jobs.folder.mkdir()
    jobs.start(config, "watched")

    def wait(what, patience=120):
        end = time.monotonic() + patience
        while not what(jobs.snapshot("watched")):
            assert time.monotonic() < end, jobs.snapshot("watched")
            time.sleep(0.2)

    began = time.monotonic()
    wait(lambda seen: seen and seen["models"] and any(seen["models"].values()))
    first = time.monotonic() - began
    jobs.stop()
    wait(lambda seen: not jobs.running())
    stopped = jobs.snapshot("watched")["status"]
    if stopped != "finished":
        jobs.resume("watched")
    wait(lambda seen: not jobs.running() and seen["status"] == "finished")
    return {"seconds to the first report": first, "after stop": stopped, "after resume": "finished"}


def predictions(check):
    """One sentence and many, of the run trained before; and the inference process."""
    import numpy as np

    from monju.benchmark.speed import made_up
    from monju.inference.pipeline import Monju
    from monju.inference.process import InferenceProcess

    folder = check.work / "run"
    if not (folder / "run.json").exists():
        raise ImportError(name="the run that whole_run trains")
    monju, texts = Monju.load(folder, check.device.type), made_up(64 if check.rehearse else 4096)
    monju.outputs(texts)

    def clocked(given):
        began = time.perf_counter()
        monju.outputs(given)
        return time.perf_counter() - began

    one = sorted(clocked([text]) for text in texts[:30])[15]
    rate = len(texts) / min(clocked(texts) for _ in range(3))
    process = InferenceProcess()
    try:
        there = process.call(folder, None, "monju.inference.pipeline:Monju.outputs", texts[:8])
        close = float(np.abs(there.logits - monju.outputs(texts[:8]).logits).max())
    finally:
        process.close()
    assert close < 0.2, close
    return {"one sentence, ms": 1000 * one, "sentences/s together": rate, "logits of the inference process": close}


# ---- speed ------------------------------------------------------------------------------------------------------


def matrix_rate(check):
    """Operations a second of products of large matrices."""
    import torch

    from monju.benchmark.speed import matmul_rate

    side = None if check.on_gpu else 512
    return {f"{name} TFLOP/s": matmul_rate(dtype, check.device.type, side) / 1e12
            for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}


def steady(check, config, number, steps, warm):
    """Lockstep after its first steps: sentences/s of all models, kernels and busy share of a step, padding, memory."""
    import torch

    from monju.benchmark.gpu_profile import gpu_profile
    from monju.training import trainer

    def wait():
        if check.on_gpu:
            torch.cuda.synchronize()

    trainings = check.trainings(config, number, steps + warm + 20, shares=False)
    running, began = trainer.fit_in_lockstep(trainings, config, 1 if check.rehearse else 10), time.perf_counter()
    for _, step in running:
        if step.step >= warm:
            break
    wait()
    first, start, step0 = time.perf_counter() - began, time.perf_counter(), step
    for number_, step in running:
        if number_ == number - 1 and step.step >= warm + steps:
            break
    wait()
    seconds = time.perf_counter() - start
    figures = {"sentences/s": number * steps * config.batch_size / seconds, "ms a step": 1000 * seconds / steps, "first steps, s": first,
               "padding": 1 - step.tokens / step.padded, "note": step.note, "from step": step0.step}
    if check.on_gpu:
        figures["memory, GiB"] = torch.cuda.max_memory_allocated() / 2**30
        with gpu_profile(10) as profile:
            while next(running)[0] != number - 1:
                pass
        figures |= profile
    running.close()
    return figures


def speed_batch_32(check):
    """The poster's six models whole, batch 32."""
    return steady(check, check.config(), 6, *((4, 4) if check.rehearse else (200, 60)))


def speed_batch_128(check):
    """The poster's six models whole, batch 128."""
    return steady(check, check.config(batch_size=8 if check.rehearse else 128), 6, *((4, 4) if check.rehearse else (100, 40)))


def speed_adapters(check):
    """Six models as adapters, batch 128."""
    return steady(check, check.config(batch_size=8 if check.rehearse else 128, finetuning="lora"), 6, *((4, 4) if check.rehearse else (100, 40)))


def speed_trainer(check):
    """transformers' ordinary Trainer, one model, batch 32."""
    return peer(check, False)


def speed_trainer_tuned(check):
    """transformers' Trainer with bf16, length grouping and torch.compile, one model, batch 32."""
    return peer(check, True)


def peer(check, tuned):
    from monju.benchmark.speed import Bench
    from monju.models import backbones

    config = check.config()
    tokens, labels = check.tokens(config)
    steps = 4 if check.rehearse else 100
    bench = Bench(config, tokens, labels, LABELS, backbones.tokenizer(config.backbone), steps, check.device.type)
    measured = bench.trainer(tuned)
    return {"sentences/s": measured["sentences"] / measured["seconds"], "sentences/s without the first quarter": measured["steady"],
            "ms a step": 1000 * measured["seconds"] / steps, **measured["profile"]}


# each stage, its limit in seconds, and whether the check fails with it
STAGES = {stage.__name__: (stage, limit, correct) for stage, limit, correct in (
    (device, 40, True), (logits_and_gradients, 60, True), (lockstep_against_single, 90, True), (graphs_against_eager, 60, True),
    (resumed, 60, True), (without_sdpa, 60, True), (speed_batch_32, 90, False), (speed_trainer, 60, False), (matrix_rate, 30, False),
    (speed_batch_128, 90, False), (speed_adapters, 90, False), (whole_run, 120, True), (predictions, 60, True), (job, 150, True),
    (without_room, 60, True), (speed_trainer_tuned, 150, False))}


def run_stage(name, check, result):
    """Run one stage in this process, write its result, and end."""
    began, told = time.perf_counter(), {"ok": False, "figures": {}, "error": ""}
    try:
        told |= {"ok": True, "figures": STAGES[name][0](check)}
        code = 0
    except ImportError as error:
        told["error"], code = f"skipped: this machine lacks {error.name}", SKIPPED
    except Exception as error:
        traceback.print_exc()
        told["error"], code = f"{type(error).__name__}: {error}", 1
    told["seconds"] = round(time.perf_counter() - began, 1)
    result.write_text(json.dumps(told))
    sys.exit(code)


def ended(work, arguments, limit):
    """Return the exit code of a process that does the work; None where it was ended at its limit in seconds.

    Forked, so that nothing is imported twice: this process itself neither computes nor touches the GPU.
    """
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def main():
    """Run the stages one after another."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--rehearse", action="store_true", help="everything at tiny size; on the CPU where there is no GPU")
    parser.add_argument("--data", help="a folder with train and validation files")
    parser.add_argument("--backbone", help="a folder that transformers loads")
    parser.add_argument("--out", help="the folder for gpu_check.json (default: none is written)")
    parser.add_argument("--only", nargs="+", choices=STAGES, metavar="STAGE", help="these stages alone: " + ", ".join(STAGES))
    given = parser.parse_args()
    import torch

    with suppress(ImportError):  # once, for all stages; what is missing each stage names
        import peft  # noqa: F401
        import transformers  # noqa: F401

        from monju.inference import pipeline as _  # noqa: F401
        from monju.training import pipeline  # noqa: F401
        from monju.utils.quiet import quiet

        quiet()
    if given.device == "cuda" and not torch.cuda.is_available():
        if not given.rehearse:
            sys.exit("gpu_check: torch sees no GPU here: add --rehearse to run everything at tiny size on the CPU")
        given.device = "cpu"
    out = Path(given.out) / "gpu_check.json" if given.out else None
    results, began, failed = {}, time.perf_counter(), False
    with tempfile.TemporaryDirectory() as folder:
        work, result = Path(folder) / "work", Path(folder) / "result.json"
        check = Check(given.device, given.rehearse, work)
        ended(prepare, (check, given.data, given.backbone), 120)
        for name, (_, limit, correct) in STAGES.items():
            if given.only and name not in given.only:
                continue
            result.unlink(missing_ok=True)
            left, start = max(1, min(limit, LIMIT_S - (time.perf_counter() - began))), time.perf_counter()
            code = ended(run_stage, (name, check, result), left)
            told = json.loads(result.read_text()) if result.exists() else {
                "ok": False, "seconds": round(time.perf_counter() - start, 1), "figures": {},
                "error": f"ended after its {left:.0f} s" if code is None else f"ended with exit code {code}"}
            results[name] = told
            failed |= correct and not told["ok"] and code != SKIPPED
            print(f"{name}: {'ok' if told['ok'] else 'FAILED' if code != SKIPPED else 'skipped'}, {told['seconds']} s "
                  f"{json.dumps(told['figures']) if told['ok'] else told['error']}", flush=True)
            if out:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(results, indent=1))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
