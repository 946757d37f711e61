"""Sentences as a caller hands them over: any iterable of strings becomes a list."""

from collections.abc import Mapping
from typing import Any

from monju.errors import MonjuError


def sentences(texts: Any) -> list[str]:
    """Return the strings of an iterable as a list.

    Parameters
    ----------
    texts : iterable of str
        A list, tuple, pandas Series, array or generator.

    Returns
    -------
    list of str
        The strings in their order.

    Raises
    ------
    MonjuError
        For one bare string, whose characters would be taken for sentences, for a table, and for items that
        are no strings.

    Examples
    --------
    >>> sentences(text.strip() for text in (" a quiet triumph ", "a mess"))
    ['a quiet triumph', 'a mess']
    """
    if isinstance(texts, (str, bytes, bytearray)):
        raise MonjuError("one string was given where a list of sentences is read: "
                         "put it into brackets, [sentence]")
    if isinstance(texts, Mapping) or getattr(texts, "ndim", 1) != 1:
        raise MonjuError(f"sentences are read from one column, not from a {type(texts).__name__}: "
                         "name the column that holds them")
    try:
        items = list(texts)
    except TypeError:
        raise MonjuError(f"sentences are read from a list of strings, not from a {type(texts).__name__}: "
                         "give a list") from None
    for number, item in enumerate(items, 1):
        if not isinstance(item, str):
            raise MonjuError(f"sentence {number:,} is no string but of the type {type(item).__name__}: "
                             "leave it out or make it a string")
    return items
