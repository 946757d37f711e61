"""CUDA graphs: a step's kernels launched as one, where launching each costs more than running it."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch


class Replay:
    """Runs `act(shape)`: the first time of a shape plainly, the second recorded, from then on replayed.

    A recording is used in place of the call, so `act` must read and write the same tensors every time and
    wait for nothing on the device. Where recording fails, everything is run plainly from then on.

    Parameters
    ----------
    act : callable
        Takes the shape, returns nothing.
    forget : callable
        Undoes what an `act` has done that ended early.
    """

    def __init__(self, act: Callable[[Hashable], None], forget: Callable[[], None]):
        self.act, self.forget = act, forget
        self.note = ""  # why nothing is replayed any more
        self.graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream()

    def __call__(self, shape: Hashable) -> None:
        """Run the step."""
        if self.note:
            self.act(shape)
        elif graph := self.graphs.get(shape):
            graph.replay()
        elif shape not in self.graphs:  # libraries plan, and allocate, for a new shape
            self.graphs[shape] = None
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.act(shape)
            torch.cuda.current_stream().wait_stream(self.stream)
        else:
            self._record(shape)

    def _record(self, shape: Hashable) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads of this process may use the device meanwhile
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                self.act(shape)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.note = (f"A step cannot be recorded ({str(error).strip().splitlines()[0]}): "
                         "its kernels are launched one by one, which is slower.")
            self.graphs.clear()
            torch.cuda.synchronize()
            self.forget()
            self.act(shape)
        else:
            self.graphs[shape] = graph
            graph.replay()
