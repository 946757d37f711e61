"""docs/SECURITY.md names tests that exist."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "SECURITY.md").read_text(encoding="utf-8")


def named():
    """(file, test) of every promise; a name after a comma may leave its file out."""
    found, file = [], None
    for given, test in re.findall(r"`([\w/]*\.py)?::(\w+)`", PAGE):
        file = given or file
        found.append((file, test))
    return found


@pytest.mark.parametrize("file, test", named())
def test_a_promise_is_held_by_a_test_that_exists(file, test):
    assert f"def {test}(" in (TESTS / file).read_text(encoding="utf-8")


def test_no_promise_abbreviates_its_test():
    assert len(named()) > 15 and "…`" not in PAGE
