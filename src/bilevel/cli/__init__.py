"""The command line."""

from bilevel.cli.app import main

__all__ = ["main"]
