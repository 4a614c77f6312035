"""Parts are imported as the command line does it, not collected."""

collect_ignore = ["parts"]
