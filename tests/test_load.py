"""The page under a small crowd, a small flood and many openers; docs/load.py has the large ones. No time is asserted."""

import asyncio
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
import load  # noqa: E402

FEW = 8  # file handles that come and go: connections, a file being read


@pytest.fixture(scope="module")
def served(tiny_run, tmp_path_factory, finish):
    """A page on a tiny run in a process of its own: its URL, its functions, its process."""
    with load.page(tmp_path_factory.mktemp("served"), tiny_run) as (url, process):
        functions = load.Functions.of(url)
        finish(load.ordinary(url, functions, process, 2, 1))  # the run is opened
        yield url, functions, process


def test_every_visitor_of_a_crowd_is_answered(served, finish):
    found = finish(load.ordinary(*served, visitors=10, seconds=5))
    assert found["answered"] == found["n"] == 50 and not found["errors"]
    assert found["after"]["handles"] <= found["before"]["handles"] + FEW


def test_every_user_is_answered_though_the_inference_process_is_killed_again_and_again(served, finish):
    def inference():
        return [child for child in served[2].children() if child.status() != psutil.STATUS_ZOMBIE
                and "spawn_main" in " ".join(child.cmdline())]

    async def both(times=2):
        struck, crowd = [], asyncio.create_task(load.ordinary(*served, visitors=10, seconds=5))
        for _ in range(times):
            await asyncio.sleep(1.5)
            struck += inference()
            struck[-1].kill()
            while not crowd.done() and not any(child.pid != struck[-1].pid for child in inference()):  # the next request starts it
                await asyncio.sleep(0.1)
        return await crowd, struck

    found, struck = finish(both())
    assert found["answered"] == found["n"] == 50 and not found["errors"] and len({each.pid for each in struck}) == 2


@dataclass
class Patient(load.Visitor):
    """Whose answers take more than two seconds: what he sent, and when."""

    sent: list = field(default_factory=list)

    async def ask(self, due=None):
        self.sent.append(due)
        await asyncio.sleep(2.2)
        return 200, time.monotonic() - due


@pytest.mark.parametrize("every", [True, False])
def test_what_was_typed_over_is_left_out_as_browsers_do(finish, every):
    visitor = Patient(None, None, "9.9.9.9")
    found = finish(visitor.stay(4, every))
    assert len(found) == len(visitor.sent) and (len(found) == 4) == every
    assert round(visitor.sent[-1] - visitor.sent[0]) == 3  # the first and the last are sent in any case


def test_a_flood_is_answered_or_told_to_wait_and_ordinary_service_returns(served, finish):
    found = finish(load.flooded(*served, visitors=70, seconds=1))
    assert not found["many"]["errors"] and not found["one_address"]["errors"]
    assert found["one_address"]["busy"] > 0 and found["ordinary_again_s"] is not None
    assert found["after"]["handles"] <= found["before"]["handles"] + FEW


def test_page_opens_leave_no_file_handle_behind(served, finish):
    found = finish(load.opened(*served, opens=50))
    assert not found["errors"] and len(found["states"]) == 5
    assert found["states"][-1]["handles"] <= found["states"][0]["handles"] + FEW
