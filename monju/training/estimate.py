"""Estimate: what a configuration would do here, before it is trained, measured by a few real steps.

Runs in a process of its own (`python -m monju.training.estimate` reads a configuration on standard input and
prints one JSON object a line), so that the caller can go on answering others. Knows nothing of the page or
of run folders.
"""

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace

from monju.data.notes import error_of
from monju.ensemble import subsets
from monju.errors import MonjuError
from monju.utils.process import child_environment, end_with_parent
from monju.utils.quiet import quiet

SAMPLE = 4000  # sentences that are clustered: beyond, sizes are scaled up from a sample
# real steps taken, the first of them not counted, and the time they may take
STEPS, WARMING, SECONDS = 12, 2, 8.0


@dataclass(frozen=True)
class ThroughputProbe:
    """A few steps of each job, nothing written: what `local_engine.run_all` runs in place of a TrainTask."""

    config: object
    encoded: dict  # backbone → Encoded
    labels: object
    clusters: object
    label_names: list

    def fit(self, jobs, device):
        """Yield one dictionary of measurements of jobs in lockstep.

        Tokens/s and sentences/s of the device, seconds of a held-out check, and GPU memory in bytes.
        """
        import torch

        from monju.models.classifier import Expert
        from monju.training import trainer
        from monju.training.member import Training

        encoded, first, last = self.encoded[jobs[0].backbone], None, None
        trainings = [Training(Expert.start(replace(self.config, backbone=job.backbone),
                                                   self.label_names, encoded.tokenizer.pad_token_id,
                                                   job.seed, device),
                                      [encoded.train[row] for row in job.rows], self.labels[job.rows],
                                      job.seed, STEPS, job.order, self.clusters[job.rows]) for job in jobs]
        for number, step in trainer.fit_in_lockstep(trainings, self.config, report_every=1):
            if number:  # each one's seconds are its share of the device's: one tells the device's speed
                continue
            last = step
            first = first or (last if last.step == WARMING else None)
            if last.step > WARMING and last.seconds > SECONDS:
                break
        seconds = last.seconds - first.seconds
        began = time.perf_counter()
        trainings[0].expert.logits(encoded.held_out)
        check_seconds = time.perf_counter() - began
        yield {"steps": last.step - first.step, "tokens_per_s": (last.tokens - first.tokens) / seconds,
               "check": check_seconds, "sentences_per_s": (last.sentences - first.sentences) / seconds,
               "gpu": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0}


def measure(config):
    """Measure what a configuration would train and take.

    Parameters
    ----------
    config : Config
        The configuration.

    Yields
    ------
    dict
        First what would be trained on what: {"notes", "train", "validation", "sampled", "clusters",
        "models", "gate" (what `gate_meter.before_training` knows)}.
        Then what it would take: {"seconds", "fixed" and "each" (seconds that are the same for any number of
        training sentences, and those that each takes), "memory" (bytes), "of", "steps", "places", "device",
        "sentences_per_s"}.

    Raises
    ------
    MonjuError
        For whatever `train` would refuse.
    """
    import numpy as np

    from monju.clustering import embedding_cache
    from monju.clustering.cluster_model import Clustering
    from monju.data import sources
    from monju.ensemble import gates
    from monju.evaluation.gate_meter import before_training
    from monju.models import backbones
    from monju.training import fit_jobs, local_engine, plan
    from monju.training.progress import MAP_SECONDS
    from monju.training.reports import CHECKS

    if config.task != "classify":
        raise MonjuError("a plan with its estimate is made for classifiers alone: train language models on "
                         "the command line, with `python -m monju train --task lm --data SOURCE --out DIR`")
    data = sources.load_for(config)
    device = backbones.pick_device(config.device)
    n = len(data.train.texts)
    sample = sources.stratified(data.train.labels, min(n, SAMPLE), config.seed)
    began = time.perf_counter()
    domains = data.train.domains and [data.train.domains[row] for row in sample]
    texts = [data.train.texts[row] for row in sample]
    clustering = Clustering(config).fit(texts, domains)
    clustering_s = (time.perf_counter() - began) * n / len(sample)
    sample_clusters, pairs = clustering.labels_, subsets.expert_subsets(config.k, config.subset_size)
    _, distances, posterior = clustering.place_vectors(embedding_cache.fitted(clustering.embedder, texts)[1])
    gate = before_training(gates.make(config)(distances, pairs, posterior), sample_clusters,
                           data.train.labels[sample], pairs)
    clusters = np.empty(n, int)
    clusters[sample] = sample_clusters
    rest = np.setdiff1d(np.arange(n), sample)
    clusters[rest] = np.resize(sample_clusters, len(rest))  # the sample's shares
    plan.refuse_one_sided(config, clusters, data)
    encoded = {name: plan.Encoded.by(name, data, config.max_tokens) for name in config.all_backbones}
    jobs = plan.plan(config, clusters, encoded[config.backbone_of(0)].lengths)
    yield {"notes": [note.to_json()
                     for note in [*data.notes, *backbones.token_notes(config.all_backbones, data.texts,
                                                                      config.max_tokens)]],
           "train": n, "validation": len(data.validation.texts),
           "sampled": len(sample) if len(sample) < n else None,
           "clusters": dict(zip(subsets.cluster_names(config.k),
                                np.bincount(clusters, minlength=config.k).tolist())),
           "models": [{"name": job.key, "sentences": len(job.rows), "steps": job.steps} for job in jobs],
           "gate": gate}

    places = local_engine.places(device, len(jobs), config.workers)
    check_rows = fit_jobs.curve_rows(data.validation.labels)
    encoded = {name: replace(one, held_out=[one.held_out[row] for row in check_rows])
               for name, one in encoded.items()}
    probe = ThroughputProbe(config, encoded, data.train.labels, clusters, data.label_names)
    with Peak() as peak:
        groups = plan.in_groups(jobs, places)[: len(places)]
        reports = [report for _, report in local_engine.run_all(probe, groups, places[: len(groups)])]
    speed = float(np.mean([report["tokens_per_s"] for report in reports]))
    check = float(np.mean([report["check"] for report in reports]))
    ends = [0.0] * len(places)
    for job in jobs:  # as the workers take them: each free place takes the next
        ends[ends.index(min(ends))] += job.tokens / speed + (CHECKS + 1) * check
    held_out = len(data.validation.texts) + (len(data.tuning.texts) if data.tuning else 0)
    sentence = check / len(check_rows) * len(jobs) / len(places)  # read by all models
    seconds = clustering_s + max(ends) + sentence * (held_out + min(config.map_size, n)) + MAP_SECONDS
    gpu = max(report["gpu"] for report in reports)
    # of another number of training sentences: what stays as it is, and what each of them takes
    fixed = sentence * ((CHECKS + 1) * len(check_rows) + held_out) + MAP_SECONDS
    yield {"seconds": seconds, "fixed": fixed, "each": (seconds - fixed) / n,
           "memory": gpu or peak.bytes, "of": "gpu" if gpu
           else "processes",
           "steps": sum(report["steps"] for report in reports), "places": len(places), "device": device.type,
           "sentences_per_s": sum(report["sentences_per_s"] for report in reports)}


class Peak:
    """The most memory that this process and its children hold at once during a block."""

    def __enter__(self):
        self.bytes, self._over = 0, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._watch.join()

    def _look(self):
        import psutil

        while True:
            now = 0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                try:
                    now += process.memory_info().rss
                except psutil.Error:
                    continue
            self.bytes = max(self.bytes, now)
            if self._over.wait(0.2):
                return


class Estimation:
    """`measure` in a process of its own: yields the same dictionaries, and can be ended from another thread.

    Raises MonjuError as `measure` does, and where the process is ended.
    """

    def __init__(self, config):
        self.process = subprocess.Popen([sys.executable, "-m", "monju.training.estimate"],
                                        env=child_environment(), text=True, encoding="utf-8",
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        # left open: its end is ours, and that process's too
        self.process.stdin.write(json.dumps(config.to_json()) + "\n")
        self.process.stdin.flush()

    def __iter__(self):
        try:
            for line in self.process.stdout:
                message = json.loads(line)
                if "error" in message:
                    raise error_of(message["error"], message["note"])
                yield message
            if self.process.wait():
                raise MonjuError("the estimate ended before its time, perhaps for want of memory: choose a "
                                 "smaller batch or model")
        finally:
            self.end()
            self.process.stdin.close()
            self.process.stdout.close()

    def end(self):
        """Kill the process; its workers end with it."""
        self.process.kill()
        self.process.wait()


def estimate(config):
    """Yield `measure`'s dictionaries from a process of its own, which ends when the generator is closed."""
    yield from Estimation(config)


def main():
    """Read a configuration on standard input and print what `measure` yields, one JSON object a line."""
    from monju.config import Config

    quiet()
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is not JSON
    try:
        request = sys.stdin.readline()
        end_with_parent()
        for message in measure(Config.from_json(json.loads(request))):
            print(json.dumps(message), file=out, flush=True)
    except MonjuError as error:
        print(json.dumps({"error": str(error), "note": error.note and error.note.to_json()}), file=out,
              flush=True)


if __name__ == "__main__":
    main()
