"""Positions along a line, moved apart so that labels of one size do not overlap."""

from collections.abc import Sequence


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions at least `gap` apart within [low, high], in the given order's places.

    They keep their order along the line, and move only as far as they must; where there is no room for all,
    the gap becomes smaller.

    Examples
    --------
    >>> spread([10, 11, 50], 14, 0, 100)
    [3.5, 17.5, 50.0]
    """
    order = sorted(range(len(positions)), key=positions.__getitem__)
    gap = min(gap, (high - low) / max(1, len(order) - 1))
    groups: list[tuple[float, int]] = []  # (the sum of where its members would have it begin, their number)

    def start(group: tuple[float, int]) -> float:
        total, n = group
        return max(low, min(high - (n - 1) * gap, total / n))

    for i in order:
        groups.append((positions[i], 1))
        while len(groups) > 1 and start(groups[-2]) + groups[-2][1] * gap > start(groups[-1]):
            (total, n), (more, m) = groups[-2:]
            groups[-2:] = [(total + more - m * n * gap, n + m)]
    placed = [start(group) + k * gap for group in groups for k in range(group[1])]
    return [at for _, at in sorted(zip(order, placed))]
