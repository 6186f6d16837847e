"""Spatially varying diffusion: schedule and nodes, universal quantisation, DDIM per cell."""
