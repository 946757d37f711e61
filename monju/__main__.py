"""`python -m monju`: the command line."""

from monju.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
