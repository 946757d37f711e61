"""What-if readings: a sentence's place on a run's map, the sentence moved, and α over the whole plane.

A map is an `evaluation.cluster_map.ClusterMap`. Its plane goes through the three centres; `off` is a
sentence's distance from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from monju.clustering.projections import distances_of
from monju.config import slider
from monju.ensemble import fusion, gates
from monju.ensemble.outputs import Reading, Verdict
from monju.errors import MonjuError
from monju.inference.reader import SentenceReader


@dataclass(frozen=True)
class Place:
    """A sentence's place on a map, and the ensemble's reading of it there."""

    reading: Reading
    coordinates: dict[str, list[float]]  # [x, y] in every projection
    off: float | None  # from the plane; None where the map has none
    distances: list[float]  # [k]
    alpha: dict[str, float]
    monju: Verdict
    moved: bool = False


def locate(reading: Reading, cluster_map: Any) -> Place:
    """Return the place of a sentence that was read."""
    plane = cluster_map.projections.get("plane")
    return Place(reading, coordinates(reading.vector, cluster_map),
                 None if plane is None else float(plane.off(reading.vector[None])[0]),
                 list(reading.distances.values()), reading.alpha, reading.monju)


def move(place: Place | None, point: list[float], reader: SentenceReader, cluster_map: Any) -> Place:
    """Return the same sentence at another point [x, y] of the plane.

    Its distance from the plane and the experts' logits are held. Raises MonjuError where there is no
    sentence, no plane, or a gate that needs more than distances.
    """
    if place is None or place.off is None or not is_movable(reader) or not np.isfinite(point).all():
        raise MonjuError("there is nothing to move on this map: type a sentence first")
    distances, alpha = decide_at(np.array([point]), place.off, reader, cluster_map)
    logits = np.stack([place.reading.logits[name] for name in reader.experts])[None]
    fused = fusion.TABLE[reader.config.fusion](logits, alpha)[0]
    return replace(place, moved=True, coordinates={**place.coordinates, "plane": point},
                   distances=distances[0].tolist(),
                   alpha=dict(zip(reader.experts, alpha[0].tolist())), monju=reader.verdict(fused))


def alpha_field(off: float, reader: SentenceReader, cluster_map: Any, n: int) -> tuple[float, np.ndarray]:
    """Return (reach, the largest α [n · n]) over the square from −reach to reach of the plane.

    For sentences at the distance `off` from it.
    """
    reach = 2.5 * float(np.abs(cluster_map.coordinates["plane"]).max())
    axis = np.linspace(-reach, reach, n)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return reach, decide_at(grid, off, reader, cluster_map)[1].max(axis=1)


def decide_at(points: np.ndarray, off: float, reader: SentenceReader,
              cluster_map: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to the centres [n, k] and α [n, experts] at points [n, 2] of the plane."""
    centres = cluster_map.projections["plane"].transform(reader.clustering.clusterer.centres_)
    distances = distances_of(points, off, centres)
    return distances, gates.make(reader.config)(distances, reader.subsets)


def is_movable(reader: SentenceReader) -> bool:
    """Return whether α follows from distances alone."""
    return reader.config.gate != "posterior"


def coordinates(vector: np.ndarray, cluster_map: Any) -> dict[str, list[float]]:
    """Return a vector's [x, y] in every projection."""
    return {name: projection.transform(vector[None])[0].astype(float).tolist()
            for name, projection in cluster_map.projections.items()}


def verdicts_over_sharpness(reading: Reading, reader: SentenceReader,
                            steps: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return sharpnesses [steps + 1] over the slider's reach, and the number of Monju's label at each.

    The experts' logits and the distances are held.
    """
    _, most, _ = slider("sharpness")
    powers = np.linspace(0, max(most, reader.config.sharpness), steps + 1)
    distances = np.array([list(reading.distances.values())])
    alpha = np.concatenate([gates.Distance(power)(distances, reader.subsets) for power in powers])
    logits = np.stack([reading.logits[name] for name in reader.experts])[None]
    fused = fusion.TABLE[reader.config.fusion](np.repeat(logits, len(powers), axis=0), alpha)
    return powers, fused.argmax(axis=1)
