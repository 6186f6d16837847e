"""Pure functions on arrays (jax.numpy); no parameters, no state, no randomness of their own."""
