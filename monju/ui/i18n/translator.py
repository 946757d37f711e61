"""Every text of the page, in English and Japanese, side by side.

One table for both ways a text reaches the browser: labels are translated there by `gr.I18n`,
what Python draws is worded here in the language that the browser asked for. Knows nothing of
readings or layout.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from html import unescape
from typing import Any

import gradio as gr
from markupsafe import Markup, escape

from monju import config as schema
from monju.data.notes import Note
from monju.errors import MonjuError
from monju.ui.i18n.texts import clusters, owner, page, playground, results, training, writer

# one file of texts a tab; a key belongs to one of them
TEXTS = {key: text for part in (page, playground, clusters, training, results, writer, owner)
         for key, text in part.TEXTS.items()}

LANGUAGES = ("en", "ja")
# Gradio also translates a choice whose name is a key: with a slash in it, no run and hardly a column has it
OURS = "monju/"
IN_BROWSER = gr.I18n(**{language: {OURS + key: texts[i] for key, texts in TEXTS.items()}
                        for i, language in enumerate(LANGUAGES)})


def I18N(key: str) -> Any:  # noqa: N802, as Gradio calls it
    """Return the text of a key for a component; the browser translates it."""
    return IN_BROWSER(OURS + key)


# what the command line's errors name → what the page has in its place
FLAGS = {**{schema.flag(name): f"setting_{name}" for name in schema.SETTINGS},
         "--out": "t_name", "--resume": "t_resume"}
FLAG = re.compile(r"`pip [^`]*`|(--[a-z][a-z0-9-]*)(?: ((?!-)[\w.,+/-]*\w))?")  # pip's are its own
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
GONE = re.compile(r"there is no source|the hub could not|.* no longer holds the sentences", re.DOTALL)


class Said(MonjuError):
    """An error of the page itself: a key of TEXTS and its values, shown in the visitor's language."""

    def __init__(self, key: str, **values: Any) -> None:
        super().__init__(TEXTS[key][0].format(**values))
        self.key, self.values = key, values


class Translator:
    """The texts in one language.

    translator("agree", label="positive") → a sentence as markup, its values escaped.
    """

    def __init__(self, language: str = "en") -> None:
        self.language = language

    def __call__(self, key: str, **values: Any) -> Markup:
        """Return the text of a key, with its values filled in."""
        text = TEXTS[key][LANGUAGES.index(self.language)]
        return Markup(text.format(**{name: escape(value) for name, value in values.items()}))

    def note(self, note: Note | str) -> Markup:
        """Return a Note in the page's language, as HTML; one that is a string (an old run's) as it is."""
        if not isinstance(note, Note):
            return self._english(str(note))
        return escape(self.without_flags(pathless(note).text(self.language)))

    def error(self, error: MonjuError | str) -> Markup:
        """Return a MonjuError, or its text, for a visitor, as HTML without its full stop.

        The form's labels stand in place of flags, and names in place of paths. In the page's language where
        the error has it (`note`, `Said`), else English and marked so.
        """
        if isinstance(error, Said):
            return self(error.key, **error.values).rstrip(".。")
        note = getattr(error, "note", None)
        if isinstance(note, Note):
            return self.note(note).rstrip(".。")
        return self._english(str(error).rstrip("."))

    def reason(self, error: MonjuError | str) -> Markup:
        """Return why a part of a run is left out, as HTML.

        As `error` says it; in short where the run's own sentences are not here.
        """
        return self("no_sentences") if GONE.match(str(error)) else self.error(error)

    def plain(self, error: MonjuError | str) -> str:
        """Return `error` as plain text, for programs."""
        return unescape(re.sub(r"<[^>]+>", "", self.error(error)))

    def _english(self, text: str) -> Markup:
        text = escape(self.without_flags(bare(text)))
        return text if self.language == "en" else Markup(f'<span lang="en">{text}</span>')

    def without_flags(self, text: str) -> str:
        """Replace flags in a text by the form's labels: “--k 3” → ““Clusters (k): 3””.

        A command is named, not shown.
        """
        def named(match: re.Match) -> str:
            flag, value = match.groups()
            if flag is None:
                return match[0]
            label = self(FLAGS[flag]) if flag in FLAGS else flag[2:].replace("-", " ")
            if value is None or self._belongs(flag, value):
                return f"“{label}: {value}”" if value else f"“{label}”"
            return f"“{label}” {value}"

        def command(match: re.Match) -> str:
            return f"“{self('t_resume')}”" if "--resume" in match[2] else f"the command “{match[1]}”"

        return FLAG.sub(named, COMMAND.sub(command, text))

    @staticmethod
    def _belongs(flag: str, word: str) -> bool:
        """Return whether the word after a flag is its value, not the sentence's next word."""
        name = flag[2:].replace("-", "_")
        if name in schema.SETTINGS and word in (schema.choices(name) or ()):
            return True
        return bool(re.search(r"[\d+]", word)) and (name in schema.SETTINGS or flag not in FLAGS)

    def label(self, name: str) -> str:
        """Return a label's readable name: common ones translated, others without underscores. Not escaped."""
        if name in ("positive", "negative"):
            return self(name)
        return re.sub(r"(?<=[^\W_])_(?=[^\W_])", " ", str(name))  # between words alone

    def labels(self, names: Iterable[str]) -> list[str]:
        """Return every label's readable name."""
        return [self.label(name) for name in names]

    def listed(self, items: Iterable[str]) -> Markup:
        """Join items to a list in words, as markup: ["AB", "BC", "CA"] → "AB, BC and CA"."""
        *first, last = items
        return self("and").join(filter(None, [self("comma").join(first), last]))


def pathless(note: Note) -> Note:
    """Return a Note with names in place of paths."""
    return Note(note.code,
                {name: named(value) if isinstance(value, str) else value
                 for name, value in note.values.items()})


def named(value: str) -> str:
    """Return a note's value with a name in place of a path."""
    if re.match(r"[/~]|[A-Za-z]:[/\\]|\.{1,2}[/\\]", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return bare(value)


def bare(text: str) -> str:
    """Return a text with names in place of paths: visitors are not told where files are on the server."""
    def name(match: re.Match) -> str:
        path, first = match[0].rstrip("/\\."), match[1]
        is_path = (not first or first[0] in ".~" or first.endswith(":") or FILE.fullmatch(path)
                   or os.path.isdir(first))
        if not is_path:
            return match[0]
        return (re.split(r"[/\\]", path)[-1] or match[0]) + match[0][len(path):].lstrip("/\\")

    return PATH.sub(name, text)


def asked(request: gr.Request | None) -> Translator:
    """Return the Translator for the language of a request's browser."""
    return spoken(request.headers.get("accept-language", "") if request else "")


def spoken(header: str) -> Translator:
    """Return the Translator for the language that an Accept-Language header puts first.

    `gr.I18n` picks it in the same way in the browser. English where unsure.
    """
    first = header.split(",")[0].split("-")[0].strip().lower()
    return Translator(first if first in LANGUAGES else "en")
