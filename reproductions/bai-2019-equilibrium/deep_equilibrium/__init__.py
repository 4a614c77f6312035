"""Deep equilibrium layers, networks of them, and what they are tried on."""
