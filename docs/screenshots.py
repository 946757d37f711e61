"""Pictures of the page, for looking at and for the README: `python docs/screenshots.py FOLDER [--run RUN]`.

Starts the page, opens it in chromium at a wall's and a phone's size, light and dark, in both
languages, and writes one PNG for each state. Needs Playwright's Python package and a chromium.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package beside this folder, installed or not
from monju.ui import FIRST, TABS, launch  # noqa: E402
from monju.ui.components.examples import EXAMPLES  # noqa: E402

SIZES = {"wall": (1280, 720), "phone": (390, 844)}
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]
SENTENCE = "I need a flight from Kyoto to Lima in March."
PATIENCE = 120_000  # milliseconds, for a machine that is busy
SETTLED = 4_000  # milliseconds after which a tab's pictures stand still
WHOLE = {"start", *TABS}  # states whose picture goes down to the page's end


def pictures(browser, url, folder, name, states, disagreement):
    """All sizes, themes and languages of a page; `states` are those worth a picture on this run."""
    for locale in ("en-US", "ja-JP"):
        for theme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                viewport = {"width": width, "height": height}
                context = browser.new_context(viewport=viewport, locale=locale, color_scheme=theme)
                page = context.new_page()
                page.goto(f"{url}?__theme={theme}")
                page.wait_for_selector("#panel .outcome, #panel code", timeout=PATIENCE)
                for state in states:
                    show(page, state, disagreement)
                    picture = folder / f"{name}-{state}-{size}-{theme}-{locale[:2]}.png"
                    page.screenshot(path=picture, full_page=state in WHOLE)
                context.close()


def show(page, state, disagreement):
    """Bring the page into a state: nothing to do for the start, a tab to open, or a sentence to type."""
    if state in TABS:
        page.locator(f"#{state}-button").last.click()
        page.wait_for_selector(f"#{state}", timeout=PATIENCE)
        page.wait_for_timeout(SETTLED)
    typed = {"typed": SENTENCE, "empty": "", "disagreement": disagreement}.get(state)
    if typed is None:
        return
    page.locator("#sentence textarea").fill(typed)
    page.wait_for_function("typed => typed ? document.querySelector('#panel .said')?.textContent == typed"
                           " : document.querySelector('#panel .note')", arg=typed, timeout=PATIENCE)


def disputed(run):
    """A sentence on which Monju and the baseline disagree, of those written for the run; None where there is none."""
    return next((example["text"] for example in EXAMPLES.get(run.name, []) if example["case"] in ("rescued", "broken")), None)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--run", type=Path, default=FIRST)
    arguments.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    asked = arguments.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as nothing:
        browser = playwright.chromium.launch(executable_path=asked.chromium, args=QUIET)
        for name, run in (("run", asked.run), ("broken", Path(nothing))):
            _, url, _ = launch(run, prevent_thread_lock=True, quiet=True)
            dispute = disputed(run) if name == "run" else None
            states = ["start"] if name == "broken" else ["start", "typed", "empty", *["disagreement"] * bool(dispute)]
            others = [tab for tab in TABS if tab != "playground"]
            pictures(browser, url, asked.folder, name, states + others, dispute)
        browser.close()


if __name__ == "__main__":
    main()
