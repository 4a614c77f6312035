"""How good reconstructions are, from the data alone: what rules and criteria are made of."""
