"""Crops, flips and workers: from sources to batches."""
