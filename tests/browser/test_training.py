"""The training tab in a real browser: a real small training is planned, started, watched, stopped, continued and used."""

import csv
import json
import re
import shutil

import gradio_client
import pytest
from conftest import serving

from monju.runs.run import Run
from monju.training.job_manager import JobManager

SLOW = 180_000  # milliseconds for what trains, on a busy machine
SETTINGS = {"label_names": ["negative", "positive"], "k": 2, "subset_size": 1, "finetuning": "lora", "epochs": 1, "batch_size": 4,
            "max_tokens": 12, "precision": "fp32", "device": "cpu", "workers": 1, "baselines": False, "map_size": 8, "embedder": "backbone"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture(scope="module")
def trainable(tiny_run, folder):
    """The page on the tiny run, with a folder of its own for what it trains."""
    with serving(tiny_run, MONJU_RUNS=folder) as (url, _):
        yield url
        JobManager(folder).stop()


def visit(open_page, url, tab="Training", **options):
    page = open_page(url, **options)
    page.get_by_role("tab", name=tab).click()
    page.wait_for_selector("#preview table, #preview [role=alert]")  # the form is as it was left, its source looked at
    return page


def advanced(page):
    if not page.is_visible("#json textarea"):
        page.click("#advanced > button")
        page.wait_for_selector("#json textarea", state="visible")


def begin(page, name):
    page.fill("#run-name textarea, #run-name input", name)
    page.click("#start")
    page.wait_for_function("name => document.querySelector('#job h3')?.innerText.includes(name)", arg=name, timeout=SLOW)


def load(page, **settings):
    advanced(page)
    for _ in range(20):
        page.fill("#json textarea", json.dumps(settings))
        page.wait_for_timeout(300)
        if page.input_value("#json textarea") == json.dumps(settings):  # Gradio fills a box once more in the moment after it is drawn
            break
    page.click("#load-json")


def points(page):
    return int(page.locator("#job [data-model]").first.get_attribute("data-points"))


def grow(page, than):
    page.wait_for_function("n => Number(document.querySelector('#job [data-model]')?.dataset.points) > n", arg=than, timeout=SLOW)


def test_a_training_outlives_the_page_is_stopped_continued_and_used(open_page, trainable, folder, movies, tiny_bert):
    page = visit(open_page, trainable)
    assert "No training is running" in page.inner_text("#job")
    load(page, **{**SETTINGS, "data": str(movies), "backbone": str(tiny_bert), "epochs": 300})
    page.wait_for_function("document.querySelector('#command textarea, #command input').value.includes('--epochs 300')")
    page.wait_for_function("document.querySelector('#plan-panel').innerText.includes('on this machine')", timeout=SLOW)  # by itself
    page.click("#plan-panel summary")
    assert "120 training sentences" in page.inner_text("#plan-panel") and "real steps" in page.inner_text("#plan-panel")
    page.fill("#pins textarea", "a quiet triumph\n\nnever again")
    page.fill("#run-name textarea, #run-name input", "small")
    page.evaluate("""() => { const job = document.querySelector('#job'); window.said = [];
      new MutationObserver(() => window.said.push(job.innerText)).observe(job, {childList: true, subtree: true, characterData: true}) }""")
    page.click("#start")
    # before any answer
    page.wait_for_function("window.said.some(said => said.includes('Starting: loading the model') && !said.includes('Training small'))", timeout=2000)
    page.wait_for_selector("#job [data-model]", timeout=SLOW)
    grow(page, points(page))
    assert page.evaluate("document.querySelector('#job').getBoundingClientRect().top") < 300
    page.wait_for_selector("#job .forming .right, #job .forming .wrong", timeout=SLOW, state="attached")
    page.wait_for_function("document.querySelectorAll('#job .pin .members').length == 2", timeout=SLOW)
    assert page.input_value("#run-name textarea, #run-name input") == "small-2"

    page.reload()  # the job goes on, and is seen from its first step, and on every tab; the address holds the tab
    page.wait_for_function("document.querySelector('#running')?.innerText.startsWith('● small')")
    page.wait_for_selector("#job [data-model]")
    grow(page, points(page))
    advanced(page)  # the form has the running job's settings
    assert page.input_value("#setting-epochs input") == "300" and page.input_value("#run-name textarea, #run-name input") == "small-2"
    reads_values_and_pins(page)
    other = visit(open_page, trainable, tab="学習", locale="ja-JP", width=390, height=844)
    other.wait_for_selector("#job [data-model]")
    assert "small を学習中" in other.inner_text("#job h3") and other.inner_text("#start") == "待ち行列に追加"
    assert other.evaluate("document.documentElement.scrollWidth") <= 390 and "__i18n__" not in other.inner_text("body")
    history = JobManager(folder).snapshot()["history"]
    assert history[0]["step"] < 50 < history[-1]["step"]

    page.click("#stop")
    page.click("#really-stop")
    page.wait_for_selector("#job [data-status=stopped]")
    other.wait_for_selector("#job [data-status=stopped]")
    assert not JobManager(folder).running()
    manifest = json.loads((folder / "small" / "run.json").read_text())
    manifest["config"]["epochs"] = max(line["step"] for line in JobManager(folder).snapshot()["history"]) / 15 + 5  # so that the rest is short
    (folder / "small" / "run.json").write_text(json.dumps(manifest))
    other.click("#resume")
    page.wait_for_selector("#job [data-status=training]")
    page.wait_for_selector("#job [data-status=finished]", timeout=4 * SLOW)  # a training gives way to all else, the other tests too
    page.wait_for_function("document.querySelector('#runs').innerText.includes('finished')")

    page.wait_for_function("!document.querySelector('#running')?.checkVisibility()")
    page.evaluate("window.scrollTo(0, 600)")
    page.click("#use")  # every tab follows
    page.wait_for_function("document.querySelector('#about')?.innerText.includes('Run small')", timeout=SLOW)
    page.wait_for_function("window.scrollY == 0")
    # the cases are the run's own held-out sentences
    page.wait_for_function("document.querySelectorAll('#examples .chip:not(.hide)').length > 1", timeout=SLOW)
    held_out = [row["text"] for row in csv.DictReader((movies / "validation.csv").open(encoding="utf-8"))]
    for chip in page.locator("#examples .chip:visible").all():
        page.fill("#sentence textarea", "")
        chip.click()
        page.wait_for_function("texts => texts.includes(document.querySelector('#sentence textarea').value)", arg=held_out)
    page.locator("#sentence textarea").fill("a fine film")
    page.wait_for_function("document.querySelector('#panel .said')?.textContent == 'a fine film'")
    assert page.locator("#panel [data-who]").count() == 3  # Monju and its two experts: this run has no baseline
    assert page.errors == [] and other.errors == []

    client = gradio_client.Client(trainable, verbose=False)
    found = {run["name"]: run for run in client.predict(api_name="/runs")}
    assert found["small"]["status"] == "finished"
    assert found["small"]["monju"] == Run.open(folder / "small").read_json("metrics.json")["monju"]["accuracy"]
    assert client.predict(api_name="/training")["status"] == "finished"


def reads_values_and_pins(page):
    """The pointer and the arrow keys read the curves; a sentence is pinned and taken away while it trains."""
    field = page.locator("#job .chart .field").first
    field.hover(position={"x": 30, "y": 60})
    page.wait_for_selector("#job .curve-tip", state="visible")
    shown = page.inner_text("#job .curve-tip")
    assert re.match(r"step \d+", shown) and re.search(r"A\s\d\.\d+", shown)
    field.focus()
    page.keyboard.press("End")
    last = page.inner_text("#job .curve-tip b")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#job .curve-tip b") != last
    page.keyboard.press("Escape")
    assert not page.is_visible("#job .curve-tip")
    page.fill("#pin textarea, #pin input", "one more")
    page.click("#pin-add")
    page.wait_for_function("document.querySelectorAll('#job .pin').length == 3")
    page.click("#job [data-unpin='never again']")
    page.wait_for_function("document.querySelectorAll('#job .pin').length == 2")
    assert "one more" in page.inner_text("#job .pins")


def test_trainings_wait_in_a_queue_and_go_on_by_themselves(open_page, trainable, folder, movies, tiny_bert):
    page = visit(open_page, trainable)
    load(page, **{**SETTINGS, "data": str(movies), "backbone": str(tiny_bert), "epochs": 300})
    page.wait_for_function("document.querySelector('#command textarea, #command input').value.includes('--epochs 300')")
    begin(page, "running")
    page.wait_for_function("document.querySelector('#start').innerText == 'Add to the queue'", timeout=SLOW)
    page.fill("#setting-epochs input", "1")
    page.wait_for_function("document.querySelector('#command textarea, #command input').value.includes('--epochs 1.0')")
    page.fill("#run-name textarea, #run-name input", "running")  # a name that exists is told before anything is asked
    page.wait_for_selector("#start-told [role=alert]")
    page.fill("#run-name textarea, #run-name input", "second")
    page.wait_for_selector("#start-told [role=alert]", state="detached")
    page.click("#start")
    page.wait_for_function("document.querySelector('#queue')?.innerText.includes('second')")
    page.fill("#run-name textarea, #run-name input", "swept")
    page.fill("#sweep-values textarea, #sweep-values input", "0, 1")
    page.click("#sweep-add")
    page.wait_for_function("document.querySelectorAll('#queue ol li').length == 3")
    assert [entry["name"] for entry in JobManager(folder).queue.waiting()] == ["second", "swept-seed-0", "swept-seed-1"]
    for number in (1, 0):
        page.click(f"#queue [data-withdraw='swept-seed-{number}']")
        page.wait_for_function("n => document.querySelectorAll('#queue ol li').length == n", arg=1 + number)
    page.click("#stop")  # it alone
    page.click("#really-stop")
    page.wait_for_function("document.querySelector('#job h3').innerText.includes('second')", timeout=SLOW)
    page.wait_for_selector("#job [data-status=finished]", timeout=4 * SLOW)
    assert "running was stopped" in page.inner_text("#queue") and page.errors == []


def test_a_setting_is_found_in_either_language_without_a_request(open_page, trainable):
    page = visit(open_page, trainable)
    advanced(page)
    page.wait_for_timeout(500)
    before = len(page.asked)
    for asked, found in (("learning rate", ["setting-learning_rate", "setting-warmup"]), ("学習率", ["setting-learning_rate"]), ("seed", ["setting-seed"])):
        page.fill(".find input", asked)
        fields = page.locator("#advanced .field:visible").evaluate_all("all => all.map(one => one.id.replace('field-', 'setting-'))")
        assert found[0] in fields and len(fields) < 8
    page.fill(".find input", "nothing of the kind")
    assert page.locator("#advanced .field:visible").count() == 0 and "No setting" in page.inner_text(".find-told")
    page.fill(".find input", "")
    assert page.locator("#advanced .field:visible").count() > 30
    assert not [url for url in page.asked[before:] if "queue" in url]  # the clock that follows the job goes past it


def test_the_form_is_kept_over_a_reload(open_page, trainable):
    page = visit(open_page, trainable)
    advanced(page)
    page.fill("#setting-epochs input", "7")
    page.fill("#run-name textarea, #run-name input", "kept")
    page.wait_for_function("document.querySelector('#command textarea, #command input').value.includes('kept')")
    page.wait_for_timeout(300)  # until the browser has it
    page.reload()
    page.wait_for_function("document.querySelector('#run-name textarea, #run-name input')?.value == 'kept'")
    advanced(page)
    assert page.input_value("#setting-epochs input") == "7"


def test_what_cannot_be_trained_starts_nothing(open_page, trainable, folder, movies, tiny_bert):
    page = visit(open_page, trainable)
    load(page, **{**SETTINGS, "data": str(movies), "backbone": str(tiny_bert), "k": 26, "subset_size": 1, "sample": 10})
    page.wait_for_function("document.querySelector('#command textarea, #command input').value.includes('movies')")
    page.wait_for_selector("#plan-panel [role=alert]", timeout=SLOW)
    assert "cannot make 26 clusters" in page.inner_text("#plan-panel")
    begin(page, "bad")  # whoever starts it all the same is told the same
    page.wait_for_selector("#job [data-status=failed]", timeout=SLOW)
    assert "cannot make 26 clusters" in page.inner_text("#job h3") and not (folder / "bad").exists()


def test_bad_json_and_impossible_settings_are_calm_words(open_page, trainable):
    page = visit(open_page, trainable)
    load(page, k=3, subset_size=3)
    page.wait_for_function("document.querySelector('#load-told').innerText.includes('must be smaller')")
    page.fill("#json textarea", "{")
    page.click("#load-json")
    page.wait_for_function("document.querySelector('#load-told').innerText.includes('not JSON')")
    shown = page.input_value("#command textarea, #command input")
    page.fill("#setting-k input", "2")  # as large as the subsets: no command says that
    page.wait_for_function("document.querySelector('#plan-panel').innerText.includes('must be smaller')")
    assert page.input_value("#command textarea, #command input") == ""
    page.fill("#setting-k input", "1")  # out of the part's own bounds: refused by the schema, in the same place
    page.wait_for_function("document.querySelector('#plan-panel').innerText.includes('it must be at least 2 and below 27')")
    page.fill("#setting-k input", "3")
    page.wait_for_function("command => document.querySelector('#command textarea, #command input').value == command", arg=shown)
    page.wait_for_function("!document.querySelector('#plan-panel [role=alert]')")
    assert "Traceback" not in page.inner_text("body") and page.errors == []


def test_an_upload_is_previewed_and_becomes_the_source(open_page, trainable, tmp_path, movies):
    page = visit(open_page, trainable)
    advanced(page)
    page.set_input_files("#upload input[type=file]", movies / "train.csv")
    page.wait_for_selector("#preview table")
    assert "columns text, label" in page.inner_text("#preview")
    page.wait_for_function("document.querySelector('#command textarea, #command input').value.includes('--label-column label') && "
                           "document.querySelector('#command textarea, #command input').value.includes('.uploads/')")
    assert re.search(r"--data \S*\.uploads/[0-9a-f]{12}/train\.csv", page.input_value("#command textarea, #command input"))
    assert page.input_value("#setting-data input") == "train.csv"
    (tmp_path / "broken.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    page = visit(open_page, trainable)
    page.set_input_files("#upload input[type=file]", tmp_path / "broken.csv")
    page.wait_for_function("document.querySelector('#preview').innerText.includes('UTF-8')")


@pytest.mark.parametrize("locale, tab, heads", [("en-US", "Training", ("Sentences are in", "Labels are in")), ("ja-JP", "学習", ("文の列", "ラベルの列"))])
def test_columns_of_any_name_are_two_lists_and_trained_on_from_the_page_alone(open_page, trainable, folder, tmp_path, movies, tiny_bert, locale, tab, heads):
    page = visit(open_page, trainable, tab, locale=locale)
    with open(movies / "train.csv", encoding="utf-8") as file:
        rows = [(f"r{i}", "good" if row["label"] == "1" else "bad", row["text"]) for i, row in enumerate(csv.DictReader(file))]
    with open(tmp_path / "映画の レビュー.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("number", "opinion", "review"), *rows])
    if locale == "en-US":
        load(page, **SETTINGS, backbone=str(tiny_bert))
        page.wait_for_function("document.querySelector('#command textarea, #command input').value.includes('--backbone')")
    page.set_input_files("#upload input[type=file]", tmp_path / "映画の レビュー.csv")
    for part, value in (("text-list", "review"), ("label-list", "opinion"), ("setting-data", "映画の レビュー.csv")):
        page.wait_for_function("([part, value]) => document.querySelector(`#${part} input`).value == value", arg=[part, value])
    page.wait_for_function("document.querySelector('#preview').textContent.includes('映画の レビュー.csv')")
    advanced(page)
    assert all(head in page.inner_text("#columns") for head in heads)
    preview = page.inner_text("#preview")  # rows are drawn from all classes
    assert page.locator("#preview tbody tr").count() == 3 and sum(row[2][:20] in preview for row in rows) >= 3

    page.click("#label-list input")  # what is chosen there is what is read
    page.get_by_role("option", name="number", exact=True).click()
    page.wait_for_function("document.querySelector('#command textarea, #command input').value.includes('--label-column number')")
    page.click("#label-list input")
    page.get_by_role("option", name="opinion", exact=True).click()
    page.wait_for_function("document.querySelector('#command textarea, #command input').value.includes('--label-column opinion')")
    page.wait_for_function("document.querySelector('#preview').innerText.includes('good')")
    for shown in (page.inner_text("#training"), page.evaluate("[...document.querySelectorAll('input, textarea')].map(part => part.value).join()")):
        assert str(folder) not in shown

    if locale == "en-US":
        begin(page, "opinions")
        page.wait_for_function("document.querySelector('#job [data-status=finished]')?.innerText.includes('opinions')", timeout=4 * SLOW)
        assert Run.open(folder / "opinions").manifest["data"]["label_names"] == ["bad", "good"]
        page.wait_for_function("document.querySelector('#runs').innerText.includes('映画の レビュー.csv')")
        assert str(folder) not in page.inner_text("body")
    assert page.errors == []


def test_runs_are_renamed_packed_and_deleted(open_page, trainable, folder, tiny_run):
    shutil.copytree(tiny_run, folder / "copied")
    page = visit(open_page, trainable)

    def choose(name):
        page.wait_for_function("name => document.querySelector('#runs').innerText.includes(name)", arg=name)
        page.click("#a-run input")
        page.get_by_role("option", name=name).click()

    choose("copied")
    page.fill("#new-name textarea, #new-name input", "../out")
    page.click("#rename")
    page.get_by_text("cannot be named").wait_for()
    page.fill("#new-name textarea, #new-name input", "renamed")
    page.click("#rename")
    page.wait_for_function("document.querySelector('#runs').innerText.includes('renamed')")
    choose("renamed")
    page.click("#run-pack")
    with page.expect_download() as download:
        page.click("#run-download")
    assert download.value.suggested_filename == "renamed.zip"
    page.click("#run-delete")
    page.click("#really-delete")
    page.wait_for_function("!document.querySelector('#runs').innerText.includes('renamed')")
    assert not (folder / "renamed").exists()
