"""A public page in a real browser: a visitor reads why training is closed, the owner's secret opens it and starts a training."""

import re

import pytest
from conftest import serving

from monju.ui.i18n.texts.owner import TEXTS

PATIENCE = 60_000  # milliseconds, for a busy machine
SECRET = "three heads, one secret"


@pytest.fixture(scope="module")
def guarded(tiny_run, tmp_path_factory):
    with serving(tiny_run, MONJU_RUNS=tmp_path_factory.mktemp("guarded"), MONJU_OWNER_SECRET=SECRET) as (url, _):
        yield url


@pytest.fixture
def training_tab(open_page, guarded):
    def go(*locale):
        page = open_page(guarded, *locale)
        page.get_by_role("tab", name=re.compile("Training|学習")).click()
        page.wait_for_selector("#door", timeout=PATIENCE)
        return page

    return go


@pytest.mark.parametrize("locale, language", [("en-US", 0), ("ja-JP", 1)])
def test_a_visitor_reads_why_and_sees_no_form(training_tab, locale, language):
    page = training_tab(locale)
    page.wait_for_selector("#why-closed")
    assert TEXTS["o_secret"][language][:20] in page.inner_text("#why-closed")
    assert not page.locator("#training-form").is_visible() and not page.locator("#run-delete").is_visible()
    assert page.locator("#sentence").count() == 1  # the rest of the page is there


def test_the_secret_opens_the_form_and_a_wrong_one_does_not(training_tab):
    page = training_tab("en-US")
    page.fill("#secret input", "a guess")
    page.click("#enter")
    page.wait_for_selector(f"text={TEXTS['o_wrong'][0][:20]}", timeout=PATIENCE)
    assert not page.locator("#training-form").is_visible()
    page.fill("#secret input", SECRET)
    page.click("#enter")
    page.wait_for_selector("#training-form", timeout=PATIENCE)
    assert not page.locator("#door").is_visible() and page.locator("#rename").is_visible()
    assert SECRET not in page.content()
