"""The side view's geometry and lesson, by numbers worked out by hand."""

from dataclasses import replace
from math import hypot

import numpy as np
import pytest

import monju
from monju.ensemble import gates
from monju.evaluation import combiners
from monju.evaluation.cluster_map import ClusterMap
from monju.inference import what_if
from monju.runs.run import Run
from monju.ui.components import side_view
from monju.ui.i18n.translator import Translator


def test_lines_are_as_long_as_the_distances():
    view = side_view.view({"A": 5.0, "B": 13.0, "C": 4.0}, 4.0)  # 3, 12 and 0 along the plane
    lengths = {name: hypot(x - view["x"], view["base"] - view["y"]) for name, x, _ in view["centres"]}
    assert lengths["B"] / lengths["A"] == pytest.approx(13 / 5, abs=0.01) and lengths["C"] / lengths["A"] == pytest.approx(4 / 5, abs=0.01)
    letters = sorted(letter for *_, letter in view["centres"])
    assert min(np.diff(letters)) >= side_view.LETTER - 0.11


def test_the_zoomed_axis_says_where_it_begins_and_holds_every_bar():
    axis = side_view.axis({"A": 0.951, "B": 1.09, "C": 1.039})
    assert axis["low"] == "0.90" and [text for _, text in axis["ticks"]] == ["0.90", "0.95", "1.00", "1.05", "1.10"]
    assert all(0 < share <= 1 for *_, share in axis["rows"]) and not axis["zero"]
    assert side_view.axis({"A": 0.1, "B": 2.0})["zero"]
    assert all(0 < share <= 1 for *_, share in side_view.axis({"A": 1.0, "B": 1.0})["rows"])


@pytest.mark.parametrize("distances, sharpness, told", [
    ([0.9, 0.95, 1.0], 1, "that is why α is nearly 1/3"), ([0.9, 0.95, 1.0], 16, "sharpness p = 16 spreads α out"),
    ([0.1, 0.5, 1.0], 1, "are not equally far, 0.10 to 1.00: with sharpness p = 1 α goes from"),
    ([0.1, 0.5, 1.0], 0, "stays near 1/3 all the same")])
def test_the_lesson_follows_the_distances_and_the_gate(tiny_run, distances, sharpness, told):
    run = combiners.view(monju.load(tiny_run), gate="distance", sharpness=float(sharpness))
    atlas = ClusterMap.load(Run.open(tiny_run))
    place = what_if.locate(monju.load(tiny_run).read(["a quiet triumph"])[0], atlas)
    alpha = gates.make(run.config)(np.array([distances]), run.subsets)[0]
    place = replace(place, distances=distances, alpha=dict(zip(run.experts, alpha.tolist())))
    assert told in side_view.lesson(place, run, atlas, Translator()) and "In all 32 dimensions" in side_view.lesson(place, run, atlas, Translator())
    assert side_view.lesson(place, run, atlas, Translator("ja")).startswith("全 32 次元")
