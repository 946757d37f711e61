"""Script in every place that shows text: a run learned from hostile sentences, labels that are markup, and hostile words typed."""

import json
import re

import pytest
from conftest import serving

from monju.config import Config
from monju.training.pipeline import train

MARK = "window.__taken=1"
PAYLOADS = [
    f"<script>{MARK}</script>", f"<img src=x onerror=\"{MARK}\">", f"<svg onload={MARK}>", f"<svg><script>{MARK}</script></svg>",
    f"\"><img src=x onerror={MARK}>", f"'><img src=x onerror={MARK}>", f"</script><script>{MARK}</script>", f"</style><script>{MARK}</script>",
    f"</title><script>{MARK}</script>", f"</textarea><script>{MARK}</script>", f"<a href=\"javascript:{MARK}\">click</a>",
    f"[click](javascript:{MARK})", f"![x](x\" onerror=\"{MARK})", f"<iframe srcdoc=\"<script>parent.{MARK}</script>\"></iframe>",
    f"<iframe src=\"javascript:parent.{MARK}\"></iframe>", f"<body onload={MARK}>", f"<input autofocus onfocus={MARK}>",
    f"<details open ontoggle={MARK}>", f"<video><source onerror=\"{MARK}\"></video>", f"<math><mi xlink:href=\"data:x,<script>{MARK}</script>\">",
    "<link rel=stylesheet href=http://evil.invalid/x.css>", "<img src=http://evil.invalid/x.png>", "<style>@import 'http://evil.invalid/y.css'</style>",
    f"${{{MARK}}}", f"{{{{constructor.constructor('{MARK}')()}}}}", f"`+({MARK})+`", f"\\\"+({MARK})+\\\"", f"$\\href{{javascript:{MARK}}}{{x}}$",
    f"&lt;img src=x onerror={MARK}&gt;", f"<b onmouseover={MARK} style=\"position:fixed;inset:0;z-index:9999\">over</b>"]
LABELS = [f"<img src=x onerror='{MARK}'>bad", f"<script>{MARK}</script>good"]


@pytest.fixture(scope="module")
def served(tiny_bert, tmp_path_factory):
    """A page on a run whose sentences and label names are hostile, with the sentences at hand."""
    folder = tmp_path_factory.mktemp("hostile")
    lines = [{"text": f"{payload} a {'good' if i % 2 else 'bad'} film {i}", "label": i % 2} for i, payload in enumerate(PAYLOADS * 4)]
    for name, rows in (("train", lines[:90]), ("validation", lines[90:])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = Config(data=str(folder), label_names=LABELS, tuning_size=12, k=3, finetuning="lora", epochs=0.3, max_tokens=48, precision="fp32",
                    device="cpu", workers=1, keep_overlap=True, backbone=str(tiny_bert), embedder="backbone")
    for _ in train(config, folder / "runs" / "hostile"):
        pass
    with serving(folder / "runs" / "hostile", MONJU_RUNS=folder / "runs") as (url, _):
        yield url


@pytest.fixture
def watched(open_page, served):
    """A page whose dialogs and outside requests are noted; at the end there must be none."""
    pages = []

    def go():
        page = open_page(served)
        page.dialogs = []
        page.on("dialog", lambda dialog: (page.dialogs.append(dialog.message), dialog.dismiss()))
        pages.append(page)
        return page

    yield go
    for page in pages:
        assert page.dialogs == [] and page.evaluate("window.__taken") is None
        assert [url for url in page.asked if not url.startswith((served, "data:", "blob:"))] == []


def test_typed_listed_and_kept(watched):
    """The sentence, its history, the table of many sentences, the link."""
    page = watched()
    for payload in PAYLOADS:
        page.locator("#sentence textarea").fill(payload)
        page.wait_for_function("text => document.querySelector('#panel .said')?.textContent == text", arg=payload)
    page.locator("#history button").first.click()
    page.wait_for_selector("#history td")
    page.locator("#batch button").first.click()
    page.locator("#batch-lines textarea").fill("\n".join(PAYLOADS))
    page.get_by_role("button", name="Classify all").click()
    page.wait_for_function(f"() => document.querySelector('#batch-status').innerText.includes('{len(PAYLOADS)} sentences read')")
    shown = page.inner_text("#batch-table")
    assert all(payload in shown for payload in PAYLOADS) and PAYLOADS[-1] in page.inner_text("#history")
    assert LABELS[0] in page.inner_text("#panel") or LABELS[1] in page.inner_text("#panel")
    page.mouse.move(300, 300)


def test_the_data_sets_own_on_the_map(watched):
    """Hover over points, neighbours of a sentence, search: sentences and labels of the data set."""
    page = watched()
    page.locator("#clusters-button").last.click()
    page.wait_for_selector(".map-pin:not([hidden])")
    page.wait_for_selector("#map-side .near li")
    box = page.locator(".map-plot").bounding_box()
    page.wait_for_selector("#map-search")  # the sentences are there
    hovered = 0
    for x, y in page.evaluate("Array.from({length: monjuMap.state.data.n}, (_, i) => monjuMap.placed(i))"):
        page.mouse.move(box["x"] + x, box["y"] + y)
        page.wait_for_timeout(30)
        hovered += page.locator(".map-tip:not([hidden])").count()
    assert hovered
    for payload in PAYLOADS[:6]:
        page.fill("#map-search", payload)
        page.locator("#map-sentence textarea").fill(payload)
        page.wait_for_function("text => document.querySelector('#map-side .said')?.textContent == text", arg=payload)
    assert "<" in page.inner_text("#map-side .near")


def test_results_and_report(watched, browser, quiet, tmp_path):
    page = watched()
    page.get_by_role("tab", name=re.compile("Results")).click()
    page.wait_for_selector("#results-table .headline")
    page.wait_for_selector("#figures details")
    page.evaluate("document.querySelectorAll('#results-more details, #figures details').forEach(part => { part.open = true })")
    page.wait_for_function("() => document.querySelectorAll('.figures figure .main-svg').length >= 4")
    quiet(page)
    with page.expect_download() as arriving:
        page.click("#take-report")
    (tmp_path / "report.html").write_bytes(arriving.value.path().read_bytes())
    context = browser.new_context()
    report, asked = context.new_page(), []
    report.on("request", lambda request: asked.append(request.url))
    report.goto((tmp_path / "report.html").as_uri())
    report.wait_for_selector("#alpha .main-svg")
    assert report.evaluate("window.__taken") is None
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def test_the_training_tab_shows_data_names_and_errors(watched, served, tmp_path):
    page = watched()
    page.get_by_role("tab", name="Training").click()
    page.wait_for_selector("#setting-data textarea, #setting-data input")
    for payload in PAYLOADS[:8]:
        page.locator("#setting-data textarea, #setting-data input").first.fill(payload)
        page.locator("#run-name textarea, #run-name input").first.fill(payload)
        page.wait_for_timeout(150)
    (tmp_path / "evil.csv").write_text("text,label\n" + "".join(json.dumps(payload.replace('"', "'")) + f",{i % 2}\n" for i, payload in enumerate(PAYLOADS)))
    page.locator("#training input[type=file]").first.set_input_files(tmp_path / "evil.csv")
    page.wait_for_function("() => document.querySelector('#preview').innerText.trim()")
    page.wait_for_timeout(500)  # what is in it may load, and fail, a little later
    assert page.errors == []
