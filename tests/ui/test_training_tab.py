"""The training tab without a browser: the form and the schema, what is drawn, uploads."""

import json
import re
import shlex

import pytest

from monju import config as schema
from monju import presets
from monju.cli import parser
from monju.config import SETTINGS, Config
from monju.data import named
from monju.data.notes import Note, refusal
from monju.errors import MonjuError
from monju.training.job_manager import JobManager
from monju.ui import gr
from monju.ui.components import progress
from monju.ui.components.columns import guessed
from monju.ui.i18n.texts.training import SETTINGS as WORDS
from monju.ui.i18n.translator import TEXTS, Translator
from monju.ui.tabs.training import form, source

OTHER = {"data": "my file.csv", "text_column": "a", "label_column": "b", "domain_column": "c", "backbones": "one,two", "orders": "shuffled,by-cluster", "rounds": 2,
         "label_names": ["no", "yes, it is"][:1] + ["yes"],
         "keep_overlap": True, "sample": 50, "tuning_size": 20, "map_size": 500, "embedder": "tfidf", "clusterer": "gmm", "k": 4, "subset_size": 3, "gate": "posterior",
         "sharpness": 0.5, "temperature": 0.2, "power": 4.0, "top_k": 2, "fusion": "probabilities", "backbone": "-odd",
         "finetuning": "lora", "lora_rank": 8, "frozen_layers": 2, "epochs": 0.5, "batch_size": 4, "learning_rate": 3e-5, "warmup": 0.1,
         "weight_decay": 0.0, "max_tokens": 32, "baselines": False, "equal_cost": True, "seed": 7, "precision": "fp32",
         "workers": 1, "device": "cpu", "task": "lm", "held_out": 50, "renew_every": 4}
SAY = Translator("en")


def test_every_setting_is_in_the_form_with_words_in_both_languages():
    assert WORDS.keys() == SETTINGS.keys() > set(form.SHOWN)
    for name, setting in SETTINGS.items():
        part = form.component(name)
        assert isinstance(part, (gr.Checkbox, gr.Dropdown, gr.Number, gr.Textbox))
        if schema.choices(name):
            assert [value for _, value in part.choices] == list(schema.choices(name))
        english, japanese = TEXTS[f"help_{name}"]
        assert english == setting.description and re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", japanese)


@pytest.mark.parametrize("name", ["k", "seed", "batch_size", "epochs", "warmup", "power"])
def test_a_number_starts_at_its_default_and_what_is_out_of_bounds_is_left_to_the_schema(name):
    part = form.component(name)
    assert part.value == SETTINGS[name].default and part.preprocess(-1) == -1


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_reaches_the_command_line_and_back(name):
    settings = {key: OTHER[key] for key in {name, *{"gate": ["clusterer"], "subset_size": ["k"]}.get(name, [])} if key in OTHER}
    config = Config(**settings)
    assert getattr(config, name) != getattr(Config(), name), "give it another value in OTHER"
    words = shlex.split(form.command(config, "laptop", "trained", "try"))
    asked = vars(parser().parse_args(words[3:]))
    assert asked["out"] == "trained/try"
    given = {key: value for key, value in asked.items() if key in SETTINGS}
    assert Config(**{**presets.PRESETS[asked["preset"]], **given}) == config
    assert form.collected(form.shown(config)) == config
    assert form.loaded(json.dumps(config.to_json())) == config


def test_all_settings_at_once_go_through_the_form_unchanged():
    for config in (Config(**OTHER | {"rounds": 1, "task": "classify"}), *(Config(**preset) for preset in presets.PRESETS.values())):
        assert form.collected(form.shown(config)) == config


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"k": 1}', '{"k": 3, "subset_size": 3}', '{"nothing": 1}', '{"config": 3}',
                                  "[" * 100_000])
def test_bad_json_is_told(text):
    with pytest.raises((ValueError, MonjuError, RecursionError, TypeError)):
        form.loaded(text)


def test_an_upload_is_kept_beside_the_runs_under_its_own_name(tmp_path):
    upload = tmp_path / "レビュー 2024; é+1.CSV"
    upload.write_text("text,label\ngood,1\nbad,0\n")
    place = source.kept(upload, tmp_path / "runs")
    assert re.fullmatch(r"\.uploads/[0-9a-f]{12}/レビュー 2024; é\+1\.csv", place)
    assert source.kept(upload, tmp_path / "runs") == place and (tmp_path / "runs" / place).read_text() == upload.read_text()
    config = source.placed(Config(data=place), tmp_path / "runs")
    assert config.data == str(tmp_path / "runs" / place) and named.open_source(config.data).train.columns["text"] == ["good", "bad"]
    for other in ("sst2", "../x.csv", ".uploads/../../x.csv", "/etc/passwd"):
        assert source.placed(Config(data=other), tmp_path / "runs").data == other
    (tmp_path / "x.pkl").write_text("")
    with pytest.raises(MonjuError, match="kind"):
        source.kept(tmp_path / "x.pkl", tmp_path / "runs")


@pytest.mark.parametrize("name, own", [
    ("../../etc/a.csv", "-..-etc-a.csv"), ("a\0b\u202ec.csv", "abc.csv"), (".csv", "data.csv"), ("...hidden.tsv", "hidden.tsv"),
    ('a:b|"c"?.csv', "a-b--c--.csv"), ("か\u3099.csv", "が.csv"), ("映" * 200 + ".csv", "映" * 40 + ".csv")])
def test_a_name_of_an_upload_is_safe_and_still_its_own(name, own):
    assert source.own_name(name) == own and len(own.encode()) <= 128


def test_the_command_names_no_place_outside_where_it_is_typed(tmp_path, monkeypatch):
    place = ".uploads/3f2a/レビュー 1.csv"
    monkeypatch.chdir(tmp_path)
    inside = shlex.split(form.command(Config(data=place), "laptop", tmp_path / "trained", "mine"))
    assert inside[inside.index("--out") + 1] == "trained/mine" and inside[inside.index("--data") + 1] == f"trained/{place}"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    outside = form.command(Config(data=place), "laptop", tmp_path / "trained", "mine")
    assert "--out mine" in outside and ".." not in outside and str(tmp_path) not in outside


@pytest.mark.parametrize("columns, found", [
    ({"review": ["a quiet triumph", "dull and long"], "opinion": ["good", "bad"]}, ("review", "opinion")),
    ({"opinion": ["good", "bad", "bad"], "id": ["1", "2", "3"], "review": ["a quiet triumph", "dull and long", "fine"]}, ("review", "opinion")),
    ({"Label": [1, 0], "Text": ["a film", "a b"], "notes": ["very long notes indeed", "here"]}, ("Text", "Label")),
    ({"sentence": [1, 2, 3], "text": ["a film", "a b", "c d"], "stars": [3, 3, 3], "mood": ["x", "y", "y"]}, ("text", "mood")),
    ({"only": ["a film"]}, (None, None))])
def test_the_likeliest_columns_are_guessed(columns, found):
    assert guessed(columns) == found


def line(model, step, held_out=None):
    return {"model": model, "step": step, "steps": 10, "sentences": step * 4, "tokens": step * 40, "loss": 1 / step,
            "learning_rate": 1e-4, "seconds": float(step), "held_out_accuracy": held_out}


def snapshot(**more):
    return {"name": "<b>try</b>", "status": "training", "reason": "", "resumable": False, "now": {"done": 0.25, "left": 75,
            "memory": 2_500_000_000, "of": "gpu"}, "stages": [], "notes": [], "log": ["<script>alert(1)</script>"], "clusters": {},
            "models": {"experts": ["AB", "BC"], "baseline": ["seed0"]},
            "history": [line("AB", 1, 0.5), line("AB", 5, 0.75), line("seed0", 2)], **more}


@pytest.mark.parametrize("language, said", [
    ("en", "the right label of 28.4 % of the sentences is one that an expert hardly meets in training (mean over experts), "
           "and α will be 0.03 away from equal weights (0: equal; 0.82: one expert alone)"),
    ("ja", "学習しない文は、平均 28.4 %。α と等重みとの距離は平均 0.03（0 は等重み、0.82 は")])
def test_a_plan_tells_what_is_known_of_the_gate(language, said):
    plan = {"train": 900, "validation": 90, "sampled": None, "clusters": {"A": 450, "B": 450}, "models": [], "notes": [],
            "gate": {"unseen": 0.284, "uneven": 0.026, "most": 0.8165}}
    assert said in progress.plan(plan, Translator(language))


def test_a_job_is_drawn_with_a_bar_and_a_curve_for_each_model():
    html = progress.job(snapshot(), SAY)
    assert re.findall(r'aria-label="([^"]+)" aria-valuemin="0" aria-valuemax="100" aria-valuenow="(\d+)"', html) == [
        ("whole run", "25"), ("AB", "50"), ("BC", "0"), ("seed0", "20")]
    assert re.findall(r'data-model="(\w+)" data-points="(\d+)"', html) == [("AB", "2"), ("seed0", "1"), ("AB", "2")]
    assert "1:15 left" in html and "2.5 GB GPU memory" in html and "5/10" in html and "4 sentences/s" in html
    assert "<script>" not in html and "<b>try" not in html


def test_the_bar_tells_phases_and_waiting_and_is_not_full_before_the_end():
    def told(language="en", **now):
        return progress.job(snapshot(now={"done": 0.996, "phase": "training", "left": None, "memory": 1000, "of": "gpu", **now}), Translator(language))

    whole = r'class="model whole".*?aria-valuenow="(\d+)".*?<small>(.*?)</small>'
    assert re.search(whole, told(phase="evaluation", left=40), re.S).groups() == ("99", "evaluating · 0:40 left · 1 kB GPU memory")
    assert re.search(whole, told(phase="map"), re.S)[2] == "drawing the map · 1 kB GPU memory"
    assert re.search(whole, told(waits=25), re.S)[2] == "no step for 0:25: probably waiting for a free processor · 1 kB GPU memory"
    assert "地図を作成中" in told("ja", phase="map") and "プロセッサの空き" in told("ja", waits=25)


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("status", ["none", "training", "stopping", "finished", "stopped", "failed", "died"])
def test_every_state_has_words(status, language):
    assert f'data-status="{status}"' in progress.job(snapshot(status=status, reason="a < b"), Translator(language))
    assert progress.job(snapshot(status=status, history=[], models={}, now={}), Translator(language))


def test_a_source_is_previewed(movies):
    config = Config(data=str(movies))
    columns = source.columns_of(config)
    html, fine = source.previewed(config, columns, SAY)
    assert fine and "120 training sentences, columns text, label" in html and "0 60, 1 60" in html
    assert html.count('<th scope="row"') == 3 and str(movies.parent) not in html
    html, fine = source.previewed(Config(data=str(movies), text_column="nothing"), columns, SAY)
    assert not fine and "nothing" in html and "--text-column" not in html and html.count('<th scope="row"') == 3


def test_what_a_job_says_names_no_place():
    html = progress.job(snapshot(status="failed", reason="the disk that holds /srv/app/trained/x is full: use --sample 4"), SAY)
    assert "holds x is full: use “Sample: 4”" in html and "/srv" not in html


def test_a_job_tells_the_notes_of_its_data_and_why_it_failed_in_the_pages_language():
    notes = [refusal("no_labels", table="a<b>.csv").note.to_json(), "an older run's sentence",
             Note("cut", {"n": 3, "total": 9, "limit": 128}).to_json()]
    html = progress.job(snapshot(notes=notes), Translator("ja"))
    assert "<li>a&lt;b&gt;.csv にはラベルがありません" in html and "9 文のうち 3 文は 128 トークンより長く" in html and "--max" not in html
    error = refusal("unknown_kind", path="/srv/x/a.xls", kinds=".csv")
    failed = snapshot(status="failed", reason=str(error), reason_note=error.note.to_json())
    assert "a.xls は読めない種類のファイルです" in progress.job(failed, Translator("ja")) and "/srv" not in progress.job(failed, Translator("ja"))
    assert "a.xls is of a kind that is not read here" in progress.job(failed, SAY)


def test_nothing_is_started_by_a_snapshot(tmp_path):
    assert progress.job(JobManager(tmp_path).snapshot(), SAY).count("No training is running") == 1
