"""Checks and measures training and reading on a GPU: `python docs/gpu_check.py [--device cuda] [--rehearse] [--out FOLDER]`.

Needs torch, transformers and this repository; no network. What else a stage needs and the machine lacks is named,
and the stage is skipped. Every stage runs in a process of its own with a limit of its own; its result is printed and
written as soon as it is known. Ends with 0 only if every correctness stage passed.

--rehearse does everything at tiny size, for the CPU. --data takes a folder with train and validation files (without
it, sentences of SST-2's lengths are made), --backbone a folder that transformers loads (without it, a RoBERTa of
base size with random weights). --out gets gpu_check.json: {stage: {ok, seconds, figures, error}}.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

from gpu_stages.check import Check, prepare
from gpu_stages.correctness import (
    device,
    graphs_against_eager,
    lockstep_against_single,
    logits_and_gradients,
    resumed,
    without_room,
    without_sdpa,
)
from gpu_stages.runs import job, predictions, whole_run
from gpu_stages.speed import (
    matrix_rate,
    speed_adapters,
    speed_batch_32,
    speed_batch_128,
    speed_compiled_pipelines,
    speed_reading,
    speed_trainer,
    speed_trainer_tuned,
)

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package beside this folder, installed or not
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking whether there is a GPU does not touch it

LIMIT_S = 460  # of all stages together
SKIPPED = 3  # exit code of a stage that lacks something

# each stage, its limit in seconds, and whether the check fails with it
STAGES = {stage.__name__: (stage, limit, correct) for stage, limit, correct in (
    (device, 40, True), (logits_and_gradients, 60, True), (lockstep_against_single, 90, True), (graphs_against_eager, 60, True),
    (resumed, 60, True), (without_sdpa, 60, True), (speed_batch_32, 90, False), (speed_trainer, 60, False), (matrix_rate, 30, False),
    (speed_batch_128, 90, False), (speed_adapters, 90, False), (speed_reading, 60, False), (whole_run, 120, True), (predictions, 60, True), (job, 150, True),
    (without_room, 60, True), (speed_compiled_pipelines, 150, False), (speed_trainer_tuned, 150, False))}


def run_stage(name, check, result):
    """Run one stage in this process, write its result, and end."""
    began, told = time.perf_counter(), {"ok": False, "figures": {}, "error": ""}
    try:
        from monju.utils.process import end_with_parent

        end_with_parent()
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
    patience = 1 if given.device == "cuda" else 4  # the limits are a GPU's; other work may share a CPU
    with tempfile.TemporaryDirectory() as folder:
        work, result = Path(folder) / "work", Path(folder) / "result.json"
        check = Check(given.device, given.rehearse, work)
        ended(prepare, (check, given.data, given.backbone), 120)
        for name, (_, limit, correct) in STAGES.items():
            if given.only and name not in given.only:
                continue
            result.unlink(missing_ok=True)
            left = max(1, patience * min(limit, LIMIT_S - (time.perf_counter() - began) / patience))
            start = time.perf_counter()
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
