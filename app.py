"""The page's entry, on a Space and at home: `python app.py [RUN]` builds the page and launches it."""

import sys

from monju.cli import main

if __name__ == "__main__":
    sys.exit(main(["app", *sys.argv[1:]]))
