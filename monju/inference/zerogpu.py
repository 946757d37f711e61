"""ZeroGPU: a GPU that Hugging Face lends for the length of a call.

The call runs in a fork of the app's process, which the GPU is given to: what it loads there stays there.
Where no GPU is lent (a user's minutes are used up, the queue is long) the inference process answers on the
CPU. `app` imports `spaces` before all else, as it must.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from monju.data.inputs import sentences
from monju.ensemble.outputs import ModelOutputs
from monju.errors import MonjuError

SECONDS = 20  # that a call may take: the shorter, the sooner it has its turn
ON = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
_loaded: dict = {}  # in the fork: a run's folder and when it was written → its models, on the GPU


def _ask(path: str, stamp: int | None, texts: list[str]) -> ModelOutputs:
    """Return the run's outputs on texts [n], its models loaded where this runs."""
    if (path, stamp) not in _loaded:
        from monju.inference.pipeline import Monju

        _loaded.clear()  # one run at a time: the memory is shared
        _loaded[path, stamp] = Monju.load(path)
    return _loaded[path, stamp].outputs(texts)


if ON:
    import spaces

    _ask = spaces.GPU(duration=SECONDS)(_ask)


def outputs(path: str | Path, stamp: int | None, texts: Iterable[str],
            otherwise: Callable[[list[str]], ModelOutputs]) -> ModelOutputs:
    """Return outputs on texts [n], on a lent GPU or else from `otherwise`.

    Raises MonjuError for an empty sentence, as `Monju.outputs`.
    """
    texts = sentences(texts)  # what is sent to another process is a list
    try:
        return _ask(str(path), stamp, texts)
    except MonjuError:
        raise
    except Exception as error:  # spaces has several ways to say that there is no GPU to be had
        print(f"no GPU was lent ({str(error).strip()[:200] or type(error).__name__}): answered on the CPU",
              flush=True)
        return otherwise(texts)
