"""The study in docs/: what it does to data, what it learns out of fold, its corrections, and that its page equals its numbers."""

import doctest
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from experiments import corpora, figure, heads, ladder, measures, pieces, settings, tables, transforms  # noqa: E402

from monju.data.rows import Split  # noqa: E402

SHOPS = ["books"] * 90 + ["toys_games"] * 90  # media, and not
HALVES = np.arange(180) % 2


def rng():
    return np.random.default_rng(0)


# ---- what is done to labels and sentences


def test_two_customs_turns_labels_round_in_media_alone():
    kept, labels = transforms.two_customs(HALVES, SHOPS, rng())
    assert len(kept) == 180 and (labels[:90] == 1 - HALVES[:90]).all() and (labels[90:] == HALVES[90:]).all()


def test_its_control_turns_as_many_round_in_all_shops():
    _, labels = transforms.turned_anywhere(HALVES, SHOPS, rng())
    turned = labels != HALVES
    assert turned.sum() == 90 and 0 < turned[:90].sum() < 90


def test_two_priors_keeps_89_to_11_in_media_and_11_to_89_elsewhere():
    kept, labels = transforms.two_priors(HALVES, SHOPS, rng())
    media = kept < 90
    assert [(labels[media] == y).sum() for y in (0, 1)] == [6, 45] and [(labels[~media] == y).sum() for y in (0, 1)] == [45, 6]
    assert round(45 / 51, 2) == 0.88 and (HALVES[kept] == labels).all()  # 8 to 1 before rounding to whole sentences


def test_its_control_keeps_as_many_of_every_shop_half_of_them_positive():
    kept, labels = transforms.thinned(HALVES, SHOPS, rng())
    assert len(kept) == 100 and labels[kept < 90].sum() == labels[kept >= 90].sum() == 25  # 45 · 9/16 of either label


def test_noise_turns_an_exact_number_of_the_rows_that_it_may():
    assert (transforms.turned(HALVES, np.arange(100, 150), 20, rng()) != HALVES).nonzero()[0].min() >= 100
    setting = settings.SETTINGS["E5"]
    clusters, distances = np.arange(180) % 3, np.eye(3)[np.arange(60) % 3] * -1
    y, tuning = settings.noisy(setting, HALVES, clusters, HALVES[:60], distances, rng())
    assert (y != HALVES).sum() == 24 and set(clusters[y != HALVES]) == {0}  # 40 % of cluster A's 60
    assert (tuning != HALVES[:60]).sum() == 8
    y, _ = settings.noisy(settings.SETTINGS["E5 control"], HALVES, clusters, HALVES[:60], distances, rng())
    assert (y != HALVES).sum() == 24 and set(clusters[y != HALVES]) == {0, 1, 2}


# ---- heads and the gate that is fitted out of fold


class Remembers:
    """A head that answers 1 for what it learned and 0 for all else."""

    def __init__(self, vectors, labels, n_labels, strength):
        self.known = set(vectors[:, 0])

    def __call__(self, vectors):
        return np.array([[float(x in self.known)] * 2 for x in vectors[:, 0]])


def test_no_out_of_fold_answer_comes_from_a_head_that_learned_the_sentence(monkeypatch):
    monkeypatch.setattr(heads, "Head", Remembers)
    vectors, clusters, subsets = np.arange(30.0)[:, None], np.arange(30) % 3, [(0, 1), (1, 2), (2, 0)]
    experts = [Remembers(vectors[np.isin(clusters, subset)], None, 2, 1.0) for subset in subsets]
    answers = heads.out_of_fold(vectors, HALVES[:30], clusters, subsets, experts, 1.0, rng())
    assert answers.shape == (30, 3, 2) and not answers.any()
    assert np.stack([expert(vectors) for expert in experts], axis=1).any()  # they themselves do remember


def test_fitted_weights_go_to_the_expert_that_is_right_cluster_by_cluster():
    y = np.tile([0, 1, 1, 0], 50)
    right = np.where(np.eye(2)[y] == 1, -0.1, -2.4)
    nearest = np.repeat([0, 1], 100)
    answers = np.stack([np.where(nearest[:, None] == 0, right, right[:, ::-1]), np.where(nearest[:, None] == 1, right, right[:, ::-1])], axis=1)
    assert heads.fit_weights(answers, y, nearest, 2).round(6).tolist() == [[1, 0], [0, 1]]


def test_wrong_labels_do_not_move_the_weight_to_an_expert_that_is_only_less_sure():
    """40 % of the labels turned round: an unsure bad expert would have the smaller loss, were the sum of weights fixed."""
    truth = rng().integers(0, 2, 4000)
    noisy = transforms.turned(truth, np.arange(4000), 1600, rng())
    good = np.log(np.where(np.eye(2)[truth] == 1, 0.99, 0.01))
    bad = np.log(np.where(np.eye(2)[transforms.turned(truth, np.arange(4000), 1800, np.random.default_rng(1))] == 1, 0.55, 0.45))
    [[of_good, of_bad]] = heads.fit_weights(np.stack([good, bad], axis=1), noisy, np.zeros(4000, int), 1)
    verdicts = (of_good * good + of_bad * bad).argmax(axis=1)
    assert (verdicts == truth).all()


def test_an_absent_label_has_the_floor():
    x = rng().normal(size=(40, 3))
    answers = heads.Head(x, np.tile([0, 2], 20), 3, 1.0)(x)
    assert np.isneginf(answers[:, 1]).all() and np.isfinite(answers[:, [0, 2]]).all()
    found = {"k=3 m=1 experts held out": np.stack([answers] * 3, axis=1), "k=3 m=1 distances held out": np.ones((40, 3))}
    assert (measures.outputs(found, "k=3 m=1").logits[:, :, 1] == -7).all()
    assert (measures.outputs(found, "k=3 m=1", floor=-5.0).logits >= -5).all()


# ---- the whole, at a tiny size


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Corpora of random vectors in place of the three data sets, in which every shop and intent has its own direction."""
    def split(n, labels, rng):
        domains = np.array([*sorted(transforms.MEDIA)[:3], "baby", "toys_games"])[np.arange(n) % 5]
        y = (np.arange(n) // 5) % labels
        centres = np.random.default_rng(9).normal(size=(5 + labels, 8))
        x = (centres[np.arange(n) % 5] + 0.3 * centres[5 + y] + rng.normal(size=(n, 8))).astype(np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return Split([json.dumps(row) for row in x.tolist()], y, domains.tolist()), x

    def load(root, name, out):
        labels, rng = 12 if name == "clinc150" else 2, np.random.default_rng(len(name))
        (train, x), (held_out, its_x) = split(900, labels, rng), split(200, labels, rng)
        return corpora.Corpus(train, held_out, labels, x, its_x)

    monkeypatch.setattr(corpora, "load", load)
    monkeypatch.setattr(corpora, "vectors", lambda out, name, texts: np.array([json.loads(text) for text in texts], np.float32))
    monkeypatch.setattr(settings, "SEEDS", (0,))
    monkeypatch.setattr(ladder, "RUNGS", {ladder.LINEAR: None})
    monkeypatch.setattr(ladder, "PER_DOMAIN", 40)
    monkeypatch.setattr(ladder, "HELD_OUT", 30)
    monkeypatch.setattr(corpora, "read", lambda root, name: (load(root, name, None).train, load(root, name, None).held_out, 2))
    return tmp_path


def test_every_experiment_is_made_piece_by_piece_and_drawn(tiny):
    assert pieces.make(tiny, tiny, 1) == len(pieces.everything()) - 1
    assert pieces.make(tiny, tiny) == 0
    found = json.loads(json.dumps(pieces.collect(tiny, [])))
    assert found["settings"].keys() == {*settings.SETTINGS, "E6 linear head"} and found["aim"].keys() == set(pieces.NATURAL)
    e1 = found["settings"]["E1"]["k=3 m=1"][0]
    assert e1["n"] == 200 and e1["rivals"].keys() == set(tables.RIVALS)
    rows = {(row["gate"], row["fusion"]): row for row in e1["gates"]}
    assert len(rows) == len(e1["gates"]) == 2 * (len(measures.GATES) + 2)  # and the learned gate, and the permuted one
    row = rows[tables.MAIN, "logits"]
    assert row["difference"] == pytest.approx((row["rescued"] - row["broken"]) / 200)
    assert row["accuracy"] == pytest.approx(e1["uniform"]["logits"]["accuracy"] + row["difference"])
    assert found["settings"]["E4"]["k=3 m=1"][0]["priors"].keys() == {"experts", "one head"}
    assert found["settings"]["E5"]["k=3 m=1"][0]["n"] == 200
    for table in tables.TABLES.values():
        lines = table(found).splitlines()
        assert len(lines) > 2 and len({line.count("|") for line in lines}) == 1
    assert figure.picture(found).count("<circle") > 40
    assert pieces.make(tiny, tiny) == 0  # nothing is made twice
    pieces.restore(found, tiny / "anew")
    assert pieces.make(tiny, tiny / "anew", 0) == 0 and pieces.collect(tiny / "anew", []) == found


# ---- corrections and the page


@pytest.mark.parametrize("module", [figure, heads, tables, transforms])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


def test_holm_is_over_the_six_and_what_is_not_made_counts_as_one():
    gates = dict.fromkeys((tables.MAIN, tables.OUT_OF_FOLD))
    found = {"settings": {}}
    for i, (name, ((setting, layout, gate), _, _)) in enumerate(tables.PRIMARY.items()):
        if name != "E6":
            found["settings"][setting] = {layout: [{"seed": 0, "gates": [
                {"gate": gate, "fusion": "logits", "p_value": (0.001, 0.01, 0.02, 0.2, None, 0.03)[i]} for gate in gates]}]}
    p = tables.corrected(found)
    #                    0.001·6, 0.01·5,  0.02·4,  0.03·3, 0.2·2, 1·1
    assert {name: round(p[name][0], 9) for name in p} == {"E3": 0.006, "E1": 0.05, "E4": 0.08, "E2": 0.4, "E6": 1.0, "E5": 0.09}
    assert p["E3"][1] == 1.0


def test_the_page_and_the_figure_equal_the_stored_numbers():
    found, page = json.loads((ROOT / "docs/study.json").read_text()), (ROOT / "docs/study.md").read_text()
    assert tables.written(page, found) == page
    assert all(f"<!-- {name} -->\n|" in page for name in tables.TABLES)
    assert (ROOT / "docs/study.svg").read_text() == figure.picture(found)


def test_labels_of_the_figure_do_not_overlap():
    found = json.loads((ROOT / "docs/study.json").read_text())
    for mix in tables.FUSIONS:
        assert figure.points_of(found, mix)
    boxes = []
    for x, y, text in figure_labels((ROOT / "docs/study.svg").read_text()):
        boxes.append((x, y - 12, x + 6.7 * len(text), y + 3))
    assert len(boxes) > 10
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if figure.overlap(a, b)]


def figure_labels(svg):
    import re

    return [(float(x), float(y), text) for x, y, text in re.findall(r'<text x="([\d.-]+)" y="([\d.-]+)" font-size="13">([^<]+)<', svg)]


def test_the_data_sets_are_read_whole():
    root = ROOT.parent / "shared/data"
    if not (root / "fdu-mtl").exists():
        pytest.skip("the data sets of the study are not on this machine")
    train, held_out, labels = corpora.read(root, "fdu-mtl")
    assert (len(held_out.texts), labels, len(set(held_out.domains))) == (6400, 2, 16)
    assert transforms.MEDIA < set(train.domains) and len(train.texts) > 24_000
    assert len(ladder.drawn(train.domains, 150, 0)) == 16 * 150
