"""Configurations: TOML in, checked settings out."""

from bilevel.cli.config.configuration import Configuration, blaming
from bilevel.cli.config.reading import Document, parse, read, restore
from bilevel.cli.config.selection import (
    Selection,
    layout_in,
    made,
    read_selection,
    tables_for_learning,
)
from bilevel.cli.config.validation import plain

__all__ = [
    "Configuration",
    "Document",
    "Selection",
    "blaming",
    "layout_in",
    "made",
    "parse",
    "plain",
    "read",
    "read_selection",
    "restore",
    "tables_for_learning",
]
