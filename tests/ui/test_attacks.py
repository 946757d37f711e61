"""One visitor does all he can, at random, to a real page in a process of its own; the others are answered, and memory stays."""

import json
import random
import shutil
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import load  # noqa: E402

RUNS = ("one", "two", "three", "four")
ATTACKER, OTHER = "9.8.7.6", "9.8.7.7"


class Attacker:
    """A visitor with a cookie, and what he may try; each method is one attack of some requests."""

    def __init__(self, url, functions, seed):
        self.url, self.functions, self.random = url, functions, random.Random(seed)
        self.client = httpx.Client(base_url=url, timeout=30, headers={"x-forwarded-for": ATTACKER})
        self.client.get("")
        config = self.client.get("config").json()
        values = {part["id"]: part["props"].get("value") for part in config["components"]}
        self.tabs = [(one["id"], [values[number] for number in one["inputs"]]) for one in config["dependencies"]
                     if one["inputs"] and any(event == "select" for _, event in one["targets"])]

    def post(self, path, body, **headers):
        return self.client.post(f"gradio_api/{path}", content=body if isinstance(body, bytes) else json.dumps(body).encode(),
                                headers={"content-type": "application/json", **headers})

    def call(self, path, text, session=None, run=None):
        number, given, _ = self.functions.read
        data = [text, run or given[1], *given[2:]]
        return self.post(path, {"data": data, "fn_index": number, "session_hash": session or uuid.uuid4().hex})

    def large_texts_in_many_sessions(self):
        for size in (7_900_000, 250_000, 60_000):
            for _ in range(8):
                self.call("run/predict", "😀" + "x" * size, session=uuid.uuid4().hex * self.random.choice((1, 2, 3000)))

    def requests_that_never_end(self):
        at = httpx.URL(self.url)
        held = []
        for _ in range(70):
            one = socket.create_connection((at.host, at.port))
            one.sendall(self.random.choice((
                b"POST /gradio_api/run/predict HTTP/1.1\r\nhost: 127.0.0.1\r\nx-forwarded-for: 9.8.7.6\r\ncontent-type: application/json\r\n"
                b"content-length: 1000\r\n\r\n{", b"GET / HTTP/1.1\r\nhost: 127", b"POST /gradio_api/upload HTTP/1.1\r\nhost: 127.0.0.1\r\n"
                b"x-forwarded-for: 9.8.7.6\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: 1000\r\n\r\n--x")))
            held.append(one)
        time.sleep(self.random.uniform(0, 3))
        for one in held:
            one.close()

    def the_queue(self):
        for _ in range(30):
            number = self.random.randrange(120)
            text = "\n".join(["a line of many"] * 2000)
            self.post("queue/join", {"data": [text] * self.random.randrange(9), "fn_index": number, "session_hash": uuid.uuid4().hex})

    def answers_that_nobody_takes(self):
        for _ in range(20):
            number, given = self.random.choice(self.tabs)
            self.post("queue/join", {"data": given, "fn_index": number, "session_hash": uuid.uuid4().hex})

    def files_from_elsewhere(self):
        for path in ("https://example.com/x", "http://127.0.0.1:1/x", "/etc/passwd", "file:///etc/passwd"):
            self.call("run/predict", {"path": path, "meta": {"_type": "gradio.FileData"}})
            self.client.get(f"gradio_api/file={path}")

    def paths(self):
        for path in ("deep_link?session_hash=x", "queue/data?session_hash=nobody", "custom_component/x%0AFORGED%1b[31m/client/a/b", "openapi.json",
                     "call/v2/predict", "../../etc/passwd", "heartbeat/%00", "run/predict/%0a", "login/callback?_nb_redirects=x"):
            self.client.request(self.random.choice(("GET", "POST", "PUT", "OPTIONS")), f"gradio_api/{path}")

    def other_names(self):
        for headers in ({"host": "evil.example"}, {"origin": "https://evil.example", "x-forwarded-host": "evil.example"}, {"origin": "null"}):
            self.call("run/predict", "x") if not headers else self.client.post("gradio_api/run/predict", content=b"{}", headers=headers)

    def odd_json(self):
        for body in (b"[" * 100_000, b'{"data": NaN}', b"null", b'{"fn_index": 1e308}', b'{"data": [], "fn_index": true, "session_hash": {}}',
                     b'{"data": "\\ud800", "fn_index": 3}', b"\xff\xfe", b""):
            self.post(self.random.choice(("run/predict", "queue/join", "cancel", "reset", "call/predict")), body)

    def runs_in_turn(self):
        for name in self.random.sample(RUNS, 4):
            self.call("run/predict", f"sentence {self.random.random()}", run=name)

    def pages(self):
        for _ in range(12):
            self.client.get(self.random.choice(("", "config")))

    def streams(self):
        for _ in range(20):
            with suppress(httpx.HTTPError), self.client.stream("GET", f"gradio_api/heartbeat/{uuid.uuid4().hex}"):
                pass


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [10, *(pytest.param(seconds, marks=pytest.mark.long) for seconds in (120, 600))])
def test_one_visitor_takes_the_page_from_nobody(tiny_run, tmp_path, seconds):
    for name in RUNS:
        shutil.copytree(tiny_run, tmp_path / name)
    with load.page(tmp_path, tmp_path / RUNS[0], MONJU_OWNER_SECRET="s3") as (url, process):
        functions, over, tried = load.Functions.of(url), threading.Event(), set()
        other = httpx.Client(base_url=url, timeout=60, headers={"x-forwarded-for": OTHER})
        other.get("")
        number, given, _ = functions.read

        def ask():
            body = {"data": [load.sentence(), *given[1:]], "fn_index": number, "session_hash": "other"}
            began = time.monotonic()
            return other.post("gradio_api/run/predict", json=body).status_code, time.monotonic() - began

        def attack(seed):
            attacker = Attacker(url, functions, seed)
            attacks = [getattr(attacker, name) for name, one in vars(Attacker).items() if name not in ("__init__", "post", "call") and callable(one)]
            while not over.is_set():
                one = attacker.random.choice(attacks)
                tried.add(one.__name__)
                with suppress(httpx.HTTPError, OSError):
                    one()

        for _ in range(5):
            assert ask()[0] == 200
        for name in RUNS:  # as much is loaded as will be
            Attacker(url, functions, 0).call("run/predict", "ready", run=name)
        before, threads = load.state(process)["mib"], [threading.Thread(target=attack, args=(seed,)) for seed in range(2)]
        for one in threads:
            one.start()
        answers, until = [], time.monotonic() + seconds
        while time.monotonic() < until:
            answers.append(ask())
            time.sleep(max(0, 1 - answers[-1][1]))
        over.set()
        for one in threads:
            one.join()
        after, log = load.state(process), (tmp_path / "page.log").read_text(errors="replace")
        taken = [seconds for _, seconds in answers]
        print(f"\n{len(answers)} sentences of another visitor: median {np.median(taken):.2f} s, p95 {np.percentile(taken, 95):.2f} s; "
              f"{before} → {after['mib']} MiB, {after['handles']} handles; log {len(log)} characters; attacks {sorted(tried)}")
        assert {status for status, _ in answers} == {200} and np.percentile(taken, 95) < 2
        assert after["mib"] - before < 200
        assert "Traceback" not in log and "FORGED" not in log and len(log) < 20_000 and after["handles"] < 300
        assert ask()[0] == 200
