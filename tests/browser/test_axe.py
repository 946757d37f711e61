"""No tab breaks a rule of accessibility that axe-core knows, in either language and theme, wide and narrow."""

from pathlib import Path

import pytest

axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python, which carries axe-core")
SCRIPT = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
READY = {"playground": "#effect .effect", "clusters": "#map canvas", "writer": "#writer-about .monju", "training": "#job", "results": "#results .headline"}


@pytest.mark.parametrize("locale, theme, width", [("en-US", "light", 1280), ("ja-JP", "dark", 1280), ("en-US", "dark", 390), ("ja-JP", "light", 390)])
def test_axe_finds_nothing(open_page, served, locale, theme, width):
    page = open_page(f"{served}?__theme={theme}", locale, width=width, height=844)
    page.evaluate(SCRIPT)
    found = []
    for tab, ready in READY.items():
        page.click(f"#{tab}-button")
        page.wait_for_selector(ready, state="attached")
        page.wait_for_timeout(1500)  # not until all is quiet: the Training tab may measure for a minute
        for rule in page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]:
            found += [(tab, rule["id"], node["target"][-1], (node["any"] or [{"message": ""}])[0]["message"]) for node in rule["nodes"]]
    assert found == []
