"""The request guard, attacked over HTTP on a real page: what one visitor cannot do to the others, nor to the machine."""

import http.client
import json
import os
import signal
import socket
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
from conftest import PROCESS, serving
from test_auth import call, closed  # noqa: F401  # closed is a fixture

from monju import ui
from monju.ui.server import protocol, request_guard, shares
from monju.ui.server.hosts import Hosts
from monju.ui.server.visitors import LIVE, Visitors, network


class Person:
    """A visitor: an address, and the cookie of the page's first answer."""

    def __init__(self, url, address, cookie=True, **headers):
        self.url, self.session = url, uuid.uuid4().hex
        self.client = httpx.Client(base_url=url, timeout=60, headers={"x-forwarded-for": address, **headers})
        if cookie:
            assert self.client.get("").status_code == 200

    def join(self, number, data):
        return self.client.post("gradio_api/queue/join", json={"data": data, "fn_index": number, "session_hash": self.session}).status_code

    def say(self, page, text):
        """Send a sentence as the page does: (status, seconds)."""
        number, given = page.sentence
        began = time.monotonic()
        body = {"data": [text, *given[1:]], "fn_index": number, "session_hash": self.session}
        return self.client.post("gradio_api/run/predict", json=body).status_code, time.monotonic() - began


class Page:
    """A page's functions, by what they are for."""

    def __init__(self, url, blocks):
        self.url, self.blocks = url, blocks
        parts = {name: part for part in blocks.blocks.values() if (name := getattr(part, "elem_id", None))}
        value = lambda part: getattr(part, "value", None)  # noqa: E731
        self.sentence = next((number, [value(part) for part in function.inputs]) for number, function in blocks.fns.items()
                             if (parts["sentence"]._id, "change") in function.targets and function.fn and function.inputs)
        self.batch = next((number, [value(part) for part in function.inputs]) for number, function in blocks.fns.items()
                          if shares.kind(function) == "batch")
        self.comes = next((number, [value(part) for part in function.inputs]) for number, function in blocks.fns.items()
                          if any(event == "load" for _, event in function.targets) and function.inputs)
        self.tabs = next((number, [value(part) for part in function.inputs]) for number, function in blocks.fns.items()
                         if shares.kind(function) == "" and function.fn and function.queue is not False and function.inputs)

    def lines(self, n):
        return ["\n".join(f"sentence number {i} of many" for i in range(n)), *self.batch[1][1:]]


@pytest.fixture
def page(closed, monkeypatch):  # noqa: F811
    url, blocks, _ = closed
    yield Page(url, blocks)
    monkeypatch.setattr(shares, "LISTENED_S", 1)
    until = time.monotonic() + 60  # what is left of an attack is waited for
    while page_events(blocks) and time.monotonic() < until:
        time.sleep(0.5)


def page_events(blocks):
    return [event for one in blocks._queue.event_queue_per_concurrency_id.values() for event in one.queue] + [
        event for jobs in blocks._queue.active_jobs for event in jobs or []]


@pytest.mark.parametrize("path", ["deep_link?session_hash=x", "file=https://example.com/x", "file=HTTP://example.com", "file=//example.com/x",
                                  "custom_component/x%0Aforged/client/a/b", "openapi.json", "queue/data?session_hash=nobody", "proxy=x",
                                  "heartbeat/" + "x" * 65, "heartbeat/a%0Ab", "vibe-code", "run-history/records", "call/v2/predict/x", "token"])
def test_what_the_page_does_not_need_is_not_there(page, path, capfd):
    client = Person(page.url, "9.1.0.1").client
    answer = client.get(f"gradio_api/{path}")
    assert answer.status_code == 404 and answer.json() == {"detail": "There is nothing here.", "error": "There is nothing here."}
    assert client.get("?deep_link=x").status_code == 404
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert client.request(method, "").status_code == 404
    out = "".join(capfd.readouterr())
    assert "Traceback" not in out and "forged" not in out


def test_nothing_is_fetched_on_a_visitors_word(page, monkeypatch):
    fetched = []
    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", lambda *args: fetched.append(args))
    who = Person(page.url, "9.1.0.2")
    for place in ({"path": "https://example.com/a"}, {"path": "/etc/passwd"}, {"path": "x", "url": "https://example.com/a"}):
        file = {**place, "meta": {"_type": "gradio.FileData"}}
        number, given = page.sentence
        body = {"data": [file, *given[1:]], "fn_index": number, "session_hash": who.session}
        assert who.client.post("gradio_api/run/predict", json=body).status_code == 422
        for at in range(len(page.batch[1])):
            data = [*page.batch[1][:at], {**file, "path": "https://example.com/a"}, *page.batch[1][at + 1:]]
            assert not call(page.url, page.batch[0], data)["success"]
    assert fetched == []


def test_requests_that_never_end_close_the_page_to_nobody(page, monkeypatch):
    monkeypatch.setattr(request_guard, "BODY_S", 3)
    monkeypatch.setattr(request_guard.whole, "__defaults__", (3,))
    monkeypatch.setattr(protocol, "HEADERS_S", 3)
    at = httpx.URL(page.url)
    body = (f"POST /gradio_api/run/predict HTTP/1.1\r\nhost: {at.host}:{at.port}\r\nx-forwarded-for: 9.1.0.3\r\n"
            "content-type: application/json\r\ncontent-length: 1000\r\n\r\n{").encode()
    held = [socket.create_connection((at.host, at.port)) for _ in range(140)]
    for number, one in enumerate(held):
        one.sendall(body if number % 2 else b"GET / HTTP/1.1\r\nhost: x")
    who = Person(page.url, "9.1.0.4")
    assert [who.say(page, f"sentence {n}")[0] for n in range(5)] == [200] * 5
    until = time.monotonic() + 20
    for one in held:
        one.settimeout(max(0.1, until - time.monotonic()))
        told = one.recv(1000)
        assert told == b"" or told.startswith((b"HTTP/1.1 408", b"HTTP/1.1 503"))
        one.close()


def test_an_upload_that_breaks_off_leaves_no_line_in_the_log(page, capfd):
    at = httpx.URL(page.url)
    for _ in range(5):
        with socket.create_connection((at.host, at.port)) as one:
            one.sendall(f"POST /gradio_api/upload HTTP/1.1\r\nhost: {at.host}\r\nx-forwarded-for: 9.1.0.15\r\n"
                        "content-type: multipart/form-data; boundary=x\r\ncontent-length: 1000\r\n\r\n--x".encode())
            time.sleep(0.1)
    time.sleep(0.5)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_visitor_has_his_share_of_the_queue_and_leaves_the_others_theirs(page):
    number, given = page.batch[0], page.lines(2000)
    greedy = Person(page.url, "9.1.0.5")
    assert [greedy.join(number, given) for _ in range(3)] == [200, 503, 503]
    joined = [greedy.join(*page.tabs) for _ in range(12)]
    assert joined.count(200) <= shares.EACH + 8 and len(page_events(page.blocks)) <= shares.EACH + 1
    many = [Person(page.url, "9.1.0.6") for _ in range(20)]  # of one address
    assert 1 <= [one.join(number, given) for one in many].count(200) <= shares.ADDRESS
    other = Person(page.url, "9.1.0.7")
    status, seconds = other.say(page, "a film of its own")
    assert status == 200 and other.join(*page.comes) == 200


def test_calls_without_a_session_have_a_share_too(page):
    PROCESS.start()
    os.kill(PROCESS._process.pid, signal.SIGSTOP)  # no answer ends before the next is asked
    try:
        who = Person(page.url, "9.1.0.14")
        came = [who.client.post("gradio_api/call/predict", json={"data": [f"sentence {n} of many", ""]}).status_code for n in range(9)]
    finally:
        os.kill(PROCESS._process.pid, signal.SIGCONT)
    assert came == [200] * shares.EACH + [503] * (9 - shares.EACH)


def test_what_nobody_listens_to_ends(page, monkeypatch):
    monkeypatch.setattr(shares, "LISTENED_S", 2)
    who = Person(page.url, "9.1.0.8")
    assert who.join(page.batch[0], page.lines(2000)) == 200
    until = time.monotonic() + 90
    while page_events(page.blocks) and time.monotonic() < until:
        time.sleep(0.2)
    assert not page_events(page.blocks) and time.monotonic() < until
    queue = page.blocks._queue
    while who.session in {*queue.pending_messages_per_session, *queue.pending_event_ids_session} and time.monotonic() < until:
        time.sleep(0.2)
    assert time.monotonic() < until  # its answers are forgotten, too


def test_three_hundred_visitors_of_one_address_leave_another_its_answer(page):
    with ThreadPoolExecutor(8) as threads:
        cookies = [*threads.map(lambda n: httpx.get(page.url, headers={"x-forwarded-for": "9.1.0.9"}, timeout=60).headers.get("set-cookie"), range(300))]
    assert sum(cookie is not None for cookie in cookies) <= LIVE
    status, seconds = Person(page.url, "9.1.0.10").say(page, "an answer within two seconds")
    assert status == 200 and seconds < 2


def test_a_session_is_its_visitors_alone(page):
    mine, other = Person(page.url, "9.1.0.11"), Person(page.url, "9.1.0.12")
    assert mine.say(page, "my own sentence")[0] == 200
    other.session = mine.session
    assert other.say(page, "not my session")[0] == 404
    assert other.client.get(f"gradio_api/heartbeat/{mine.session}").status_code == 404
    assert other.client.get(f"gradio_api/queue/data?session_hash={mine.session}").status_code == 404
    forged = Person(page.url, "9.1.0.11", cookie=False)
    (name, value), = mine.client.cookies.items()
    forged.client.headers["cookie"] = f"{name}={value}0"
    forged.session = mine.session
    assert forged.say(page, "a cookie of my own making")[0] == 404


def test_two_pages_of_one_machine_know_the_same_browser_apart(page, tiny_shelf):
    """A browser sends a host's cookies to all of its ports."""
    mine = Person(page.url, "9.1.0.13")
    assert mine.say(page, "at the first page")[0] == 200
    with serving(tiny_shelf / "tiny", MONJU_RUNS=tiny_shelf) as (url, blocks):
        other = Person(url, "9.1.0.13", cookie=False)
        other.client.cookies = mine.client.cookies
        other.client.headers["cookie"] = "; ".join(f"{name}={value}" for name, value in mine.client.cookies.items())
        answer = other.client.get("")
        assert answer.headers["set-cookie"]
        mine.client.headers["cookie"] = "; ".join(f"{name}={value}" for name, value in [*mine.client.cookies.items(), *answer.cookies.items()])
        assert mine.say(page, "at the first page again")[0] == 200


@pytest.mark.parametrize("headers, status", [
    ({"host": "evil.example:7860"}, 421), ({"host": "monju.localhost"}, 421), ({"origin": "http://evil.localhost:7938"}, 403),
    ({"origin": "null"}, 403), ({"origin": "http://evil.example", "x-forwarded-host": "evil.example"}, 403),
    ({"origin": "http://127.0.0.1:1"}, 403), ({}, 200)])
def test_another_site_does_nothing_here(page, headers, status):
    number, given = page.sentence
    body = {"data": ["from elsewhere", *given[1:]], "fn_index": number, "session_hash": uuid.uuid4().hex}
    answer = httpx.post(f"{page.url}gradio_api/run/predict", json=body, headers=headers, timeout=60)
    assert answer.status_code == status and not [name for name in answer.headers if name.startswith("access-control")]


def test_no_preflight_of_another_site_is_answered_and_no_name_of_its_choice_used(page):
    asked = {"origin": "http://evil.example", "access-control-request-method": "POST", "access-control-request-headers": "x-forwarded-host"}
    answer = httpx.options(f"{page.url}gradio_api/run/predict", headers=asked)
    assert answer.status_code == 404 and not [name for name in answer.headers if name.startswith("access-control")]
    assert "evil.example" not in httpx.get(f"{page.url}config", headers={"x-forwarded-host": "evil.example"}).text
    sent = httpx.get(page.url).headers
    assert "frame-ancestors 'self'" in sent["content-security-policy"]
    assert (sent["x-content-type-options"], sent["referrer-policy"]) == ("nosniff", "same-origin")
    assert "server" not in sent


@pytest.mark.parametrize("environment, host, origin, serves, may", [
    ({}, "localhost:7860", "http://localhost:7860", True, True), ({}, "[::1]:7860", "http://[::1]:7860", True, True),
    ({}, "192.168.1.5:7860", "http://192.168.1.66:7860", True, False), ({}, "kana-monju.hf.space", None, False, True),
    ({"SPACE_HOST": "kana-monju.hf.space"}, "kana-monju.hf.space", "https://kana-monju.hf.space", True, True),
    ({"SPACE_HOST": "kana-monju.hf.space"}, "10.1.2.3:7860", "https://kana-monju.hf.space", True, True),
    ({"MONJU_HOSTS": "monju.example, other"}, "monju.example:443", "https://other", True, True),
    ({}, "x.gradio.live", None, False, True), ({}, "", None, False, True), ({}, "localhost.evil.example", None, False, True)])
def test_which_names_are_the_pages_own(environment, host, origin, serves, may):
    hosts = Hosts(environment)
    assert hosts.serves(host) is serves and hosts.may_act(origin, host) is may
    assert Hosts({}, shared=True).serves("x.gradio.live")


@pytest.mark.parametrize("host, who", [
    ("8.8.8.8", "8.8.8.8"), ("127.0.0.1", None), ("::1", None), ("testclient", "testclient"), ("::ffff:10.0.0.7", "10.0.0.7"),
    ("2a00:1:2:3:4:5:6:7", "2a00:1:2:3::/64")])
def test_which_address_a_peer_counts_as(host, who):
    assert network(host) == who


def test_a_visitor_who_is_gone_makes_room():
    clock = [0.0]
    visitors = Visitors(lambda: clock[0])
    cookies = [visitors.new("9.9.9.9") for _ in range(LIVE + 1)]
    assert cookies[-1] is None and len({*cookies[:-1]}) == LIVE
    assert visitors.of(cookies[0], "9.9.9.9").name == cookies[0].partition(".")[0]
    assert visitors.of(cookies[0] + "x", "9.9.9.9").name == "of 9.9.9.9" == visitors.of(None, "9.9.9.9").name
    clock[0] = 1000.0
    assert visitors.new("9.9.9.9")


def test_what_a_visitor_sends_is_not_kept(page):
    """Gradio keeps it for deep links: 256 sessions of 8 MB each."""
    who, (number, given) = Person(page.url, "9.1.0.13"), page.sentence
    large = "😀" + "x" * 100_000
    assert who.say(page, large)[0] == 200
    assert not page.blocks.state_holder[who.session].config_values
    assert who.say(page, "x" * request_guard.BODY)[0] == 413
    long = "y" * 65
    body = {"data": ["a", *given[1:]], "fn_index": number, "session_hash": long}
    assert who.client.post("gradio_api/run/predict", json=body).status_code == 404


def test_addresses_are_believed_of_a_named_proxy_alone(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(ui, "RunCache", lambda *given: pytest.importorskip("monju.inference.run_cache").RunCache(*given))
    with serving(tiny_run, MONJU_PROXY="", MONJU_RUNS=tmp_path) as (url, _):
        assert os.environ["FORWARDED_ALLOW_IPS"] == "none"
    with serving(tiny_run, MONJU_PROXY="10.0.0.0/8", MONJU_RUNS=tmp_path) as (url, _):
        assert os.environ["FORWARDED_ALLOW_IPS"] == "10.0.0.0/8"
        for n in range(LIVE + 20):  # from this machine, whatever they say: it is not counted, and each gets a cookie
            asked = urllib.request.Request(url + "gradio_api/app_id", headers={"x-forwarded-for": "8.8.8.8"})
            assert json.load(urllib.request.urlopen(asked))


def test_a_connection_in_use_is_not_closed_between_two_requests(page, monkeypatch):
    """Looked at now and then, it is idle nearly every time."""
    monkeypatch.setattr(protocol, "HEADERS_S", 0.2)
    at = httpx.URL(page.url)
    with closing(http.client.HTTPConnection(at.host, at.port, timeout=20)) as one:
        for _ in range(12):
            one.request("GET", "/robots.txt")
            answer = one.getresponse()
            assert answer.status == 200 and answer.read()
            time.sleep(0.12)
        assert one.sock.recv(1) == b""  # and when it is left, it is closed


def test_a_session_that_ends_under_a_second_stream_leaves_no_traceback(page, capfd):
    who = Person(page.url, "9.1.0.16")
    assert who.join(page.batch[0], page.lines(2000)) == 200
    with who.client.stream("GET", f"gradio_api/queue/data?session_hash={who.session}") as second:
        told = second.iter_lines()
        next(told)
        with who.client.stream("GET", f"gradio_api/queue/data?session_hash={who.session}"):
            time.sleep(0.2)  # and is left: Gradio forgets the session
        list(told)
    time.sleep(0.5)
    assert "Traceback" not in "".join(capfd.readouterr())
