"""HTML from template files: what is put into them is escaped, unless it is markup already."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monju.utils.format import clipped, clock, interval, percent, share, signed, size

COLOURS = 7  # of labels and models, in assets/style.css


def tint(number: int) -> str:
    """The style sheet's class for a label's or a model's number."""
    return f"label-{number % COLOURS}"


def width(part: float) -> str:
    """A part of a bar as CSS has it."""
    return f"{100 * min(1, max(0, part)):.2f}%"


FILTERS = {f.__name__: f for f in (clipped, clock, interval, percent, share, signed, size, tint, width)}


@cache
def environment(package: str) -> Environment:
    """The templates in a package's folder `templates`, with FILTERS."""
    found = Environment(loader=PackageLoader(package), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True, auto_reload=False)
    found.filters |= FILTERS
    return found


def render(package: str, template: str, **values: Any) -> Markup:
    """A template of a package, filled in: markup, which another template takes as it is."""
    return Markup(environment(package).get_template(template).render(values))
