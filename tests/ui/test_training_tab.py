"""The training tab without a browser: the form and the schema, what is drawn, uploads."""

import json
import re
import shlex
from dataclasses import replace

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
from monju.ui.components import curves, live, progress
from monju.ui.components.columns import guessed
from monju.ui.i18n.texts.training import SETTINGS as WORDS
from monju.ui.i18n.translator import TEXTS, Translator
from monju.ui.tabs.training import plan, settings, source

OTHER = {"data": "my file.csv", "text_column": "a", "label_column": "b", "domain_column": "c", "backbones": "one,two", "orders": "shuffled,by-cluster", "rounds": 2,
         "label_names": ["no", "yes, it is"][:1] + ["yes"],
         "keep_overlap": True, "sample": 50, "tuning_size": 20, "map_size": 500, "embedder": "tfidf", "clusterer": "gmm", "k": 4, "subset_size": 3, "gate": "posterior",
         "sharpness": 0.5, "temperature": 0.2, "power": 4.0, "top_k": 2, "fusion": "probabilities", "backbone": "-odd",
         "finetuning": "lora", "lora_rank": 8, "frozen_layers": 2, "epochs": 0.5, "batch_size": 4, "learning_rate": 3e-5, "warmup": 0.1,
         "weight_decay": 0.0, "max_tokens": 32, "baselines": False, "equal_cost": True, "seed": 7, "precision": "fp32",
         "workers": 1, "device": "cpu", "task": "lm", "held_out": 50, "renew_every": 4}
SAY = Translator("en")


def test_every_setting_is_in_the_form_with_words_in_both_languages():
    assert WORDS.keys() == SETTINGS.keys() and set(settings.GROUPS) == {schema.group(name) for name in SETTINGS}
    for name, setting in SETTINGS.items():
        part = settings.component(name)
        assert isinstance(part, (gr.Checkbox, gr.Dropdown, gr.Number, gr.Textbox))
        if schema.choices(name):
            assert [value for _, value in part.choices] == list(schema.choices(name))
        english, japanese = TEXTS[f"help_{name}"]
        assert all(word.casefold() in settings.words(name) for word in (name, english, japanese, *TEXTS[f"setting_{name}"]))
        assert english == setting.description and re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", japanese)


@pytest.mark.parametrize("name", ["k", "seed", "batch_size", "epochs", "warmup", "power"])
def test_a_number_starts_at_its_default_and_what_is_out_of_bounds_is_left_to_the_schema(name):
    part = settings.component(name)
    assert part.value == SETTINGS[name].default and part.preprocess(-1) == -1


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_reaches_the_command_line_and_back(name):
    other = {key: OTHER[key] for key in {name, *{"gate": ["clusterer"], "subset_size": ["k"]}.get(name, [])} if key in OTHER}
    config = Config(**other)
    assert getattr(config, name) != getattr(Config(), name), "give it another value in OTHER"
    words = shlex.split(settings.command(config, "laptop", "trained", "try"))
    asked = vars(parser().parse_args(words[3:]))
    assert asked["out"] == "trained/try"
    given = {key: value for key, value in asked.items() if key in SETTINGS}
    assert Config(**{**presets.PRESETS[asked["preset"]], **given}) == config
    assert settings.collected(settings.shown(config)) == config
    assert settings.loaded(json.dumps(config.to_json())) == config


def test_all_settings_at_once_go_through_the_form_unchanged():
    for config in (Config(**OTHER | {"rounds": 1, "task": "classify"}), *(Config(**preset) for preset in presets.PRESETS.values())):
        assert settings.collected(settings.shown(config)) == config


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"k": 1}', '{"k": 3, "subset_size": 3}', '{"nothing": 1}', '{"config": 3}',
                                  "[" * 100_000])
def test_bad_json_is_told(text):
    with pytest.raises((ValueError, MonjuError, RecursionError, TypeError)):
        settings.loaded(text)


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
    inside = shlex.split(settings.command(Config(data=place), "laptop", tmp_path / "trained", "mine"))
    assert inside[inside.index("--out") + 1] == "trained/mine" and inside[inside.index("--data") + 1] == f"trained/{place}"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    outside = settings.command(Config(data=place), "laptop", tmp_path / "trained", "mine")
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
    known = {"train": 900, "validation": 90, "sampled": None, "clusters": {"A": 450, "B": 450}, "models": [], "notes": [],
            "gate": {"unseen": 0.284, "uneven": 0.026, "most": 0.8165}}
    assert said in progress.plan(known, Translator(language))


def test_a_job_is_drawn_with_a_bar_and_a_curve_for_each_model():
    html = progress.job(snapshot(machine={"device": "cpu", "threads": 2}), SAY)
    assert re.findall(r'aria-label="([^"]+)" aria-valuemin="0" aria-valuemax="100" aria-valuenow="(\d+)"', html) == [
        ("whole run", "25"), ("AB", "50"), ("BC", "0"), ("seed0", "20")]
    assert re.findall(r'data-model="(\w+)" data-points="(\d+)" data-at="([\d ]+)" data-values="([\d. ]+)"', html) == [
        ("AB", "2", "1 5", "1.000 0.200"), ("seed0", "1", "2", "0.500"), ("AB", "2", "1 5", "50.0 75.0")]
    assert "1:15 left" in html and "2.5 GB GPU memory" in html and "5/10" in html and "4 sentences/s" in html and "CPU, 2 threads" in html
    assert "<script>" not in html and "<b>try" not in html
    # an expert's line has its clusters' colours in turn, a baseline's none
    assert re.findall(r'class="line ([\w-]*)" stroke-dasharray="([\d ]+)" stroke-dashoffset="([\d-]+)"', html)[:3] == [
        ("cluster-0", "9 9", "0"), ("cluster-1", "9 9", "-9"), ("", "7 4", "0")]


def test_a_model_on_a_cluster_has_its_node_and_device():
    trained = [{**line("AB", 5), "place": "node 2, <GPU>"}, line("seed0", 2)]
    html = progress.job(snapshot(history=trained), SAY)
    assert "4 sentences/s · node 2, &lt;GPU&gt;</small>" in html and html.count("node ") == 1


@pytest.mark.parametrize("wanted", [[100] * 9, [0, 0, 1, 220, 220, 219], list(range(0, 220, 17)), [5, 180, 181, 182, 183], [110]])
def test_names_at_the_curves_ends_never_touch_nor_leave_the_picture(wanted):
    names = {str(number): height for number, height in enumerate(wanted)}
    placed = sorted(curves.apart(names).values())
    assert all(b - a >= curves.APART for a, b in zip(placed, placed[1:]))
    assert placed[0] >= 0 and placed[-1] <= curves.HEIGHT - curves.APART / 2


def test_phases_waiting_and_the_first_words_are_told_and_the_bar_is_not_full_before_the_end():
    def told(language="en", **now):
        html = progress.job(snapshot(now={"done": 0.996, "phase": "training", "left": None, "memory": 1000, "of": "gpu", **now}), Translator(language))
        return re.search(r'<b>(\d+) %</b><span class="left">(.*?)</span>', html).groups(), re.findall(r'<li class="(\w+)"[^>]*>([^<]*)', html)

    assert told(phase="evaluation", left=40) == (("99", "0:40 left"), [
        ("done", "clusters"), ("done", "models, 0 of 3 done"), ("now", "evaluation"), ("next", "map"), ("machine", "1 kB GPU memory")])
    assert told(phase="map")[1][3] == ("now", "map") and told(phase="map")[0][1] == ""
    assert told(waits=25)[0][1] == "no step for 0:25: probably waiting for a free processor" and told()[1][1][0] == "now"
    assert told("ja", phase="map")[1][3] == ("now", "地図") and "プロセッサの空き" in told("ja", waits=25)[0][1]
    begins = progress.job(snapshot(models={}, history=[], now={}), SAY)
    assert "Starting: loading the model" in begins and "track busy" in begins and 'class="now" aria-current="step">clusters' in begins


FOUND = {"experts": ["A", "B"], "fusion": "logits", "labels": ["negative", "positive"], "centres": [[0, 0], [4, 0]],
         "points": [[0, 1, 0], [4, 1, 1], [2, -1, 1]], "texts": ["<b>one", "two", "three"]}


def test_the_map_forms_and_pinned_sentences_tell_what_each_model_says_as_of_its_last_check():
    assert progress.job(snapshot(), SAY, (["x"], FOUND, [])).count('class="unread cluster-') == 3
    checks = [{"text": "x", "alpha": [0.5, 0.5]}, {"model": "A", "step": 1, "right": "110", "pinned": {"x": [0.0, 3.0]}},
              {"model": "B", "step": 1, "right": "100", "pinned": {"x": [5.0, 0.0]}}]
    html = progress.job(snapshot(), SAY, (["x", "y <i>"], FOUND, checks))
    # all right; one of two, which is no majority; none
    assert html.count('class="right cluster-0"') == html.count('class="unread cluster-1"') == html.count('class="wrong"') == 1
    assert "1 of 2 experts right so far" in html and "as A and B read them" in html and "most are wrong (1)" in html and "&lt;b&gt;one" in html
    assert "<b>A</b> <i class=\"label-1\">positive</i> 95" in html and "<b>B</b> <i class=\"label-0\">negative</i> 99" in html
    assert html.count("Read at the next check") == 1 and "y &lt;i&gt;" in html
    rows = live.pins(["x"], FOUND, checks, SAY)
    assert rows[0]["monju"][0] == "negative" and [label for label, *_ in rows[0]["history"]] == [1, 0] and rows[0]["changed"]
    assert "現時点のエキスパート" in progress.job(snapshot(), Translator("ja"), (["x"], FOUND, checks))


def test_a_queue_is_listed_in_order_with_what_could_not_begin():
    error = refusal("name_taken", name="b")
    waiting = [{"name": "a<", "config": Config(sample=300, seed=4, data="/srv/x/rows.csv").to_json(), "pins": []},
               {"name": "b", "config": None, "pins": [], "reason": str(error), "note": error.note.to_json()}]
    html = progress.queue(waiting, [snapshot(status="failed", reason="a < b")], SAY)
    assert "Queue: 2 waiting" in html and "At most 20 wait" in html and "a&lt;" in html and "rows.csv · 300 sentences · seed 4" in html
    assert "/srv" not in html and "cannot begin: there is already a run named b" in html and 'data-withdraw="b"' in html and "failed: a &lt; b" in html
    assert "すでにあります" in progress.queue(waiting, [], Translator("ja"))
    assert progress.queue([], [], SAY) == ""


def test_a_sweep_is_one_training_for_each_value():
    found = settings.swept(Config(), "seed", "0, 1,2", "try")
    assert [(config.seed, name) for config, name in found] == [(0, "try-seed-0"), (1, "try-seed-1"), (2, "try-seed-2")]
    [(config, name)] = settings.swept(Config(), "learning_rate", "3e-5", "try")
    assert config == Config(learning_rate=3e-5) and name == "try-learning-rate-3e-5"
    assert [config.baselines for config, _ in settings.swept(Config(), "baselines", "true, false", "x")] == [True, False]
    assert settings.swept(Config(), "gate", "nearest", "x")[0][0].gate == "nearest"
    for setting, values, said in (("k", "4,x", "cannot be 'x'"), ("k", "4,1", "at least 2"), ("k", " , ", "separated by commas"),
                                  ("data", "a", "Choose the setting"), ("nothing", "1", "Choose the setting")):
        with pytest.raises(MonjuError, match=said):
            settings.swept(Config(), setting, values, "try")


@pytest.mark.parametrize("seconds, english, japanese", [(20, "half a minute", "30 秒"), (70, "a minute", "1 分"), (250, "4 minutes", "4 分"),
                                                        (3500, "1 hour", "1 時間"), (9000, "2.5 hours", "2.5 時間")])
def test_a_size_says_what_it_costs(seconds, english, japanese):
    assert progress.about(seconds, SAY) == english and progress.about(seconds, Translator("ja")) == japanese
    assert progress.headline(300, progress.about(seconds, SAY), SAY) == f"300 sentences, about {english} on this machine"


def test_a_size_of_another_number_follows_from_what_was_measured(tmp_path):
    auto = plan.AutoPlan(JobManager(tmp_path))
    config = Config(sample=300)
    assert [name for name, _ in auto.sizes(config, 2000, SAY)["choices"]] == ["300", "1,000", "all 2,000"]
    plan.remember(auto.speeds, plan.key(config), (30.0, 0.1))  # seconds for any size, and for each sentence
    found = auto.sizes(Config(sample=50), 8000, SAY)
    assert [value for _, value in found["choices"]] == [50, 300, 1000, 3000, 0] and found["value"] == 50
    assert [name.split(" · ")[1] for name, _ in found["choices"]] == ["half a minute", "a minute", "2 minutes", "6 minutes", "14 minutes"]
    assert auto.sizes(Config(sample=9000), 8000, SAY)["value"] == 0 == auto.sizes(Config(), None, SAY)["value"]
    assert auto.seconds(Config(k=4)) is None


def test_an_upload_comes_back_as_the_form_has_it(tmp_path):
    config = Config(data=".uploads/0123/a.csv")
    assert settings.as_typed(source.placed(config, tmp_path), tmp_path) == config
    for other in ("sst2", "/etc/passwd"):
        assert settings.as_typed(Config(data=other), tmp_path).data == other


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("status", ["none", "training", "stopping", "finished", "stopped", "failed", "died"])
def test_every_state_has_words(status, language):
    assert f'data-status="{status}"' in progress.job(snapshot(status=status, reason="a < b"), Translator(language))
    assert progress.job(snapshot(status=status, history=[], models={}, now={}), Translator(language))


def test_running_text_is_previewed_without_labels(movies):
    config = Config(task="lm", data=str(movies))
    html, fine = source.previewed(config, source.columns_of(config), SAY)
    assert fine == 120 and "120 training documents" in html and "label" not in html.lower()


def test_a_source_is_previewed(movies):
    config = Config(data=str(movies))
    columns = source.columns_of(config)
    html, fine = source.previewed(replace(config, sample=10), columns, SAY)
    assert fine == 120 and "120 training sentences, columns text, label" in html and "0 60, 1 60" in html
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
