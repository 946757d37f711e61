"""Stages of a whole run: `train`, predictions, the inference process, and the app's job manager."""

import time


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

    from monju.benchmark.timing import made_up
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
