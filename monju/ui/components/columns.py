"""Which columns of a table most likely hold the sentences and the labels, where nobody has said so."""

from monju.data.rows import LABEL_COLUMNS, TEXT_COLUMNS

LOOKED_AT = 1000  # values of a column


def guessed(columns: dict[str, list]) -> tuple[str | None, str | None]:
    """Return (the text's, the label's name) of the columns {name: values}.

    Those of a usual name; else that of the longest text and, of the others, that of the fewest different
    values. Of a single column both are None.
    """
    seen = {name: [str(value) for value in values[:LOOKED_AT]] for name, values in columns.items()}

    def usual(names):
        by_name = {name.strip().casefold(): name for name in reversed(seen)}
        return [by_name[name] for name in names if name in by_name]

    if len(seen) < 2:
        return None, None
    text = next((name for name in usual(TEXT_COLUMNS) if any(" " in value.strip() for value in seen[name])),
                None)
    text = text or max(seen, key=lambda name: sum(map(len, seen[name])))
    label = next((name for name in usual(LABEL_COLUMNS) if name != text), None)
    return text, label or min((name for name in seen if name != text),
                              key=lambda name: (len(set(seen[name])) < 2, len(set(seen[name]))))
