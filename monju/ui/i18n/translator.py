"""Every text of the page, in English and Japanese, side by side.

One table for both ways a text reaches the browser: labels are translated there by `gr.I18n`,
what Python draws is worded here in the language that the browser asked for. Knows nothing of
readings or layout.
"""

import os
import re
from html import unescape

import gradio as gr
from markupsafe import Markup, escape

from monju import config as schema
from monju.data.notes import Note
from monju.errors import MonjuError
from monju.ui.i18n.texts import clusters, owner, page, playground, results, training

# one file of texts a tab; a key belongs to one of them
TEXTS = {**page.TEXTS, **playground.TEXTS, **clusters.TEXTS, **training.TEXTS, **results.TEXTS, **owner.TEXTS}

LANGUAGES = ("en", "ja")
I18N = gr.I18n(**{language: {key: texts[i] for key, texts in TEXTS.items()}
                  for i, language in enumerate(LANGUAGES)})

# what the command line's errors name → what the page has in its place
FLAGS = {**{schema.flag(name): f"setting_{name}" for name in schema.SETTINGS},
         "--out": "t_name", "--resume": "t_resume"}
FLAG = re.compile(r"(--[a-z][a-z0-9-]*)(?: ((?!-)[\w.,+/-]*\w))?")
COMMAND = re.compile(r"`python -m monju (\w+)([^`]*)`")
# a path: absolute, from here (./ ../ ~/ .folder/), in a folder that is here, or one that ends like a file of
# data; else
# owner/name is a repository's, and yes/no/both a label. What stands before it must not be part of an address
APART = r"'\"`,;:()<>|"
PATH = re.compile(r"(?<![\w:/\\.~-])((?:[A-Za-z]:|~|\.[\w.-]*)?|[\w.-]+)[/\\]"
                  # with the blanks in its folders' names
                  rf"(?:[^\s{APART}]| (?=[^{APART}/\\]*[^\s{APART}/\\][/\\]))*")
FILE = re.compile(r".*\.(csv|tsv|jsonl?|parquet|npz|txt|safetensors)")
# what `load_run_data` says of a run without sentences
GONE = re.compile(r"there is no source|.* no longer holds the sentences", re.DOTALL)


class Said(MonjuError):
    """An error of the page's own: a key of its texts and their values, told in the visitor's language."""

    def __init__(self, key, **values):
        super().__init__(TEXTS[key][0].format(**values))
        self.key, self.values = key, values


class Translator:
    """The texts in one language: words("agree", label="positive") → a sentence as markup, its values
    escaped."""

    def __init__(self, language="en"):
        self.language = language

    def __call__(self, key, **values):
        text = TEXTS[key][LANGUAGES.index(self.language)]
        return Markup(text.format(**{name: escape(value) for name, value in values.items()}))

    def note(self, note):
        """A Note in the page's language; one that is a string (an old run's) as it is. HTML."""
        if not isinstance(note, Note):
            return self._english(str(note))
        return escape(self.without_flags(pathless(note).text(self.language)))

    def error(self, error):
        """A MonjuError, or its text, for a visitor: with the form's labels in place of flags and names in
        place of paths, without its full stop. In the page's language where the error has it (`note`, `Said`),
        else English and marked so. HTML."""
        if isinstance(error, Said):
            return self(error.key, **error.values).rstrip(".。")
        note = getattr(error, "note", None)
        return self.note(note).rstrip(".。") if isinstance(note,
                                                          Note) else self._english(str(error).rstrip("."))

    def reason(self, error):
        """Why a part of a run is left out: as `error`, in short where the run's own sentences are not here.
        HTML."""
        return self("no_sentences") if GONE.match(str(error)) else self.error(error)

    def plain(self, error):
        """`error` as text, for programs."""
        return unescape(re.sub(r"<[^>]+>", "", self.error(error)))

    def _english(self, text):
        text = escape(self.without_flags(bare(text)))
        return text if self.language == "en" else Markup(f'<span lang="en">{text}</span>')

    def without_flags(self, text):
        """A text with the form's labels in place of flags: “--k 3” → ““Clusters (k): 3””. A command is named,
        not shown."""
        def named(found):
            flag, value = found.groups()
            label = self(FLAGS[flag]) if flag in FLAGS else flag[2:].replace("-", " ")
            if value is None or self._belongs(flag, value):
                return f"“{label}: {value}”" if value else f"“{label}”"
            return f"“{label}” {value}"

        def command(found):
            return f"“{self('t_resume')}”" if "--resume" in found[2] else f"the command “{found[1]}”"

        return FLAG.sub(named, COMMAND.sub(command, text))

    @staticmethod
    def _belongs(flag, word):
        """Whether the word after a flag is its value, not the sentence's next word."""
        name = flag[2:].replace("-", "_")
        if name in schema.SETTINGS and word in (schema.choices(name) or ()):
            return True
        return bool(re.search(r"[\d+]", word)) and (name in schema.SETTINGS or flag not in FLAGS)

    def label(self, name):
        """A label's readable name: the common ones translated, any other as the data has it. Not escaped."""
        return self(name) if name in ("positive", "negative") else str(name)

    def labels(self, names):
        """Every label's readable name."""
        return [self.label(name) for name in names]

    def listed(self, items):
        """["AB", "BC", "CA"] → "AB, BC and CA", as markup."""
        *first, last = items
        return self("and").join(filter(None, [self("comma").join(first), last]))


def pathless(note):
    """A Note with names in place of paths."""
    return Note(note.code,
                {name: named(value) if isinstance(value, str) else value
                 for name, value in note.values.items()})


def named(value):
    """A note's value with a name in place of a path."""
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if re.match(r"[/~]|[A-Za-z]:[/\\]|\.{1,2}[/\\]",
                                                                   value) else bare(value)


def bare(text):
    """A text with names in place of paths: where a file stands on the server is nobody's business."""
    def name(found):
        whole, first = found[0].rstrip("/\\."), found[1]
        here = not first or first[
            0] in ".~" or first.endswith(":") or FILE.fullmatch(whole) or os.path.isdir(first)
        return (re.split(r"[/\\]", whole)[-1]
                or found[0]) + found[0][len(whole):].lstrip("/\\") if here else found[0]

    return PATH.sub(name, text)


def asked(request):
    """Words in the language of a request's browser."""
    return spoken(request.headers.get("accept-language", "") if request else "")


def spoken(header):
    """Words in the language that an Accept-Language header puts first, as `gr.I18n` picks it in the browser;
    English where unsure."""
    first = header.split(",")[0].split("-")[0].strip().lower()
    return Translator(first if first in LANGUAGES else "en")
