"""Picture quality: fidelity, perceptual distance, region figures, and BD-rate between curves."""
