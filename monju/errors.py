"""The one exception for people: its message names what is wrong and the way out.

The command line prints it on a single line and exits with code 2; the page shows it calmly.
Anything else that escapes is a defect of Monju and keeps its traceback.
"""


class MonjuError(Exception):
    """Bad input or a bad run folder, told in one sentence. `note`: the same as a `notes.Note`, where it has a code."""

    note = None
