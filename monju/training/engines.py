"""Engines: where a run's models are trained, behind one protocol.

`local_engine` has the processes of this machine, `ray_engine` those of a Ray cluster. Which of them trains
changes no result: a model follows from its job alone, to the last bits where processors and their number of
threads are the same.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch

from monju.config import Config
from monju.errors import MonjuError
from monju.training.local_engine import LocalEngine


class Engine(Protocol):
    """Trains groups of jobs, each group on one device at a time."""

    def refuse(self, config: Config) -> None:
        """Raise MonjuError for a run that cannot be trained here."""

    def places(self, config: Config, jobs: int) -> list[torch.device]:
        """Return the device of each of so many jobs that are trained at the same time, at most as many."""

    def run(self, task: Any, groups: Sequence[Sequence], places: Sequence[torch.device]
            ) -> Iterator[tuple[int, Any]]:
        """Run task.fit(group, device) for every group, as many at a time as there are places.

        Yields
        ------
        tuple of int and object
            (group's number, report): what `fit` yields, or a Stage.
        """


def make(name: str = "local", address: str | None = None) -> Engine:
    """Return the engine of a name. Raises MonjuError where it cannot be had, or takes no address."""
    if name == "ray":
        from monju.training.ray_engine import RayEngine  # its library is an extra

        return RayEngine(address)
    if name != "local":
        raise MonjuError(f"there is no engine {name!r}; choose from local, ray")
    if address is not None:
        raise MonjuError("--address is that of a Ray cluster: add --engine ray, or leave it out")
    return LocalEngine()
