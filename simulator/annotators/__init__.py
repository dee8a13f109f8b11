"""Simulated people by the shape of their answers: one file a shape."""
