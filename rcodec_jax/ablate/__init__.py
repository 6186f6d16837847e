"""Ablations: variants of one recipe, trained, measured and set against it."""
