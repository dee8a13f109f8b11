"""The simulated crowd: people with known behaviour against the real broker."""
