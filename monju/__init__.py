"""Monju: three language models, each an expert on two of three clusters, decide together.

    import monju
    ensemble = monju.load("trained/sst2-minilm")
    ensemble.read(["a quiet triumph"])[0].monju.label

Importing the package costs nothing: each public name brings its own imports when it is first used.
"""

__version__ = "0.1.0"
__all__ = ["Config", "Monju", "MonjuError", "Reading", "load", "train"]
PLACES = {"Config": "config", "Monju": "inference.pipeline", "MonjuError": "errors",
          "Reading": "ensemble.outputs",
          "train": "training.pipeline"}


def load(path, device: str = "auto", controls: bool = False):
    """Open a finished run.

    Parameters
    ----------
    path : str or Path
        The run's folder.
    device : {"auto", "cpu", "cuda"}
        Where to read.
    controls : bool
        Also load the equal-cost models, which no verdict needs.

    Returns
    -------
    Monju
        `read(texts)` gives `Reading`s, `predict(texts)` arrays.

    Raises
    ------
    MonjuError
        For a folder that is no run, unfinished, damaged or not wholly there.
    """
    from monju.inference.pipeline import Monju

    return Monju.load(path, device=device, controls=controls)


def __getattr__(name):
    if name not in PLACES:
        raise AttributeError(f"module 'monju' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"monju.{PLACES[name]}"), name)


def __dir__():
    return sorted([*__all__, "__version__"])
