"""What a visitor reads: no placeholder, no path of the server, no flag of the command line, in either language."""

import ast
import json
import re
from pathlib import Path
from string import Formatter
from types import SimpleNamespace

import pytest
from jinja2 import nodes

from monju.config import Config
from monju.data import notes, sources
from monju.data.notes import Note
from monju.errors import MonjuError
from monju.evaluation.merge_runner import MergeRunner
from monju.inference.pipeline import Monju
from monju.inference.run_cache import RunCache
from monju.runs.run import Run
from monju.ui import ROOT, build
from monju.ui.components import batch, merged_models
from monju.ui.i18n.translator import IN_BROWSER, LANGUAGES, TEXTS, Said, Translator, bare
from monju.ui.server.auth import Owner
from monju.utils.templates import environment

HOUSE = Path(__file__).parents[2] / "monju"
SERVER = "/srv/My app/trained/.uploads/3f2a9c/レビュー 1.csv"  # where a file may stand on the server
FLAG, COMMAND = re.compile(r"(?<!\w)--[a-z]"), re.compile(r"<code>python -m monju [^<]*</code>")


def calls(name):
    """Every call name(…) in the house: (file, call)."""
    for file in sorted(HOUSE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and getattr(node.func, "id", getattr(node.func, "attr", "")) == name:
                yield file, node


def message(node, value):
    """The text that an expression makes, its literal parts as they stand, all else `value(its source)`."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(message(part, value) for part in node.values)
    if isinstance(node, ast.BinOp):
        return message(node.left, value) + message(node.right, value)
    return value(ast.unparse(node.value if isinstance(node, ast.FormattedValue) else node))


def fields(text):
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def clean(text):
    """Whether a visitor may read it."""
    return not (FLAG.search(re.sub("`pip [^`]*`", "", text)) or re.search(r"/srv|My app|\.uploads|3f2a9c|\.\./", text))


def test_labels_that_the_browser_translates_have_no_placeholder():
    config = json.dumps(build(RunCache(ROOT), Owner({"MONJU_OWNER_SECRET": "s"})).get_config_file(), default=str)
    keys = set(re.findall(r'key\W+monju/(\w+)', " ".join(re.findall(r"__i18n__.{0,90}", config)))) & set(TEXTS)
    # Gradio would show a run of such a name, "copied" for one, as that text
    assert not set(TEXTS) & set(IN_BROWSER.translations["en"])
    assert len(keys) > 100 and {"batch_lines", "t_text_list", "o_secret"} <= keys
    assert {key: TEXTS[key] for key in keys if any("{" in text for text in TEXTS[key])} == {}
    assert f"{batch.MOST:,}" in TEXTS["batch_lines"][0] and f"{batch.MOST:,}" in TEXTS["batch_lines"][1]
    assert str(ROOT.resolve().parent) not in config and "site-packages" not in config  # /config: for all to see


def test_every_text_is_given_all_its_values():
    lacking, seen = [], 0
    for file, call in calls("t"):
        key, given = call.args[0], {word.arg for word in call.keywords}
        if isinstance(key, ast.Constant) and None not in given:
            seen += 1
            lacking += [(file.name, key.value)] if fields(TEXTS[key.value][0]) != given else []
    for package in ("monju.ui", "monju.reporting"):
        templates = environment(package)
        for name in templates.list_templates(extensions=["html"]):
            for call in templates.parse(templates.loader.get_source(templates, name)[0]).find_all(nodes.Call):
                if isinstance(call.node, nodes.Name) and call.node.name == "t" and isinstance(call.args[0], nodes.Const):
                    key, given = call.args[0].value, {word.key for word in call.kwargs}
                    seen += 1
                    lacking += [(name, key)] if fields(TEXTS[key][0]) != given else []
    assert seen > 150 and lacking == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_names_a_flag_or_a_place_outside_a_command(language):
    for key, texts in TEXTS.items():
        assert clean(COMMAND.sub("", texts[LANGUAGES.index(language)])), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_error_names_a_flag_or_a_place(language):
    t, seen = Translator(language), 0

    def value(source):
        if re.search(r"path|folder|file|\bout\b|source|\bdata\b|command|\bway\b", source):
            return f"`python -m monju train --out '{SERVER}' --resume`" if re.search("command|way", source) else SERVER
        return "--sample" if re.search(r"flag|^name$|extra", source) else "3"

    for file, call in calls("MonjuError"):
        text = message(call.args[0], value)
        seen += 1
        assert clean(t.plain(MonjuError(text))), (file.name, call.lineno, t.plain(text))
    for code, (english, _) in notes.TEXTS.items():
        values = {name: value(name) if re.search("path|source|flag|file", name) else "x" if f"{{{name}}}" in english else 3 for name in fields(english)}
        error = MonjuError(Note(code, values).text())
        error.note = Note(code, values)
        seen += 1
        assert clean(t.note(error.note)) and clean(t.plain(error)), code
    assert seen > 130


@pytest.mark.parametrize("text, shown", [
    ("--subset-size 3 must be smaller than --k 3", "“Clusters per expert (m): 3” must be smaller than “Clusters (k): 3”"),
    ("choose a smaller --k or --clusterer balanced", "choose a smaller “Clusters (k)” or “Clusterer: balanced”"),
    ("use --finetuning full", "use “Fine-tuning: full”"), ("--k is 3", "“Clusters (k)” is 3"),
    ("give --k --m", "give “Clusters (k)” “m”"), ("choose another --out", "choose another “Name of the new run”"),
    ("continue it with `python -m monju train --out /a/b --resume`", "continue it with “Continue the training”"),
    ("draw one with `python -m monju map /a/b`", "draw one with the command “map”"),
    ("get it with `pip install --no-deps -r x.txt`, or --k 3", "get it with `pip install --no-deps -r x.txt`, or “Clusters (k): 3”"),
    ("/srv/app/My data.csv, line 3 is broken", "My data.csv, line 3 is broken"), ("C:\\Users\\me\\a.csv is bad", "a.csv is bad"),
    ("there is no source '../shared/data/sst2': give", "there is no source 'sst2': give"), ("~/secret/a.csv, /x/y. So", "a.csv, y. So"),
    ("FacebookAI/roberta-base, owner/name, yes/no/both, 5/10, https://hub.example/a/b", "FacebookAI/roberta-base, owner/name, yes/no/both, 5/10, "
     "https://hub.example/a/b")])
def test_flags_become_labels_and_paths_names(text, shown):
    assert Translator("en").plain(text) == shown


def test_an_english_error_on_the_japanese_page_is_marked_and_one_that_has_both_is_told_in_its_language():
    with pytest.raises(MonjuError) as refused:
        Config(k=3, subset_size=3)
    assert Translator("ja").error(refused.value).startswith('<span lang="en">“エキスパートのクラスタ数（m）: 3” must be')
    assert Translator("en").error(MonjuError("<b> & so")) == "&lt;b&gt; &amp; so"
    assert Translator("ja").error(Said("batch_empty")) == TEXTS["batch_empty"][1].rstrip("。")
    assert str(Said("batch_too_large", mb=8)) == "This file is larger than 8 MB: give a part of it."
    noted = MonjuError("in English")
    noted.note = Note("sentence_cut", {"n": 300, "limit": 128})
    assert Translator("ja").error(noted) == noted.note.text("ja").rstrip("。") and "lang" not in Translator("ja").error(noted)
    assert Translator("ja").note("an old run's note, --k 3") == '<span lang="en">an old run&#39;s note, “クラスタ数（k）: 3”</span>'


@pytest.mark.parametrize("language", LANGUAGES)
def test_errors_as_they_come(tmp_path, tiny_run, language):
    t = Translator(language)
    (tmp_path / "My data").mkdir()
    (tmp_path / "My data" / "レビュー.csv").write_bytes(b"text,label\n\xff,1\n")
    shelf = RunCache(tiny_run, tmp_path)
    for act in (lambda: shelf.run("gone"), lambda: sources.load(tmp_path / "My data" / "レビュー.csv"), lambda: sources.load(tmp_path / "My data"),
                lambda: sources.load(tmp_path / "no.csv"), lambda: Run.open(tmp_path), lambda: sources.load("../shared/none")):
        with pytest.raises(MonjuError) as refused:
            act()
        text = t.plain(refused.value)
        assert not re.search(r"/tmp|pytest|\.\./|--", text) and len(text) > 10, text
    assert bare(f"{tmp_path}/My data/レビュー.csv") == "レビュー.csv"


@pytest.mark.parametrize("language, why", [("en", "needs the training sentences, which are not here"), ("ja", "学習文が必要ですが、ここにはありません")])
def test_a_merge_that_lacks_the_sentences_says_so_and_no_more(tiny_run, language, why):
    monju = Monju.load(tiny_run, "cpu")
    monju.run.manifest["config"]["data"] = "../shared/data/none"
    monju.run.manifest["data"]["fingerprint"] = "none"  # not out of memory either
    with pytest.raises(MonjuError) as refused:
        MergeRunner(monju).score({})
    assert Translator(language).reason(str(refused.value)) == why

    opened = SimpleNamespace(label_names=[], call=lambda *_: ({}, {"greedy soup": str(refused.value)}))
    shelf = SimpleNamespace(open=lambda name: opened)
    assert f"<b>greedy soup</b>: {why}" in merged_models.drawn(shelf, "tiny", "a film", Translator(language))
