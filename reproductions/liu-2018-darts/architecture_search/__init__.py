"""DARTS on small digits: architecture weights above, network weights below."""
