"""docs/adding-a-part.md: what it shows works as it stands there."""

import re
from pathlib import Path

import numpy as np

from monju.clustering import clusterers
from monju.config import Config
from monju.data import named, sources
from monju.ensemble import gates, subsets
from monju.ensemble.outputs import ModelOutputs
from monju.evaluation import combiners

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs" / "adding-a-part.md").read_text(encoding="utf-8"), re.DOTALL)


def test_a_gate_a_clusterer_a_combiner_and_a_source_in_one_place_each():
    tables = (gates.TABLE, clusterers.TABLE, combiners.TABLE, named.SOURCES)
    before = [dict(table) for table in tables]
    try:
        for block in BLOCKS:
            exec(block, {"__name__": "part"})
        config = Config(gate="ranks", clusterer="bisecting", data="weather")
        alpha = gates.make(config)(np.array([[0.5, 1, 2]]), subsets.expert_subsets(3, 2))
        np.testing.assert_allclose(alpha, [[5 / 12, 3 / 12, 4 / 12]])  # A, B, C weigh 3, 2, 1 of 6
        vectors = np.array([[0.0, 0], [0, 1], [9, 0], [9, 1], [0, 9], [1, 9]])
        found = clusterers.TABLE["bisecting"](3, 0).fit(vectors)
        assert sorted(np.bincount(found.labels_)) == [2, 2, 2]
        two = ModelOutputs(["A", "B"], [(0,), (1,)], ["A", "B"], [], [], None, np.ones((1, 2)), None, np.array([[[3.0, 0], [0, 9]]]))
        found = combiners.all_combiners()["loudest"].decide(two, combiners.FitContext(Config(), np.eye(2)))
        assert found.alpha.tolist() == [[0, 1]] and found.monju.tolist() == [[0, 9]]
        assert sources.load_for(config).classes == {"foul": 10, "fair": 10}
    finally:
        for table, old in zip(tables, before):
            table.clear()
            table.update(old)
