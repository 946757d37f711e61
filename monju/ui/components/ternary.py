"""Where a sentence's α lies among three experts: a triangle, drawn as SVG.

Its corners are the experts; a point is the mean of the corners, weighted by α. Knows nothing of gradio.
"""

from functools import lru_cache

import numpy as np

WIDTH, HEIGHT, MARGIN = 300, 270, 26
CORNERS = np.array([[MARGIN, HEIGHT - MARGIN], [WIDTH - MARGIN, HEIGHT - MARGIN],
                    [WIDTH / 2, HEIGHT - MARGIN - (WIDTH - 2 * MARGIN) * np.sqrt(0.75)]])


def triangle(names, alpha, others, title):
    """The triangle of three experts: `alpha` [3] as a marker, `others` [n, 3] faint behind it, as SVG."""
    x, y = np.asarray(alpha) @ CORNERS
    outline = "L".join(f"{px:.1f} {py:.1f}" for px, py in CORNERS)
    middle = CORNERS.mean(axis=0)
    labels = "".join(f'<text x="{px:.1f}" y="{py + (-8 if i == 2 else 19):.1f}">{name}</text>'
                     for i, (name, (px, py)) in enumerate(zip(names, CORNERS)))
    return (f'<svg class="ternary" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}"><title>{title}</title>'
            f'<path class="edge" d="M{outline}Z"/><path class="dots" d="{dots(np.asarray(others, float).tobytes())}"/>'
            f'<path class="middle" d="M{middle[0] - 7:.1f} {middle[1]:.1f}h14M{middle[0]:.1f} {middle[1] - 7:.1f}v14"/>'
            f'<circle class="here" cx="{x:.1f}" cy="{y:.1f}" r="7"/>{labels}</svg>')


@lru_cache(32)  # they are the same for every sentence under the same settings
def dots(others):
    """One path for all points, float64 [n, 3] as bytes: a dot is a line of no length with round ends."""
    points = np.unique(np.round(np.frombuffer(others).reshape(-1, 3) @ CORNERS, 1), axis=0)
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
