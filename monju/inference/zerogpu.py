"""ZeroGPU: a GPU that Hugging Face lends for the length of a call.

The call runs in a fork of the page's process, which the GPU is given to: what it loads there stays there. The page's own
process keeps its models on the CPU and answers itself where no GPU is lent (a visitor's minutes are used up, the queue is
long). `app` imports `spaces` before all else, as it must.
"""

import os

from monju.data.inputs import sentences

SECONDS = 20  # that a call may take: the shorter, the sooner it has its turn
ON = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
_loaded = {}  # in the fork: a run's folder and when it was written → its models, on the GPU


def _ask(path, stamp, texts):
    """The run's Votes on texts [n], its models loaded where this runs."""
    if (path, stamp) not in _loaded:
        from monju.inference.pipeline import Monju

        _loaded.clear()  # one run at a time: the memory is shared
        _loaded[path, stamp] = Monju.load(path)
    return _loaded[path, stamp].votes(texts)


if ON:
    import spaces

    _ask = spaces.GPU(duration=SECONDS)(_ask)


def votes(monju, stamp, texts):
    """Votes on texts [n], on a lent GPU or else here. Raises MonjuError for an empty sentence, as `Monju.votes`."""
    from monju.errors import MonjuError

    texts = sentences(texts)  # what is sent to another process is a list
    try:
        return _ask(str(monju.run.path), stamp, texts)
    except MonjuError:
        raise
    except Exception as error:  # spaces tells in its own ways that there is no GPU to be had
        print(f"no GPU was lent ({str(error).strip()[:200] or type(error).__name__}): answered on the CPU", flush=True)
        return monju.votes(texts)
