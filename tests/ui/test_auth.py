"""Who the owner is, and that a visitor changes nothing: every function of the page is called past the page."""

import hashlib
import json
import shutil
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from conftest import serving

from monju.inference.run_cache import RunCache
from monju.training.job_manager import JobManager
from monju.ui import build, gr
from monju.ui.server import auth
from monju.ui.server.auth import AGE_S, Owner, is_public, wrote
from monju.ui.server.rate_limit import RateLimit

SPACE = {"SYSTEM": "spaces", "SPACE_ID": "kana/monju", "SPACE_AUTHOR_NAME": "kana"}
SIGN_IN = {**SPACE, "OAUTH_CLIENT_ID": "x"}


def request(session="s", peer="203.0.113.9", **headers):
    return SimpleNamespace(session_hash=session, client=SimpleNamespace(host=peer), headers=headers)


def member(name, **roles):
    return {"preferred_username": name, "orgs": [{"preferred_username": org, "roleInOrg": role} for org, role in roles.items()]}


def test_on_ones_own_machine_everyone_is_the_owner():
    assert Owner({}).is_(request()) and Owner({}).refusal(request()) is None


@pytest.mark.parametrize("environment, public, reason", [
    ({}, True, "o_closed"), (SPACE, False, "o_closed"), ({"MONJU_OWNER_SECRET": "s3"}, False, "o_secret"),
    (SIGN_IN, True, "o_login"), ({**SIGN_IN, "MONJU_OWNER_SECRET": "s3"}, True, "o_both"),
    ({**SPACE, "SPACES_ZERO_GPU": "true", "MONJU_OWNER_SECRET": "s3", "MONJU_OPEN": "1"}, True, "o_zero")])
def test_elsewhere_a_visitor_is_refused_with_the_reason(environment, public, reason):
    assert Owner(environment, public).refusal(request(), member("stranger", other="admin")) == reason


def test_an_explicit_flag_opens_a_public_page():
    assert Owner(SPACE, True, open_to_all=True).everyone and Owner({"MONJU_OPEN": "1"}, True).everyone
    assert not Owner({"MONJU_OPEN": "yes"}, True).everyone


def test_a_secret_lets_one_page_in_and_no_other():
    owner = Owner({"MONJU_OWNER_SECRET": "合言葉"}, True)
    assert owner.enter("wrong", request("mine")) == "o_wrong" and owner.refusal(request("mine")) == "o_secret"
    assert owner.enter("合言葉", request("mine")) == "o_welcome" and owner.refusal(request("mine")) is None
    for other in (request("another"), request(None), request("")):
        assert owner.refusal(other) == "o_secret"
    assert owner.enter("合言葉", request(None)) == "o_wrong"


def test_attempts_are_limited_for_each_visitor_and_for_all_together():
    owner = Owner({"MONJU_OWNER_SECRET": "s3"}, True)
    assert [owner.enter("x", request()) for _ in range(6)] == ["o_wrong"] * 5 + ["o_wait"]
    assert owner.enter("s3", request()) == "o_welcome"  # a neighbour's guesses keep nobody out
    others = [owner.enter("x", request(peer=f"198.51.100.{i}")) for i in range(30)]
    assert others.count("o_wrong") == 25 and others[-1] == "o_wait"


def test_a_secret_is_forgotten_with_its_page_and_in_time(monkeypatch):
    owner = Owner({"MONJU_OWNER_SECRET": "s3"}, True)
    assert owner.enter("s3", request("one")) == owner.enter("s3", request("two")) == "o_welcome"
    owner.left("one")
    assert owner.refusal(request("one")) == "o_secret" and owner.refusal(request("two")) is None
    later = time.monotonic() + AGE_S + 1
    monkeypatch.setattr(auth, "time", SimpleNamespace(monotonic=lambda: later))  # not everybody's: a page of another test is served
    assert owner.refusal(request("two")) == "o_secret"


def test_nobody_holds_an_empty_secret():
    owner = Owner({"MONJU_OWNER_SECRET": "  "}, True)
    assert owner.enter("", request()) == "o_wrong" and owner.refusal(request()) == "o_closed"


@pytest.mark.parametrize("profile, may", [
    (member("kana"), True), (member("Kana"), True), (member("ken", kana="admin"), True), (member("ken", kana="write"), True),
    (member("ken", kana="read"), False), (member("ken", kana="contributor"), False), (member("ken", other="admin"), False),
    ({"preferred_username": "ken", "orgs": [{"preferred_username": "kana"}]}, False), ({"preferred_username": None}, False),
    ({}, False), (None, False)])
def test_the_author_and_who_may_write_in_the_organisation_are_owners(profile, may):
    assert wrote(profile, "kana") is may and (Owner(SIGN_IN, True).refusal(request(), profile) is None) is may


def test_sign_in_counts_only_on_a_space():
    elsewhere = Owner({"OAUTH_CLIENT_ID": "x", "SPACE_AUTHOR_NAME": "kana"}, True)  # Gradio's sign-in is a mock there
    assert elsewhere.refusal(request(), member("kana")) == "o_closed"


@pytest.mark.parametrize("how, public", [
    (dict(), False), (dict(server_name="127.0.0.1"), False), (dict(server_name="localhost"), False), (dict(server_name="::1"), False),
    (dict(server_name="0.0.0.0"), True), (dict(server_name="monju.example"), True), (dict(share=True), True),
    (dict(environment={"GRADIO_SERVER_NAME": "0.0.0.0"}), True), (dict(environment={"GRADIO_SHARE": "True"}), True)])
def test_what_is_public(how, public):
    assert is_public(**{"environment": {}, **how}) is public


def test_a_bucket_empties_and_fills():
    clock = [0.0]
    rate = RateLimit(3, 2, lambda: clock[0])
    assert [rate.allows("a") for _ in range(4)] == [True, True, True, False] and rate.allows("b")
    clock[0] = 1.0
    assert [rate.allows("a") for _ in range(3)] == [True, True, False]
    clock[0] = 3.0
    assert [rate.allows("a", 2) for _ in range(2)] == [True, False] and rate.allows("a")


# ---- every function, past the page ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed(tiny_run, tmp_path_factory):
    """A page with a secret, on a folder with one run: its URL, its blocks, the folder."""
    folder = tmp_path_factory.mktemp("owned")
    shutil.copytree(tiny_run, folder / "mine")
    with serving(tiny_run, MONJU_RUNS=folder, MONJU_OWNER_SECRET="s3cret") as (url, blocks):
        yield url, blocks, folder
        JobManager(folder).stop()


def state(folder):
    """What stands in a folder: every path with its content's digest."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in sorted(folder.rglob("*"))}


def post(url, body, **headers):
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json", **headers})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def call(url, number, data, session=None, **headers):
    """Call a function by its number as the page itself does: the last message of the queue."""
    session = session or uuid.uuid4().hex
    post(f"{url}gradio_api/queue/join", {"data": data, "fn_index": number, "session_hash": session}, **headers)
    with urllib.request.urlopen(f"{url}gradio_api/queue/data?session_hash={session}", timeout=120) as stream:
        for line in stream:
            told = json.loads(line[6:]) if line.startswith(b"data: ") else {}
            if told.get("msg") == "process_completed":
                return told
            if told.get("msg") == "unexpected_error":
                return told
    raise AssertionError("no answer")


def visit(url, blocks):
    """A page's session in which the training tab was opened: its lists of runs are filled."""
    session = uuid.uuid4().hex
    opens = next(number for number, function in blocks.fns.items() if function.targets and function.targets[0][1] == "select"
                 and getattr(blocks.blocks.get(function.targets[0][0]), "elem_id", None) == "training")
    assert call(url, opens, [""], session)["success"]
    return session


def plausible(component, uploaded, data):
    """What one would send to a function for one of its inputs, if one meant to change something."""
    name, label = component.elem_id or "", getattr(component.label, "key", "")
    if isinstance(component, gr.State):
        return {"data": str(data), "sample": 30}  # a state of one's own making: the server keeps its own
    if isinstance(component, gr.File):
        return {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
    if isinstance(component, (gr.Number, gr.Slider)):
        return 1
    if isinstance(component, gr.Checkbox):
        return False
    if name in ("a-run", "run"):
        return "mine"
    if name == "setting-data":
        return str(data)
    return {"run-name": "taken-over", "new-name": "taken-over", "t_repository": "kana/monju", "t_token": "hf_x"}.get(
        name or label, getattr(component, "value", None))


HOSTILE = ["../../x", "mine/../mine", "\0", "<script>alert(1)</script>", -1, 1e308, None, [], {}, {"path": "/etc/passwd"}, "x" * 10_000]


@pytest.mark.parametrize("hostile", [False, True])
def test_a_visitor_calls_every_function_and_changes_nothing(closed, movies, hostile):
    url, blocks, folder = closed
    before, refused, called, session = state(folder), 0, 0, visit(url, blocks)
    uploaded = httpx.post(f"{url}gradio_api/upload", files={"files": ("train.csv", (movies / "train.csv").read_bytes())}).json()[0]
    for number, function in blocks.fns.items():
        data = [HOSTILE[(number + i) % len(HOSTILE)] if hostile else plausible(part, uploaded, movies)
                for i, part in enumerate(function.inputs)]
        if function.fn is None:
            continue  # a script of the browser's
        told = call(url, number, data, session)
        called += 1
        refused += "Only the owner" in json.dumps(told)
        assert "Traceback" not in json.dumps(told)
    owners = sum(getattr(function.fn, "owners", False) for function in blocks.fns.values())
    assert called > 40 and owners == 15 and state(folder) == before and not JobManager(folder).running()
    if not hostile:  # hostile values may fail before the function is reached
        assert refused == owners


def test_the_owners_page_is_let_through_and_refused_in_the_pages_language(closed):
    url, blocks, folder = closed
    numbers = {function.name: number for number, function in blocks.fns.items()}
    packs = next(number for number, function in blocks.fns.items() if [t[1] for t in function.targets] == ["click"]
                 and getattr(blocks.blocks[function.targets[0][0]], "elem_id", "") == "run-pack")
    session, another = visit(url, blocks), visit(url, blocks)
    refused = call(url, packs, ["mine"], session, **{"accept-language": "ja"})
    assert "オーナーだけが行えます" in json.dumps(refused, ensure_ascii=False) and not refused["success"]
    assert not call(url, numbers["try_secret"], ["s3cre"], session)["success"]
    assert not call(url, packs, ["mine"], session)["success"]
    assert call(url, numbers["try_secret"], ["s3cret"], session)["success"]
    others = [*Path(tempfile.gettempdir()).glob("*/mine.zip")]
    assert call(url, packs, ["mine"], session)["success"]
    assert [*Path(tempfile.gettempdir()).glob("*/mine.zip")] == others  # it lies where it is swept
    assert not call(url, packs, ["mine"], another)["success"]


def test_every_function_that_changes_something_is_the_owners(tiny_run, tmp_path):
    """By name: what a handler calls that writes, trains or reads a named file is called under owner.only."""
    blocks = build(RunCache(tiny_run, tmp_path), Owner({}, public=True))
    fired = {getattr(blocks.blocks.get(function.targets[0][0]), "elem_id", None): getattr(function.fn, "owners", False)
             for function in blocks.fns.values() if function.targets}
    for name in ("start", "really-stop", "resume", "rename", "really-delete", "run-pack", "upload", "sweep-add", "pin-add"):
        assert fired[name], name


def test_a_flood_is_told_to_wait_at_once(closed):
    url = closed[0]
    answers = []
    for _ in range(90):
        try:
            post(f"{url}gradio_api/queue/join", {"data": []}, **{"x-forwarded-for": "8.8.8.8"})
        except urllib.error.HTTPError as error:
            answers.append((error.code, error.read().decode()))
    assert {code for code, _ in answers} == {404, 503} and 10 <= sum(code == 503 for code, _ in answers) <= 30
    assert any("try again" in said for code, said in answers if code == 503)
