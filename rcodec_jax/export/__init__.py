"""Doors in and out: other layouts of weights, programs for serving."""
