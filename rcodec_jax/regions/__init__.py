"""Importance sources, level maps, the map sampler of training, and the rate budget. NumPy only."""
