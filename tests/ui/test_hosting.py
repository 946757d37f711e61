"""A page as a host starts it: everything from the environment, behind a proxy, its runs fetched from a hub; and the Dockerfile."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from socket import socket

import httpx
import psutil
import pytest
from test_hub_runs import hub  # noqa: F401  # a fixture

from monju.runs import registry

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import load  # noqa: E402

DOCKERFILE = (ROOT / "docs" / "Dockerfile").read_text(encoding="utf-8")
CHECK = json.loads(DOCKERFILE.split("HEALTHCHECK", 1)[1].split("CMD ", 1)[1].splitlines()[0])


def healthy(url):
    return subprocess.run([sys.executable, *CHECK[1:]], env={**os.environ, "GRADIO_SERVER_PORT": url.rstrip("/").split(":")[-1]},
                          stderr=subprocess.DEVNULL).returncode == 0


def test_the_image_runs_as_an_ordinary_user_on_a_volume():
    lines = [line.split() for line in DOCKERFILE.splitlines() if line[:1].isupper()]
    users, orders = [line[1] for line in lines if line[0] == "USER"], [line[0] for line in lines]
    assert users == ["monju"] and orders.index("USER") < orders.index("COPY") < orders.index("CMD")
    assert CHECK[0] == "python" and ["VOLUME", "/data"] in lines and "MONJU_RUNS=/data/runs" in DOCKERFILE and "HF_HOME=/data/" in DOCKERFILE
    assert all((ROOT / line[-2]).exists() for line in lines if line[0] == "COPY")


@pytest.mark.slow
def test_a_page_from_the_environment(hub, tiny_run, tmp_path):  # noqa: F811
    """Root path, runs' folder, hub, owner and queue; the Dockerfile's health check asks it."""
    hub.files = {f"fetched/{file.relative_to(tiny_run).as_posix()}": file.read_bytes() for file in registry.files(tiny_run)}
    hub.files |= {"broken/run.json": b"{}"}
    with load.page(tmp_path, tiny_run, GRADIO_ROOT_PATH="/monju", MONJU_HOSTS="monju.example", MONJU_HUB="kana/runs", HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1",
                   HF_HOME=str(tmp_path / "home"), MONJU_OWNER_SECRET="s3", MONJU_QUEUE="7") as (url, _):
        proxied = {"host": "monju.example", "x-forwarded-proto": "https", "x-forwarded-for": "8.8.8.8"}
        config = httpx.get(url + "config", headers=proxied, timeout=60).json()
        assert config["root"] == "https://monju.example/monju" and healthy(url)
        until = time.monotonic() + 300
        while not (tmp_path / "fetched" / "run.json").exists() and time.monotonic() < until:
            time.sleep(0.2)
        assert {path.name for path in tmp_path.iterdir() if path.is_dir()} >= {"fetched"} and not (tmp_path / "broken").exists()
        asked = httpx.post(url + "gradio_api/call/runs", json={"data": []}).json()["event_id"]
        assert "fetched" in httpx.get(f"{url}gradio_api/call/runs/{asked}", timeout=60).text
    assert not healthy(url)


@pytest.mark.slow
def test_a_training_sends_its_run_at_the_end(hub, tiny_run, tmp_path):  # noqa: F811
    """The trainer's own life, on a run that has nothing left to train."""
    shutil.copytree(tiny_run, tmp_path / "runs" / "tiny")
    (tmp_path / "runs" / ".jobs").mkdir()
    environment = {**os.environ, "MONJU_HUB": "kana/runs", "HF_TOKEN": "hf_x", "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1",
                   "HF_HOME": str(tmp_path / "home")}
    with subprocess.Popen([sys.executable, "-m", "monju.training.job_process", str(tmp_path / "runs"), "tiny"], cwd=ROOT, env=environment, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as trainer:
        told = trainer.stdout.read()  # its standard input stays open: it ends with whoever holds that
    assert trainer.returncode == 0 and "Sent to" in told and "hf_x" not in told
    assert "tiny/run.json" in hub.files and "Sent to" in (tmp_path / "runs" / ".jobs" / "tiny.events").read_text()


def free_port():
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("first", [False, True])
def test_sigterm_ends_the_page_and_leaves_nothing_also_as_the_first_process(tiny_run, tmp_path, first):
    """While a viewer's page is open and the models are loaded."""
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] if first else []
    if first and (not shutil.which("unshare") or subprocess.run([*apart, "true"], stderr=subprocess.DEVNULL).returncode):
        pytest.skip("no process can be the first of its own here")
    files, port = tmp_path / "files", free_port()
    with open(tmp_path / "log", "wb") as log:
        started = subprocess.Popen([*apart, sys.executable, *(["app.py"] if first else ["-m", "monju", "app"]), str(tiny_run)], cwd=ROOT, stdout=log, stderr=log, env={
            **os.environ, "MONJU_RUNS": str(tmp_path / "runs"), "GRADIO_TEMP_DIR": str(files), "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": str(port)})
    try:
        until, url = time.monotonic() + 300, f"http://127.0.0.1:{port}/"
        while not load.answers(url):
            assert started.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.1)
        page = psutil.Process(started.pid)
        page = page.children()[0] if first else page
        asked = httpx.post(f"{url}gradio_api/call/predict", json={"data": ["a quiet triumph", ""]}, timeout=60).json()["event_id"]
        assert "complete" in httpx.get(f"{url}gradio_api/call/predict/{asked}", timeout=300).text
        family = [page, *page.children(recursive=True)]
        assert len(family) > 1
        assert list(files.glob("monju-*"))
        with httpx.stream("GET", url + "gradio_api/heartbeat/someone", timeout=60) as beats:
            assert next(beats.iter_raw())
            page.terminate()
            assert started.wait(60) in (0, 143), (tmp_path / "log").read_text()
        assert not list(files.glob("monju-*"))
        assert not psutil.wait_procs(family, timeout=20)[1]
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        started.kill()
        started.wait()
