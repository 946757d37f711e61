"""Numbers and texts as people read them, alike in the terminal, the report and the web app."""


def percent(fraction: float | None, digits: int = 2, sign: str = "") -> str:
    """A fraction in %, without the sign "%", its minus as wide as a plus; a dash for None.

    >>> percent(0.9014), percent(-0.0082, 1), percent(-0.00001, sign="+"), percent(None)
    ('90.14', '−0.8', '+0.00', '–')
    """
    if fraction is None:
        return "–"
    return f"{round(100 * fraction, digits) + 0.0:{sign}.{digits}f}".replace("-", "−")  # + 0.0: no "-0.00"


def share(fraction: float | None, digits: int = 1) -> str:
    """A fraction in %, with the sign after a narrow space that no line breaks at; a dash for None."""
    return "–" if fraction is None else f"{percent(fraction, digits)}\u202f%"


def interval(bounds: list[float], digits: int = 1, sign: str = "") -> str:
    """Two fractions in % as "[low, high]"; nothing where the interval has no width.

    >>> interval([0.881, 0.921]), interval([1.0, 1.0])
    ('[88.1, 92.1]', '')
    """
    low, high = bounds
    return f"[{percent(low, digits, sign)}, {percent(high, digits, sign)}]" if low < high else ""


def signed(value: float) -> str:
    """A number with two digits, its sign, and a minus as wide as the plus; zero without a sign.

    >>> signed(1.5), signed(-1.5), signed(-0.001)
    ('+1.50', '−1.50', '0.00')
    """
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds.

    >>> clock(0), clock(75), clock(3723)
    ('0:00', '1:15', '1:02:03')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def size(count: float) -> str:
    """Bytes in the unit that leaves few digits.

    >>> size(999), size(1500), size(17_000_000), size(2_500_000_000)
    ('999 B', '2 kB', '17 MB', '2.5 GB')
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def clipped(text: str, most: int = 160) -> str:
    """The beginning of a text, "…" behind it where there is more.

    >>> clipped("a quiet triumph", 7)
    'a quiet…'
    """
    return text if len(text) <= most else text[:most] + "…"
