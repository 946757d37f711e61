"""Monju: three language models, each an expert on two of three clusters, decide together.

    import monju
    ensemble = monju.load("trained/sst2-minilm")
    ensemble.read(["a quiet triumph"])[0].monju.label

Importing the package costs nothing: torch is imported by the first `load`.
"""

__version__ = "0.1.0"


def load(path, device="auto", controls=False, bf16=False):
    """Open the finished run at `path`, with or without its equal-cost models, to read in full precision or in bf16; see
    `monju.ensemble.Monju.load`."""
    from monju.inference.pipeline import Monju

    return Monju.load(path, device=device, controls=controls, bf16=bf16)
