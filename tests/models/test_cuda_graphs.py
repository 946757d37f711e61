"""When a step is run, recorded and replayed. The device's part is stood in for here; docs/gpu_check.py tries it on a GPU."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from monju.models.cuda_graphs import Replay


@pytest.fixture
def device(monkeypatch):
    """torch.cuda without a GPU: what is called inside of a recording is kept, not run, and run when it is replayed."""
    state = SimpleNamespace(recording=None, error=None)

    class Graph:
        def __init__(self):
            self.calls = []

        def replay(self):
            for call in self.calls:
                call()

    @contextmanager
    def recording(graph, pool, capture_error_mode):
        assert pool == "pool"
        state.recording = graph
        try:
            yield
        finally:
            state.recording = None
        if state.error:
            raise state.error

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, stand_in in {"CUDAGraph": Graph, "graph": recording, "graph_pool_handle": lambda: "pool", "Stream": lambda: stream,
                           "stream": lambda stream: nullcontext(), "current_stream": lambda: stream, "synchronize": lambda: None}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return state


def stepper(device):
    """(what was run, a step that a recording keeps)."""
    ran = []

    def act(shape):
        if device.recording is None:
            ran.append(shape)
        else:
            device.recording.calls.append(lambda: ran.append(shape))

    return ran, act


def test_each_call_is_one_step_whether_run_recorded_or_replayed(device):
    ran, act = stepper(device)
    replay = Replay(act, lambda: pytest.fail("nothing has failed"))
    for shape in "aababba":
        replay(shape)
    assert "".join(ran) == "aababba" and not replay.note
    assert {shape: len(graph.calls) for shape, graph in replay.graphs.items()} == {"a": 1, "b": 1}


def test_what_cannot_be_recorded_is_run_plainly_from_then_on_and_told(device):
    ran, act = stepper(device)
    forgot = []
    replay = Replay(act, lambda: forgot.append(len(ran)))
    replay("a")
    device.error = RuntimeError("operation not permitted when stream is capturing\nand more")
    for shape in "aab":
        replay(shape)
    assert "".join(ran) == "aaab" and forgot == [1]
    assert replay.note.startswith("A step cannot be recorded (operation not permitted when stream is capturing)")


def test_too_little_memory_while_recording_is_told_to_who_can_make_room(device):
    _, act = stepper(device)
    replay = Replay(act, lambda: None)
    replay("a")
    device.error = torch.OutOfMemoryError("CUDA out of memory.")
    with pytest.raises(torch.OutOfMemoryError):
        replay("a")
    assert not replay.note
