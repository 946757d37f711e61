"""Every text of the page, in English and Japanese, side by side.

One table for both ways a text reaches the browser: labels are translated there by `gr.I18n`,
what Python draws is worded here in the language that the browser asked for. Knows nothing of
readings or layout.
"""

from html import escape

import gradio as gr

from monju.ui.texts import clusters, owner, page, playground, results, training

# one file of texts a tab; a key belongs to one of them
TEXTS = {**page.TEXTS, **playground.TEXTS, **clusters.TEXTS, **training.TEXTS, **results.TEXTS, **owner.TEXTS}

LANGUAGES = ("en", "ja")
I18N = gr.I18n(**{language: {key: texts[i] for key, texts in TEXTS.items()} for i, language in enumerate(LANGUAGES)})


class Words:
    """The texts in one language: words("agree", label="positive") → a sentence, its values escaped for HTML."""

    def __init__(self, language="en"):
        self.language = language

    def __call__(self, key, **values):
        text = TEXTS[key][LANGUAGES.index(self.language)]
        return text.format(**{name: escape(str(value)) for name, value in values.items()})

    def label(self, name):
        """A label's readable name: the common ones translated, any other as the data has it. Not escaped."""
        return self(name) if name in ("positive", "negative") else str(name)

    def listed(self, items):
        """["AB", "BC", "CA"] → "AB, BC and CA". Not escaped."""
        *first, last = items
        return self("and").join(filter(None, [self("comma").join(first), last]))


def asked(request):
    """Words in the language of a request's browser."""
    return spoken(request.headers.get("accept-language", "") if request else "")


def spoken(header):
    """Words in the language that an Accept-Language header puts first, as `gr.I18n` picks it in the browser; English where unsure."""
    first = header.split(",")[0].split("-")[0].strip().lower()
    return Words(first if first in LANGUAGES else "en")
