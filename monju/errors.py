"""The exception for bad input: its message says in one sentence what is wrong and the way out.

The command line prints it on one line and exits with code 2; the web app shows it as a message.
Anything else that escapes is a defect of Monju and keeps its traceback.
"""

from typing import Any


class MonjuError(Exception):
    """Bad input or a bad run folder.

    Attributes
    ----------
    note : monju.data.notes.Note or None
        The message as a note, where it has a code: it can then be shown in Japanese, too.
    """

    note: Any = None
