"""One training step: losses, gradients, optimiser, state."""
