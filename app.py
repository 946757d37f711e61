"""The page's entry, on a Space and at home: `python app.py [RUN]` builds the page and launches it."""

import os
import sys

if os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"):
    import spaces  # noqa: F401  # before torch, whose idea of a GPU it changes

from monju.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["app", *sys.argv[1:]]))
