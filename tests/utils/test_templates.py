"""Templates: what is put in is escaped, what is missing is an error."""

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from monju.ui.components.markup import TEMPLATES as UI
from monju.ui.components.markup import html, note
from monju.ui.i18n.translator import Translator
from monju.utils.templates import environment

SAY = Translator("ja")
NASTY = "<script>'\"&"


@pytest.mark.parametrize("package", [UI, "monju.reporting"])
def test_every_template_compiles_and_none_calls_anything_safe(package):
    found = environment(package)
    for name in found.list_templates(extensions=["html"]):
        found.get_template(name)
        assert "safe" not in found.loader.get_source(found, name)[0], name


def test_texts_values_and_attributes_are_escaped_and_markup_is_not_again():
    page = note(NASTY, SAY, kind=NASTY)
    assert page.count("&lt;script&gt;&#39;&#34;&amp;") == 2 and "<script" not in page and 'lang="ja"' in page
    assert "<b>" in note(Markup("<b>x</b>"), SAY)
    assert "&lt;script&gt;" in SAY("row_majority", label=NASTY) and "&amp;" not in note(SAY("row_majority", label="<"), SAY)


def test_what_a_template_is_not_given_is_an_error():
    with pytest.raises(UndefinedError, match="text"):
        html("note.html", SAY, kind="", role=None, busy=False)
