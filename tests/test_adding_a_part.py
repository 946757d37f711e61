"""docs/adding-a-part.md: what it shows works as it stands there."""

import re
from pathlib import Path

import numpy as np

from monju.clustering import clusterers
from monju.config import Config
from monju.data import named, sources
from monju.ensemble import gates, subsets

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs" / "adding-a-part.md").read_text(encoding="utf-8"), re.DOTALL)


def test_a_gate_a_clusterer_and_a_source_in_one_place_each():
    before = [dict(table) for table in (gates.TABLE, clusterers.TABLE, named.SOURCES)]
    try:
        for block in BLOCKS:
            exec(block, {"__name__": "part"})
        config = Config(gate="ranks", clusterer="bisecting", data="weather")
        alpha = gates.make(config)(np.array([[0.5, 1, 2]]), subsets.expert_subsets(3, 2))
        np.testing.assert_allclose(alpha, [[5 / 12, 3 / 12, 4 / 12]])  # A, B, C weigh 3, 2, 1 of 6
        vectors = np.array([[0.0, 0], [0, 1], [9, 0], [9, 1], [0, 9], [1, 9]])
        found = clusterers.TABLE["bisecting"](3, 0).fit(vectors)
        assert sorted(np.bincount(found.labels_)) == [2, 2, 2]
        assert sources.load_for(config).classes == {"foul": 10, "fair": 10}
    finally:
        for table, old in zip((gates.TABLE, clusterers.TABLE, named.SOURCES), before):
            table.clear()
            table.update(old)
