"""What the tests share: one tiny real run, trained once a session."""

import pytest

from monju.config import Config
from monju.training import train


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """The folder of a real run on 100 Rotten Tomatoes sentences: three experts and three baselines as adapters."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    config = Config(data="rotten-tomatoes", sample=100, epochs=1, finetuning="lora", max_tokens=32, precision="fp32", device="cpu")
    for _ in train(config, out):
        pass
    return out
