"""The page with no network and nothing kept from before: no connection but to this machine is even tried."""

import os
import sys
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
import load  # noqa: E402

# Python runs it at every start, ours and our children's: what is asked of a network is noted and refused
WATCH = '''
import os, sys

def watch(event, values):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        asked = values[1] if event in ("socket.connect", "socket.sendto") else values
        host = asked[0] if isinstance(asked, tuple) else "127.0.0.1"  # a path: another process of this machine
        host = host.decode() if isinstance(host, bytes) else host
        if host not in (None, "", "localhost", "::1", "0.0.0.0") and not host.startswith("127."):
            with open(os.environ["MONJU_WATCH"], "a") as file:
                file.write(f"{event} {asked!r}\\n")
            raise OSError("there is no network")

sys.addaudithook(watch)
open(os.environ["MONJU_WATCH"], "a").close()
'''


@pytest.mark.slow
def test_started_with_an_empty_cache_it_answers_and_tries_no_connection(tmp_path, finish):
    (tmp_path / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    tried, home = tmp_path / "tried", tmp_path / "home"
    empty = {"HOME": home, "HF_HOME": home / "hf", "MONJU_CACHE": home / "monju", "XDG_CACHE_HOME": home / "cache", "MONJU_WATCH": tried,
             "PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))}
    with load.page(tmp_path, **{name: str(value) for name, value in empty.items()}) as (url, process):
        functions = load.Functions.of(url)

        async def visit():
            async with httpx.AsyncClient(base_url=url, timeout=load.PATIENCE) as client:
                return [await load.Visitor(client, functions, "8.8.8.8").open(), await load.Visitor(client, functions, "8.8.8.8").ask()]

        opened, (asked, _) = finish(visit())
        assert opened == asked == 200
    assert tried.read_text() == ""


def test_a_connection_that_is_tried_is_noted(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    ask = "import urllib.request as r\ntry: r.urlopen('https://monju.example')\nexcept OSError as error: print(error)"
    told = load.subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True,
                               env={**os.environ, "PYTHONPATH": str(tmp_path), "MONJU_WATCH": str(tmp_path / "tried")})
    assert "no network" in told.stdout and "monju.example" in (tmp_path / "tried").read_text()
