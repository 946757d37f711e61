"""What the page bears: `python docs/load.py [--visitors 50 --seconds 120 --flood 400 --opens 1000 --no-training --no-every --json]`.

Starts the page in a process of its own on loopback and asks as browsers do:

1. a crowd: every visitor, his page open, sends another sentence each second, while a training runs;
2. a flood beyond that, from many addresses and from one, and how long ordinary service takes to return;
3. page opens, each a new session that leaves again: memory of the page with the processes it has started, and its file handles;
4. with `--writers 10`, and then alone: so many want one text after another in the Writer, beside five who send a sentence a second.

Every visitor has an address of his own in X-Forwarded-For, as behind a proxy, so that the page's own limits count, or all have
the same, as in a lecture hall (`--one-address`); each opens the page and keeps its cookie. In the crowd a sentence's time runs from the moment it was due, so that an answer that comes late makes the next one late too.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from socket import socket

import httpx
import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the package beside this folder, installed or not
from monju.config import Config  # noqa: E402
from monju.presets import PRESETS  # noqa: E402
from monju.training.job_manager import JobManager  # noqa: E402

SUBJECTS = ("the story", "the acting", "the ending", "this film", "the music", "her performance", "every scene", "the script")
WORDS = ("is fine, I suppose", "could be worse", "is odd but never dull", "is nearly good", "tries hard", "drags on and on",
         "is a small miracle", "asks a lot and gives a little", "is a mess, and I liked it", "has wit and warmth to spare")
PATIENCE = 60  # seconds for one answer
SOON = 2  # seconds in which an ordinary visitor wants his answer


def sentence():
    """A made-up sentence of about ten words, hardly ever the same."""
    return " but ".join(f"{random.choice(SUBJECTS)} {random.choice(WORDS)}" for _ in range(2)) + random.choice("!.?…") * random.randint(1, 3)


# ---- the page ---------------------------------------------------------------------------------------------------


@contextmanager
def page(folder, run=ROOT / "trained" / "sst2-minilm", patience=300, **environment):
    """The page on a run in a process of its own, its runs in `folder`: (its URL, its psutil.Process), when it answers."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}/", Path(folder) / "page.log"
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "MONJU_RUNS": str(folder), "MONJU_PROXY": "127.0.0.1", "GRADIO_SERVER_NAME": "127.0.0.1",
                   "GRADIO_SERVER_PORT": str(port), **environment}
    with open(log, "wb") as file:
        process = subprocess.Popen([sys.executable, "app.py", str(run)], cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        until = time.monotonic() + patience
        while not answers(url):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the page does not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def state(process):
    """What the page holds: its memory and that of the processes it has started, in MiB, and its file handles."""
    memory = sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])
    return {"mib": round(memory / 2**20), "handles": process.num_fds()}


@dataclass
class Functions:
    """The page's functions that a visitor's browser calls: of each its number, what it is given (the page's own values), and whether
    it is queued."""

    read: tuple  # a sentence was typed
    come: tuple  # the page was opened
    write: tuple  # a text was asked for

    @classmethod
    def of(cls, url):
        with urllib.request.urlopen(f"{url}config", timeout=60) as answer:
            config = json.load(answer)
        parts = {part["id"]: part for part in config["components"]}
        named = {part["props"].get("elem_id"): number for number, part in parts.items()}

        def function(target, event):
            found = next(one for one in config["dependencies"]
                         if any(what == event and target in (None, who) for who, what in one["targets"]) and one["inputs"])
            return found["id"], [parts[number]["props"].get("value") for number in found["inputs"]], found["queue"] is not False

        return cls(function(named["sentence"], "change"), function(None, "load"), function(named["write"], "click"))


@dataclass
class Visitor:
    """Somebody's open page: an address and a session."""

    client: httpx.AsyncClient
    functions: Functions
    address: str
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    cookie: str = ""  # the page's first answer brings it

    @property
    def headers(self):
        """What says whose a request is."""
        return {"x-forwarded-for": self.address, "cookie": self.cookie}

    async def call(self, function, first=None):
        """Call a function as the page does → 200 where it was answered well, 503 where it is busy, else what went wrong."""
        number, given, queued = function
        body = {"data": given if first is None else [first, *given[1:]], "fn_index": number, "session_hash": self.session}
        joined = await self.knock("queue/join" if queued else "run/predict", json.dumps(body).encode())
        if joined != 200 or not queued:
            return joined
        stream = self.client.stream("GET", "gradio_api/queue/data", params={"session_hash": self.session}, headers=self.headers)
        done = False
        async with stream as told:
            async for line in told.aiter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    done = 200 if message["success"] else str(message["output"])
                elif message.get("msg") == "close_stream":
                    break
                elif message.get("msg") == "unexpected_error":
                    return str(message)
        return done or "no answer"

    async def knock(self, door, body):
        """Ask to be answered, or let into the queue: the HTTP status. Without a client's library, which would take more time than a
        refusal does."""
        at = self.client.base_url
        reader, writer = await asyncio.open_connection(at.host, at.port)
        try:
            writer.write(f"POST {at.path}gradio_api/{door} HTTP/1.1\r\nhost: {at.netloc.decode()}\r\ncontent-type: application/json\r\n"
                         f"x-forwarded-for: {self.address}\r\ncookie: {self.cookie}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
            status = (await reader.readline()).split()
            await reader.read()  # to its end, as a browser does
            return int(status[1]) if status else "no answer"
        finally:
            writer.close()

    async def ask(self, due=None):
        """Send a sentence of one's own: (what came of it, seconds since it was due)."""
        due = due or time.monotonic()
        try:
            came = await asyncio.wait_for(self.call(self.functions.read, sentence()), PATIENCE)
        except (httpx.HTTPError, asyncio.TimeoutError, OSError) as error:
            came = repr(error)
        return came, time.monotonic() - due

    async def stay(self, seconds, every=True):
        """A sentence each second: what `ask` says of each. Unless `every` one is sent, those that were typed over before the one
        before them was answered are not: the page's browsers send the last alone (`always_last`)."""
        begin, found = time.monotonic() + random.random(), []
        for second in range(seconds):
            if not every and second + 1 < seconds and time.monotonic() > begin + second + 1:
                continue
            await asyncio.sleep(max(0, begin + second - time.monotonic()))
            found.append(await self.ask(begin + second))
        return found

    async def compose(self, run, until):
        """Ask for one text after another: what came of each, and the seconds that it took, waiting included."""
        found = []
        while time.monotonic() < until:
            began = time.monotonic()
            found.append((await self.call(self.functions.write, run), time.monotonic() - began))
        return found

    async def later(self, seconds):
        """A sentence out of a session of its own, whatever became of those before it."""
        await asyncio.sleep(seconds)
        return await replace(self, session=uuid.uuid4().hex).ask()

    async def open(self):
        """Open the page, take what comes with it, and leave again."""
        async with self.here():
            return await self.call(self.functions.come)

    @asynccontextmanager
    async def here(self):
        """The page is open: until it is left, the session is kept."""
        page = await self.client.get("", headers=self.headers)
        page.raise_for_status()
        self.cookie = page.headers.get("set-cookie", self.cookie).partition(";")[0]
        alive = asyncio.create_task(self.hold())
        try:
            yield
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)

    async def hold(self):
        """The stream by which the page knows that somebody is there."""
        async with self.client.stream("GET", f"gradio_api/heartbeat/{self.session}", headers=self.headers) as beats:
            async for _ in beats.aiter_raw():
                pass


def crowd(url, functions, visitors, one_address=False):
    """Visitors with an address each, or one for all, and the client that they share."""
    client = httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=httpx.Limits(max_connections=None, max_keepalive_connections=200))
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # each visitor keeps his own
    return client, [Visitor(client, functions, "9.9.9.9" if one_address
                            else f"9.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")
                    for number in range(256, 256 + visitors)]


# ---- the three measurements -------------------------------------------------------------------------------------


def summary(found):
    """Of what `ask` said: how many, answered, told to try again, errors, and the times of those answered and refused."""
    errors = [came for came, _ in found if came not in (200, 503)]
    report = {"n": len(found), "errors": len(errors), "error": str(errors[0])[:200] if errors else ""}
    for name, code in (("answered", 200), ("busy", 503)):
        times = [seconds for came, seconds in found if came == code]
        report[name] = len(times)
        if times:
            report |= {f"{name}_{title}_s": round(float(np.percentile(times, part)), 3)
                       for title, part in (("median", 50), ("p95", 95), ("max", 100))}
    return report


async def ordinary(url, functions, process, visitors, seconds, every=True, one_address=False):
    """So many visitors, a sentence a second each, once all of them have opened the page."""
    client, people = crowd(url, functions, visitors, one_address)
    async with client, AsyncExitStack() as pages:
        for person in people:
            await pages.enter_async_context(person.here())
            await person.call(functions.come)
        before = state(process)
        found = sum(await asyncio.gather(*(person.stay(seconds, every) for person in people)), [])
        return {**summary(found), "typed_over": visitors * seconds - len(found), "load_average": round(os.getloadavg()[0], 1),
                "before": before, "after": state(process)}


async def flooded(url, functions, process, visitors, seconds=10):
    """So many visitors for some seconds, who wait for nothing, then one address that sends as many at once, then an ordinary
    visitor, until he is answered soon."""
    client, people = crowd(url, functions, visitors)
    async with client:
        before = state(process)
        many = await asyncio.gather(*(person.later(second + random.random()) for person in people for second in range(seconds)))
        one = await asyncio.gather(*(Visitor(client, functions, "8.8.8.8").ask() for _ in people))
        ended, back = time.monotonic(), None
        while back is None and time.monotonic() < ended + PATIENCE:
            came, seconds = await Visitor(client, functions, "8.8.4.4").ask()
            back = time.monotonic() - ended if came == 200 and seconds < SOON else None
            await asyncio.sleep(0.2)
    return {"many": summary(many), "one_address": summary(one), "ordinary_again_s": back and round(back, 2),
            "before": before, "after": state(process)}


async def opened(url, functions, process, opens, parts=4):
    """So many page opens, four at a time: what the process holds before, and after each quarter."""
    client, people = crowd(url, functions, opens)
    async with client:
        await people[0].open()
        states, errors, began = [state(process)], 0, time.monotonic()
        for quarter in np.array_split(people, parts):
            for four in range(0, len(quarter), 4):
                errors += sum(came != 200 for came in await asyncio.gather(*(one.open() for one in quarter[four:four + 4])))
            await asyncio.sleep(1)  # connections that were left are closed
            states.append(state(process))
    return {"n": opens, "errors": errors, "seconds": round(time.monotonic() - began), "states": states}


async def writing(url, functions, process, run, writers, seconds, readers=5):
    """Writers and readers at once, once a first text has loaded the models."""
    client, people = crowd(url, functions, writers + readers)
    async with client, AsyncExitStack() as pages:
        for person in people:
            await pages.enter_async_context(person.here())
            await person.call(functions.come)
        first = await people[0].compose(run, time.monotonic() + 0.1)
        states = [state(process)]
        for _ in range(2):  # memory that grows shows between the halves
            until = time.monotonic() + seconds / 2
            found = await asyncio.gather(*(person.compose(run, until) for person in people[:writers]),
                                         *(person.stay(seconds // 2) for person in people[writers:]))
            states.append(state(process))
        return {"first_text_s": first[0][1], "texts": summary(sum(found[:writers], [])), "sentences": summary(sum(found[writers:], [])),
                "states": states}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--visitors", type=int, default=50, help="who send a sentence a second each (50)")
    arguments.add_argument("--seconds", type=int, default=120, help="how long they do (120)")
    arguments.add_argument("--flood", type=int, default=400, help="visitors of the flood, for ten seconds; 0 leaves it out (400)")
    arguments.add_argument("--opens", type=int, default=1000, help="page opens; 0 leaves them out (1000)")
    arguments.add_argument("--training", action=argparse.BooleanOptionalAction, default=True,
                           help="train a run meanwhile, in a process of its own, as the page does")
    arguments.add_argument("--every", action=argparse.BooleanOptionalAction, default=True,
                           help="send every sentence; otherwise, as browsers do, not those typed over while one waited for an answer")
    arguments.add_argument("--one-address", action="store_true", help="all of the crowd behind one address, as in a lecture hall")
    arguments.add_argument("--writers", type=int, default=0, help="who write texts; all else is then left out (0)")
    arguments.add_argument("--writes", type=Path, default=ROOT / "trained" / "reviews-smollm2", help="the run that they write with")
    arguments.add_argument("--json", action="store_true", help="print JSON alone")
    asked = arguments.parse_args()
    report = {"cores": os.cpu_count(), "training": asked.training}
    with tempfile.TemporaryDirectory() as folder, page(folder) as (url, process):
        functions, jobs = Functions.of(url), JobManager(folder)
        if asked.writers:
            (Path(folder) / asked.writes.name).symlink_to(asked.writes.resolve())
            report = {"writing": asyncio.run(writing(url, functions, process, asked.writes.name, asked.writers, asked.seconds))}
            print(json.dumps(report, indent=None if asked.json else 1))
            return
        report["warm"] = asyncio.run(ordinary(url, functions, process, asked.visitors, 10, one_address=asked.one_address))
        if asked.training:
            jobs.start(Config(**{**PRESETS["laptop"], "workers": 1}), "load")
            while "now" not in (seen := jobs.snapshot()) or not seen["now"]:  # the first steps are taken
                if seen["status"] not in ("training", "stopping"):
                    raise SystemExit(f"the training does not start: {seen}")
                time.sleep(1)
        try:
            report["crowd"] = asyncio.run(ordinary(url, functions, process, asked.visitors, asked.seconds, asked.every,
                                                 asked.one_address))
            report["crowd"]["trained_to_its_end"] = jobs.running() if asked.training else None
        finally:
            jobs.stop()
        if asked.flood:
            report["flood"] = asyncio.run(flooded(url, functions, process, asked.flood))
        if asked.opens:
            report["opens"] = asyncio.run(opened(url, functions, process, asked.opens))
    if asked.json:
        print(json.dumps(report))
        return
    for part, found in report.items():
        print(part, *(f"\n  {name}: {value}" for name, value in found.items()) if isinstance(found, dict) else [found])


if __name__ == "__main__":
    main()
