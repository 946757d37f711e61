"""What a caller hands over to be read: any iterable of strings becomes a list of them, and nothing else is guessed at."""

from collections.abc import Mapping

from monju.errors import MonjuError


def sentences(texts) -> list[str]:
    """The strings of a list, tuple, pandas Series, array or generator, in their order.

    Raises MonjuError for one bare string, whose characters would be taken for sentences, for a table, and for items that
    are no strings.
    """
    if isinstance(texts, (str, bytes, bytearray)):
        raise MonjuError("one string was given where a list of sentences is read: put it into brackets, [sentence]")
    if isinstance(texts, Mapping) or getattr(texts, "ndim", 1) != 1:
        raise MonjuError(f"sentences are read from one column, not from a {type(texts).__name__}: "
                         "name the column that holds them")
    try:
        found = list(texts)
    except TypeError:
        raise MonjuError(f"sentences are read from a list of strings, not from a {type(texts).__name__}: "
                         "give a list") from None
    for number, text in enumerate(found, 1):
        if not isinstance(text, str):
            raise MonjuError(f"sentence {number:,} is no string but of the type {type(text).__name__}: "
                             "leave it out or make it a string")
    return found
