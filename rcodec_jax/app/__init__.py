"""A local page to play with: what it computes, how it looks, how it is served."""
