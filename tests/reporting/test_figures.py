"""What the figures show, against numbers counted by hand; their colours are the style sheet's."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from toy import LABELS, toy, verdicts

from monju.evaluation.gate_meter import agreement
from monju.evaluation.metrics import calibration
from monju.evaluation.run_table import table
from monju.reporting import figures
from monju.reporting.figures import alpha_distribution, calibration_curve, cluster_accuracy, model_agreement
from monju.ui.i18n.translator import Translator

SAY = Translator("en")
STYLE = (Path(__file__).parents[2] / "assets" / "style.css").read_text(encoding="utf-8")


def every_figure(t=SAY, predictions=None, labels=LABELS):
    predictions = predictions or toy()
    metrics = table(predictions, labels)
    curves = {key: calibration(predictions[key], labels) for key in ("monju", "baseline") if predictions[key] is not None}
    return [cluster_accuracy(metrics, t), model_agreement(*agreement(predictions), t),
            calibration_curve(curves, metrics["labels"], t), alpha_distribution(predictions.experts, predictions.alpha, t)]


def test_the_cells_carry_the_tables_numbers():
    [cells] = cluster_accuracy(table(toy(), LABELS), SAY).data
    # the experts' rows as counted in test_evaluate; the baseline is wrong at 0 and 7, Monju at 7
    assert [[round(share, 1) for share in line] for line in cells.z] == [
        [100.0, 66.7, 50.0], [66.7, 100.0, 100.0], [66.7, 66.7, 100.0], [66.7, 100.0, 50.0], [100.0, 100.0, 50.0]]
    assert list(cells.text[0]) == ["100.0", "66.7", "50.0"]
    assert cells.customdata[0][2] == "AB in C, never seen: 50.0 %<br>1 of 2 sentences"
    assert cells.customdata[0][1] == "AB in B: 66.7 %<br>2 of 3 sentences"


def test_the_unseen_cells_alone_are_framed_and_every_cluster_tells_its_sentences():
    figure = cluster_accuracy(table(toy(), LABELS), SAY)
    framed = {(round((shape.x0 + shape.x1) / 2), round((shape.y0 + shape.y1) / 2)) for shape in figure.layout.shapes}
    assert framed == {(2, 0), (0, 1), (1, 2)}  # AB has not seen C, BC not A, CA not B
    assert all(shape.line.dash == "dash" for shape in figure.layout.shapes)  # not by colour alone
    assert figure.layout.xaxis.ticktext == ("A<br>n = 3", "B<br>n = 3", "C<br>n = 2")


def test_a_cluster_without_sentences_stays_empty():
    [cells] = cluster_accuracy(table(toy(distances=2.0 - np.eye(3)[verdicts("00011111")]), LABELS), SAY).data
    assert cells.z[0][2] is None and cells.text[0][2] == "–" and "– of 0" in cells.customdata[0][2]


def test_agreement_leaves_out_the_diagonal():
    [cells] = model_agreement(["AB", "BC"], np.array([[1, 0.75], [0.75, 1]]), SAY).data
    assert list(map(list, cells.z)) == [[None, 75.0], [75.0, None]]
    assert list(map(list, cells.text)) == [["", "75.0"], ["75.0", ""]]


def test_the_calibration_curve_goes_through_its_bins():
    cells = [{"low": 0.5, "high": 0.6, "n": 1, "confidence": 0.55, "accuracy": 1.0},
             {"low": 0.9, "high": 1.0, "n": 4, "confidence": 0.95, "accuracy": 0.75}]
    figure = calibration_curve({"monju": cells}, 2, SAY)
    perfect, line, bars = figure.data
    assert (line.x, line.y) == ((0.55, 0.95), (1.0, 0.75)) and bars.y == (1, 4)
    assert (perfect.x, perfect.y) == ((0.5, 1), (0.5, 1))
    assert line.marker.size[1] - 7 == pytest.approx(2 * (line.marker.size[0] - 7))  # four times the area
    assert "4 sentences" in line.customdata[1] and "75.0 % right" in line.customdata[1]


def test_a_single_bin_is_drawn_no_wider_than_a_bin():
    cell = {"low": 14 / 15, "high": 1.0, "n": 42, "confidence": 0.97, "accuracy": 1.0}
    for curves in ({"monju": [cell]}, {"monju": [cell], "baseline": [cell]}):
        bars = [trace for trace in calibration_curve(curves, 2, SAY).data if trace.type == "bar"]
        spans = [(trace.x[0] + trace.offset, trace.x[0] + trace.offset + trace.width) for trace in bars]
        assert min(low for low, _ in spans) >= 14 / 15 and max(high for _, high in spans) <= 1  # in its bin
        assert all(one[1] <= other[0] + 1e-9 for one, other in zip(spans, spans[1:]))  # side by side
        assert sum(high - low for low, high in spans) > 0.8 / 15


def test_the_bin_of_pure_guesses_is_drawn_whole():
    figure = calibration_curve({"monju": [{"low": 7 / 15, "high": 8 / 15, "n": 9, "confidence": 0.51, "accuracy": 0.5}]}, 2, SAY)
    assert figure.layout.xaxis.range[0] < 7 / 15


def test_every_alpha_is_counted_once_and_equal_weight_is_marked():
    figure = alpha_distribution(["AB", "BC", "CA"], toy().alpha, SAY)
    assert len(figure.data) == 3
    for e, bars in enumerate(figure.data):
        counted = [int(re.search(r": (\d+) sentences", told)[1]) for told in bars.customdata]
        assert sum(counted) == 8
        assert set(bars.base) == {2 - e}
        near = [min(abs(x - value) for x in bars.x) for value in toy().alpha[:, e]]
        assert max(near) <= bars.width / 2 + 1e-9
    [mark] = figure.layout.shapes
    assert mark.x0 == mark.x1 == pytest.approx(1 / 3) and "0.333" in figure.layout.annotations[0].text


def test_equal_weights_alone_are_drawn_too():
    figure = alpha_distribution(["AB", "BC", "CA"], np.full((8, 3), 1 / 3), SAY)
    assert all(len(bars.x) == 1 for bars in figure.data)


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("k, m, labels, members", [(3, 2, 2, 2), (8, 7, 6, 0), (12, 11, 3, 1)])
def test_any_number_of_clusters_and_labels_is_drawn(language, k, m, labels, members):
    random = np.random.default_rng(0)
    names = [f"leave{c}" for c in range(k)]
    truth = random.integers(0, labels, 30)
    scores = random.normal(size=(30, k + members, labels))
    fused = scores[:, :k].mean(axis=1)
    predictions = toy(clusters=[chr(65 + c) for c in range(k)], experts=names, subsets=[tuple(set(range(k)) - {c}) for c in range(k)],
                      members=[f"seed{i}" for i in range(members)], equal_cost=[], equal_cost_ensemble=None, logits=scores,
                      distances=random.random((30, k)), alpha=random.dirichlet(np.ones(k), 30), monju=fused, uniform=fused,
                      baseline=fused if members else None)
    for figure in every_figure(Translator(language), predictions, truth):
        assert json.loads(figure.to_json())["data"] and figure.layout.height >= 280
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_the_colours_are_the_style_sheets_in_light_and_dark():
    blocks = re.findall(r"(:root|\.dark) \{(.*?)\}", STYLE, re.DOTALL)
    for palette, (_, block) in zip((figures.LIGHT, figures.DARK), blocks, strict=True):
        for name, variable in (("blue", "label-1"), ("vermilion", "label-0"), ("orange", "label-4"), ("ink", "ink"),
                               ("faint", "faint"), ("line", "line"), ("paper", "paper")):
            assert f"--{variable}: {palette[name]};" in block
    assert len(figures.DARKER) == len(figures.LIGHT)  # each colour has one partner


def test_every_colour_of_a_figure_has_a_darker_partner():
    for figure in every_figure():
        drawn = json.loads(figure.to_json())
        drawn["layout"].pop("template")
        assert set(re.findall(r"#[0-9a-fA-F]{6}", json.dumps(drawn))) <= set(figures.DARKER)


