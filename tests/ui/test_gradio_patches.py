"""Gradio's own doors: what of them is closed, and how much goes through those that are open."""

import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import pytest
from test_auth import closed  # noqa: F401  # closed is a fixture

from monju.errors import MonjuError
from monju.ui import OPTIONS, waiting
from monju.ui.server import temp_files
from monju.ui.server.request_guard import LARGE_BODY, LEAST, MIB


@pytest.fixture
def visitor(closed, request):  # noqa: F811
    """A client with an address of its own, as behind a proxy."""
    number = abs(hash(request.node.name))
    address = f"9.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    with httpx.Client(base_url=closed[0] + "gradio_api/", headers={"x-forwarded-for": address}, timeout=120) as client:
        yield client


@pytest.mark.parametrize("path", ["monitoring", "monitoring/summary", "gradio_api/runs", "gradio_api/file=/etc/passwd",
                                  "gradio_api/file=README.md", "gradio_api/file=app.py"])
def test_gradios_own_doors_are_closed(closed, path):  # noqa: F811
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(closed[0] + path, timeout=30)
    assert refused.value.code in (401, 403, 404)


def test_the_door_of_what_needs_no_queue_is_no_way_around_the_queue(visitor, closed):  # noqa: F811
    """The form's own small answers and a sentence's come through it; a function that is queued does not."""
    _, blocks, _ = closed

    def asked(**content):
        while (status := visitor.post("run/predict", **content).status_code) == 503:  # more at once than one visitor may ask
            time.sleep(0.2)
        return status

    for number in [number for number, function in blocks.fns.items() if function.fn and function.queue is not False]:
        assert asked(json={"data": ["a fine film"], "fn_index": number}) == 404, number
    assert asked(files={"video": b"x"}) == 422


@pytest.mark.parametrize("path", ["api/predict", "run/1", "process_recording", "component_server", "stream/x", "vibe-code"])
def test_what_no_browser_posts_to_is_closed(visitor, path):
    assert visitor.post(path, json={"data": ["a fine film"], "fn_index": 1}).status_code == 404
    assert visitor.post(path, files={"video": b"x"}).status_code == 404


def test_a_function_that_is_not_there_is_told_without_a_traceback(visitor, capfd):
    for path, body in (("queue/join", {"data": [], "fn_index": 999, "session_hash": "x"}), ("call/nothing", {"data": []}),
                       ("call/v2/nothing", {}), ("queue/join", {"data": [], "fn_index": -1, "session_hash": "x"})):
        assert visitor.post(path, json=body).status_code < 500, path
    assert "Traceback" not in "".join(capfd.readouterr())


def test_what_is_too_large_is_refused_and_not_kept(visitor):
    before = {*Path(temp_files.FOLDER.name).rglob("*")}
    assert visitor.post("queue/join", json={"data": ["x" * LARGE_BODY]}).status_code == 413
    assert visitor.post("upload", files={"files": bytes(52 * MIB)}).status_code == 413
    assert visitor.post("upload", content=iter([b"x"] * 3), headers={"content-type": "multipart/form-data; boundary=x"}).status_code == 400
    assert visitor.post("upload", files=[("files", (f"{i}.csv", b"x" * 40_000 * i)) for i in range(60)]).status_code == 413  # together
    assert {*Path(temp_files.FOLDER.name).rglob("*")} == before


def test_many_small_files_use_up_a_quota_and_leave_other_visitors_theirs(visitor, closed):  # noqa: F811
    answers = [visitor.post("upload", files=[("files", (f"{i}.csv", b"x")) for i in range(20)]).status_code for _ in range(200 * MIB // LEAST + 1)]
    assert answers == [200] * (len(answers) - 1) + [503]
    assert visitor.post("queue/join", json={"data": []}).status_code == 404  # who brings no files is not asked for any
    other = httpx.post(closed[0] + "gradio_api/upload", files={"files": b"x"}, headers={"x-forwarded-for": "1.1.1.1"})
    assert other.status_code == 200


def test_a_page_that_somebody_uploads_is_not_shown_as_one(visitor):
    for name in ("x.html", "x.svg", "x.xml", "x.js"):
        [path] = visitor.post("upload", files={"files": (name, b"<script>alert(1)</script>")}).json()
        assert visitor.get(f"file={path}").headers["content-disposition"].startswith("attachment")


def test_what_gradio_forgets_is_swept(visitor, closed):  # noqa: F811
    """A file that is sent under a name that nobody asked for."""
    folder = Path(temp_files.FOLDER.name)
    assert closed[1].delete_cache == (3600, 3600) and str(folder) == os.environ["GRADIO_TEMP_DIR"]
    before = {*folder.rglob("*")}
    assert visitor.post("upload", files={"other": b"forgotten"}).status_code == 200
    assert (left := {*folder.rglob("*")} - before)
    temp_files.sweep()
    assert left <= {*folder.rglob("*")}  # not yet
    temp_files.sweep(age=-1)
    temp_files.sweep(age=-1)
    assert folder.is_dir() and not [*folder.rglob("*")]


def test_pages_that_were_left_are_forgotten(closed):  # noqa: F811
    """Gradio keeps the state of 10,000, half a MB each, nearly all of it a description of the page."""
    holder = closed[1].state_holder
    assert holder.capacity == OPTIONS["state_session_capacity"] <= 256
    for number in range(holder.capacity + 5):
        assert not holder[f"visitor {number}"].config_values
    assert len(holder.session_data) == holder.capacity
    holder.session_data.clear()


def test_how_many_may_wait():
    assert waiting({}) == 64 and waiting({"MONJU_QUEUE": "8"}) == 8
    with pytest.raises(MonjuError, match="MONJU_QUEUE"):
        waiting({"MONJU_QUEUE": "many"})


def test_what_no_page_sends_past_the_queue_is_refused_without_a_traceback(visitor, closed, capfd):  # noqa: F811
    """The browser's own functions, and too few values; what the page sends is answered as before."""
    _, blocks, _ = closed
    straight = {number: function for number, function in blocks.fns.items() if function.queue is False}
    own = [number for number, function in straight.items() if function.fn is None]
    asked = {number: [getattr(part, "value", None) for part in function.inputs] for number, function in straight.items() if function.fn}
    assert own and asked
    for number, data in [*((number, []) for number in own), *((number, data[:-1]) for number, data in asked.items() if len(data) > 1)]:
        told = visitor.post("run/predict", json={"data": data, "fn_index": number, "session_hash": "x"})
        assert told.status_code == 422 and told.json()["error"] == "That is not what the page sends.", number
    for number, data in asked.items():
        assert visitor.post("run/predict", json={"data": data, "fn_index": number, "session_hash": "x"}).status_code == 200, number
    assert "Traceback" not in "".join(capfd.readouterr())
