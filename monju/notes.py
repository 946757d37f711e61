"""Notes: what was found in data or in a sentence, as a code with values; every note is worded here, in English and Japanese.

The command line, the page and run.json tell the same notes. Knows nothing of where they come from.
"""

from dataclasses import dataclass, field

TEXTS = {  # code → (English, Japanese); numbers are given as numbers
    "sentence_cut": ("Only the first {limit:,} of {n:,} tokens of this sentence are read.",
                     "この文は {n:,} トークンのうち最初の {limit:,} トークンだけが読まれます。"),
    "sentence_cut_far": ("This sentence is very long: only its beginning is read, {limit:,} tokens.",
                         "この文は非常に長いため、最初の {limit:,} トークンだけが読まれます。"),
    "sentence_unknown": ("{n:,} of {tokens:,} tokens of this sentence are unknown to {backbone}: "
                         "the verdict does not reflect what they say.",
                         "この文の {tokens:,} トークンのうち {n:,} 個は {backbone} の語彙にないもので、その内容は判定に反映されません。"),
}


@dataclass(frozen=True)
class Note:
    """One note: `code` is a key of TEXTS, `values` what its text names."""

    code: str
    values: dict = field(default_factory=dict, hash=False)

    def text(self, language="en") -> str:
        """The note in words, in "en" or "ja"."""
        return TEXTS[self.code][("en", "ja").index(language)].format(**self.values)

    def to_json(self) -> dict:
        """{"code", "text" (English), "values"}, as JSON holds them."""
        return {"code": self.code, "text": self.text(), "values": self.values}
