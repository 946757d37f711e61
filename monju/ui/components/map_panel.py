"""What stands beside and under the map: a sentence's verdict, α and neighbours; the clusters in figures.

Knows nothing of gradio.
"""

from __future__ import annotations

from markupsafe import Markup

from monju.evaluation.cluster_map import ClusterMap
from monju.inference.reader import SentenceReader
from monju.inference.what_if import Place
from monju.ui.components import cards
from monju.ui.components.map_library import neighbours
from monju.ui.components.markup import html, note
from monju.ui.i18n.translator import Translator

HUES = 7  # of clusters, in assets/clusters.css
MOST_PARTS = 6  # experts whose α is written: of more, those with the largest
NEIGHBOURS = 5


def panel(place: Place | None, texts: list[str] | None, monju: SentenceReader, cluster_map: ClusterMap,
          t: Translator) -> Markup:
    """Draw a sentence's verdict, its α as one bar, and its nearest training sentences."""
    if place is None:
        return note(t("map_hint"), t, "about", role=None)
    near = neighbours(place, texts, monju, cluster_map)
    labels = [t.label(one["label"]) for one in near]
    alpha = [(name, value, stripes(subset))
             for (name, value), subset in zip(place.alpha.items(), monju.subsets)]
    written = sorted(alpha, key=lambda part: -part[1])[:MOST_PARTS]
    return html("panel.html", t, text=place.reading.text, moved=place.moved,
                said=cards.Opinion.of(place.monju.logits, t.labels(monju.label_names)), alpha=alpha,
                written=[part for part in alpha if part in written], equal=1 / len(alpha),
                near=None if texts is None else near[:NEIGHBOURS],
                labels=sorted({(label, labels.count(label)) for label in labels}, key=lambda pair: -pair[1]))


def stripes(subset: tuple[int, ...]) -> Markup:
    """Return an expert's colour as CSS: a stripe in the colour of each of its clusters."""
    part = 100 / len(subset)
    return Markup("linear-gradient(to bottom, {})").format(Markup(", ").join(
        f"var(--cluster-{c % HUES}) {part * i:.1f}% {part * (i + 1):.1f}%" for i, c in enumerate(subset)))


def summary(monju: SentenceReader, cluster_map: ClusterMap, t: Translator) -> Markup:
    """Draw cards of the clusters: size, labels, held-out share, words; and how well they are separated."""
    clusters, names = cluster_map.facts["clusters"], monju.label_names
    many, shares = len(names) > cards.MOST_LABELS, []  # of each cluster: its labels, of many its commonest
    for cluster in clusters:
        pairs = [(label, n / max(1, cluster["size"])) for label, n in zip(names, cluster["labels"])]
        shares.append(sorted(pairs, key=lambda pair: -pair[1])[: cards.FEW_LABELS] if many else pairs)
    return html("summary.html", t, clusters=clusters, shares=shares, many=many,
                silhouette=cluster_map.facts["silhouette"], n=len(cluster_map.rows),
                total=cluster_map.facts["sentences"])
