"""The study: when does the gate matter? Six experiments with their controls, three seeds.

    python docs/study.py --data ../shared/data --out FOLDER

trains what the folder lacks, piece by piece (`--pieces 1`: one and stop), writes docs/study.json, and from it the
tables in docs/study.md between their marks and the picture docs/study.svg. With `--resume` a new folder takes over
the numbers of docs/study.json. `python docs/study.py` alone redraws from docs/study.json. What is asked, and how
it is tested, stands in docs/study.md under "Said in advance".
"""

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # the package beside this folder, installed or not
from experiments import figure, tables  # noqa: E402


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", type=Path, help="the folder of fdu-mtl, clinc150 and sst2")
    asked.add_argument("--out", type=Path, help="where vectors, answers and numbers are kept")
    asked.add_argument("--runs", type=Path, nargs="*", default=[HERE.parent / "trained"],
                       help="folders of finished runs, as further points of the figure")
    asked.add_argument("--pieces", type=int, help="train at most so many pieces")
    asked.add_argument("--resume", action="store_true", help="train only what docs/study.json lacks")
    asked = asked.parse_args()
    if asked.data and asked.out:
        from experiments import pieces  # torch and scikit-learn: redrawing needs neither

        if asked.resume:
            pieces.restore(json.loads((HERE / "study.json").read_text()), asked.out)
        left = pieces.make(asked.data, asked.out, asked.pieces)
        text = json.dumps(pieces.collect(asked.out, asked.runs), separators=(",", ":"))
        (HERE / "study.json").write_text(text.replace('{"seed"', '\n{"seed"') + "\n")
        print(f"{left} pieces are left" + (": give the same command again" if left else ""))
    found = json.loads((HERE / "study.json").read_text())
    page = HERE / "study.md"
    page.write_text(tables.written(page.read_text(), found))
    (HERE / "study.svg").write_text(figure.picture(found))


if __name__ == "__main__":
    main()
