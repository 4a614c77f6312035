"""`python -m bilevel`: the command line."""

from bilevel.cli.app import main

if __name__ == "__main__":
    raise SystemExit(main())
