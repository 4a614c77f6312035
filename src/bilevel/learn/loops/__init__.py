"""What the single-loop algorithms share: one loop over x, v and θ, and what it looks at."""
