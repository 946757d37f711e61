"""A Ray cluster of two nodes in processes of their own: what is lost there is trained again, and the run is the local engine's."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from conftest import SHORT, alone
from test_resume import REPOSITORY, flags, same_run, when

from monju.cli import main
from monju.config import Config
from monju.errors import MonjuError
from monju.runs.run import Run
from monju.training import engines
from monju.training.pipeline import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # bits are compared
STEPS = 300


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
            assert self.nodes[-1].poll() is None and time.monotonic() - began < 120, Path(log.name).read_text()
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


@pytest.fixture
def two_nodes(token):
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
        assert process.poll() is None and time.monotonic() - began < 200, told(out)
        time.sleep(0.05)
    return found


def step_of(out, model):
    return max((line["step"] for line in Run(out, {}).history() if line["model"] == model), default=0)


def test_a_worker_and_a_node_are_lost_and_the_run_ends_as_the_undisturbed_one_of_the_local_engine(two_nodes, settings, undisturbed, tmp_path):
    out = tmp_path / "run"
    process = start(out, two_nodes, *flags({**settings, "workers": 2}))
    until(lambda: step_of(out, "A") > 11 and step_of(out, "B") > 11, process, out)
    assert len(two_nodes.tasks(0)) == len(two_nodes.tasks(1)) == 1
    for task in two_nodes.tasks(0):
        task.kill()
    until(lambda: "WorkerCrashedError), started again from its last checkpoint." in told(out), process, out)
    until(lambda: two_nodes.tasks(1), process, out)
    two_nodes.lose(1)
    until(lambda: told(out).count("started again from its last checkpoint.") == 2, process, out)
    assert process.wait(timeout=300) == 0, told(out)
    assert "Traceback" not in told(out)
    same_run(out, undisturbed)
    for model in "AB":
        assert [line["step"] for line in Run.open(out).check().history() if line["model"] == model] == list(range(1, STEPS + 1)), model
    assert files(out) == files(undisturbed)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
