"""Where a sentence's α lies among three experts: a triangle, drawn as SVG (templates/ternary.html).

Its corners are the experts; a point is the mean of the corners, weighted by α. Knows nothing of gradio.
"""

from functools import lru_cache

import numpy as np
from markupsafe import Markup

from monju.ui.components.markup import TEMPLATES
from monju.utils.templates import render

WIDTH, HEIGHT, MARGIN = 300, 270, 26
CORNERS = np.array([[MARGIN, HEIGHT - MARGIN], [WIDTH - MARGIN, HEIGHT - MARGIN],
                    [WIDTH / 2, HEIGHT - MARGIN - (WIDTH - 2 * MARGIN) * np.sqrt(0.75)]])


def triangle(names: list[str], alpha: list[float], others: np.ndarray, title: str) -> Markup:
    """Draw the triangle of three experts as SVG: `alpha` (3,) as a marker, `others` (n, 3) faint behind."""
    return render(TEMPLATES, "ternary.html", width=WIDTH, height=HEIGHT, title=title,
                  here=np.asarray(alpha) @ CORNERS,
                  outline="L".join(f"{x:.1f} {y:.1f}" for x, y in CORNERS), middle=CORNERS.mean(axis=0),
                  dots=dots(np.asarray(others, float).tobytes()),
                  labels=[(name, x, y + (-8 if i == 2 else 19))
                          for i, (name, (x, y)) in enumerate(zip(names, CORNERS))])


@lru_cache(32)  # they are the same for every sentence under the same settings
def dots(others: bytes) -> str:
    """Return one path for all points, float64 [n, 3] as bytes: a dot is a line of no length, round ends.

    Dots are 3 px wide: points closer than 2 px are one, since the path is sent with every answer.
    """
    points = np.unique(2 * np.round(np.frombuffer(others).reshape(-1, 3) @ CORNERS / 2), axis=0)
    return "".join(f"M{x:.0f} {y:.0f}h0" for x, y in points)
