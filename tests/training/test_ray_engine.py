"""A Ray cluster of two nodes in processes of their own: what is lost there is trained again, and the run is the local engine's."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from conftest import SHORT, alone
from test_resume import REPOSITORY, flags, same_run

from monju.cli import main
from monju.config import Config
from monju.errors import MonjuError
from monju.runs.checkpoints import Checkpoints
from monju.runs.run import Run
from monju.training import engines, ray_engine
from monju.training.pipeline import train
from monju.training.plan import FineTuneJob
from monju.training.progress import Stage
from monju.training.ray_engine import RayEngine
from monju.training.reports import Step

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # bits are compared
STEPS = 120


@pytest.fixture(scope="module")
def token():
    """Authentication is on, with a token of these tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        pytest.importorskip("ray", reason="Ray is not installed: pip install -r docs/requirements-cluster.txt")
        yield


class Cluster:
    """Nodes of one core each on this machine, the first of them the head."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="ray")  # short: sockets lie in it
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.nodes = []
        self.add("--head", f"--port={self.address.split(':')[1]}", "--include-dashboard=false", f"--temp-dir={self.folder}")
        self.add(f"--address={self.address}")

    def add(self, *arguments):
        log = open(os.path.join(self.folder, f"node{len(self.nodes)}.log"), "w+")
        self.nodes.append(subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, "--node-ip-address=127.0.0.1", "--num-cpus=1",
             "--object-store-memory=100000000", "--disable-usage-stats", "--block"], stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        began = time.monotonic()
        while "Ray runtime started" not in Path(log.name).read_text():
            assert self.nodes[-1].poll() is None and time.monotonic() - began < 300, Path(log.name).read_text()
            time.sleep(0.2)
        log.close()

    def tasks(self, node):
        """The processes that train on a node."""
        return [process for process in psutil.Process(self.nodes[node].pid).children(recursive=True)
                if process.cmdline()[:1] == ["ray::_fit"]]

    def lose(self, node):
        """Kill all of a node at once."""
        parent = psutil.Process(self.nodes[node].pid)
        gone = [parent, *parent.children(recursive=True)]
        for process in gone:
            process.kill()
        psutil.wait_procs(gone, timeout=60)

    def close(self):
        for number, node in enumerate(self.nodes):
            if node.poll() is None:
                self.lose(number)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def two_nodes(token):
    """Both are there until the last test, which loses one."""
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def settings(movies, tiny_bert):
    """Two models, ten steps an epoch: a checkpoint every ten."""
    return {**SHORT, "data": str(movies), "backbone": str(tiny_bert), "embedder": "backbone", "epochs": STEPS // 10}


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    """The run of the local engine."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    with alone():
        for _ in train(Config(**settings), out):
            pass
    return out


def start(out, cluster, *arguments, **environment):
    """A `train` on the cluster in a process of its own; what it tells goes to OUT.log."""
    with open(f"{out}.log", "w") as log:
        return subprocess.Popen([sys.executable, "-m", "monju", "train", "--out", str(out), *arguments, "--engine", "ray", "--address",
                                 cluster.address], cwd=REPOSITORY, stdout=log, stderr=log,
                                env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


def told(out):
    return Path(f"{out}.log").read_text()


def until(condition, process, out):
    began = time.monotonic()
    while not (found := condition()):
        assert process.poll() is None and time.monotonic() - began < 600, told(out)
        time.sleep(0.05)
    return found


def step_of(out, model):
    return max((line["step"] for line in Run(out, {}).history() if line["model"] == model), default=0)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ---- what is refused before anything is trained


def test_an_address_is_a_clusters_and_an_engine_has_a_name():
    with pytest.raises(MonjuError, match="add --engine ray"):
        engines.make("local", "127.0.0.1:6379")
    with pytest.raises(MonjuError, match="choose from local, ray"):
        engines.make("rey")


def test_without_ray_it_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # put back afterwards
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["train", "--out", str(tmp_path / "run"), "--engine", "ray"]) == 2
    assert "`pip install -r docs/requirements-cluster.txt`" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "127.0.0.1:99999999", "ray://127.0.0.1:10001"])
def test_no_cluster_at_the_address(token, tmp_path, capsys, address):
    assert main(["train", "--out", str(tmp_path / "run"), "--engine", "ray", "--address", address]) == 2
    assert f"no Ray cluster answers at {address}: give the HOST:PORT" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_who_has_another_token_is_not_let_in(two_nodes, settings, tmp_path):
    process = start(tmp_path / "run", two_nodes, *flags(settings), RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert process.wait(timeout=300) == 2, told(tmp_path / "run")
    last = told(tmp_path / "run").splitlines()[-1]  # behind Ray's own words on each try
    assert "cannot be joined" in last and "bring its token here" in last and "Traceback" not in told(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [{"finetuning": "last-state"}, {"backbone": "from-scratch"}])
def test_language_models_that_need_this_machines_cache_are_refused(given):
    engine = object.__new__(RayEngine)
    with pytest.raises(MonjuError, match=f"{next(iter(given.values()))} keeps files in the cache of one machine"):
        engine.refuse(Config(task="lm", **given))
    engine.refuse(Config())


# ---- where it trains


@pytest.mark.parametrize("gpus, device, workers, jobs, places", [
    (0, "auto", None, 6, ["cpu"] * 6), (0, "auto", None, 9, ["cpu"] * 8), (0, "auto", 2, 6, ["cpu"] * 2), (3, "auto", None, 6, ["cuda"] * 3),
    (3, "cpu", None, 6, ["cpu"] * 6), (0, "cuda", None, 6, ["cuda"]), (8, "auto", None, 6, ["cuda"] * 6)])
def test_a_place_for_each_gpu_or_core_of_the_cluster(gpus, device, workers, jobs, places):
    engine = object.__new__(RayEngine)
    engine.gpus, engine.cores = gpus, [4, 4]
    assert [place.type for place in engine.places(Config(device=device, workers=workers), jobs)] == places


# ---- what fails


def toys(run):
    """A task of three jobs: A fails, B takes its process along, C is trained. Of a class that the nodes are sent."""
    @dataclass(frozen=True)
    class Toys:
        run: Run

        def fit(self, jobs, device):
            [job] = jobs
            for step in range(1, 4):
                time.sleep(1)
                if job.name == "B":
                    os.kill(os.getpid(), signal.SIGKILL)
                yield 0, Step(step, 3, step, step, 0.5, 1e-3, float(step))
                if job.name == "A":
                    raise MonjuError("A: the loss became nan at step 1")
            with self.run.folder(f"{job.kind}/{job.name}") as folder:
                (folder / "weights").write_text(job.name)

    return Toys(run), [[FineTuneJob("experts", name, np.arange(3), 0, 3, 3, "tiny", "buckets")] for name in "ABC"]


def test_what_fails_for_good_is_told_at_the_end_and_the_rest_is_kept(two_nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "PATIENCE", 1)
    monkeypatch.setattr(ray_engine, "LOSSES", 1)
    engine = engines.make("ray", two_nodes.address)
    try:
        assert (engine.gpus, engine.cores) == (0, [1, 1])
        task, groups = toys(Run.create(tmp_path / "run", Config()))
        seen = []
        with pytest.raises(MonjuError) as failed:
            for number, report in engine.run(task, groups, [torch.device("cpu")] * 3):
                seen.append((number, report.text if isinstance(report, Stage) else report[1].step))
    finally:
        engine.ray.shutdown()
    said = str(failed.value)
    assert "A: the loss became nan at step 1" in said and "WorkerCrashedError) 2 times" in said
    assert f"All other models are kept: continue with `python -m monju train --out {tmp_path / 'run'} --resume`" in said
    assert (tmp_path / "run" / "experts" / "C" / "weights").read_text() == "C" and len(list((tmp_path / "run" / "experts").iterdir())) == 1
    assert [step for number, step in seen if isinstance(step, int) and number == 2] == [1, 2, 3]
    texts = [text for _, text in seen if isinstance(text, str)]
    assert any("waiting for a free place in the cluster, with 1 CPU." in text for text in texts), texts
    assert sum(text.startswith("B: lost at node ") and "started again" in text for text in texts) == 1


@pytest.mark.timeout(1800)
def test_the_driver_is_killed_and_the_run_goes_on_without_the_cluster(two_nodes, settings, undisturbed, tmp_path):
    out = tmp_path / "run"
    process = start(out, two_nodes, *flags({**settings, "workers": 2}))
    until(lambda: step_of(out, "A") > 11 and step_of(out, "B") > 11, process, out)
    tasks = two_nodes.tasks(0) + two_nodes.tasks(1)
    assert len(tasks) == 2  # one on each node
    process.kill()
    process.wait()
    assert not psutil.wait_procs(tasks, timeout=120)[1]  # nobody would read them
    assert Run.open(out).manifest["status"] == "training" and all(Checkpoints(out / "checkpoints" / name).facts["step"] for name in "AB")
    list(train(None, out, resume=True))
    same_run(out, undisturbed)


@pytest.mark.timeout(1800)
def test_a_worker_and_a_node_are_lost_and_the_run_ends_as_the_undisturbed_one_of_the_local_engine(two_nodes, settings, undisturbed, tmp_path):
    out = tmp_path / "run"
    process = start(out, two_nodes, *flags({**settings, "workers": 2}))
    until(lambda: step_of(out, "A") > 11 and step_of(out, "B") > 11, process, out)
    assert len(two_nodes.tasks(0)) == len(two_nodes.tasks(1)) == 1
    for task in two_nodes.tasks(0):
        task.kill()
    until(lambda: "WorkerCrashedError), started again from its last checkpoint." in told(out), process, out)
    two_nodes.lose(1)
    until(lambda: told(out).count("started again from its last checkpoint.") == 2, process, out)
    assert process.wait(timeout=600) == 0, told(out)
    assert "Traceback" not in told(out)
    same_run(out, undisturbed)
    lines = Run.open(out).check().history()
    for model in "AB":
        assert [line["step"] for line in lines if line["model"] == model] == list(range(1, STEPS + 1)), model
    assert len({line["place"] for line in lines}) == 2
    assert files(out) == files(undisturbed)
