"""Importance sources, level maps, the map sampler of training, and the rate budget. NumPy only."""

from rcodec_jax.regions.budget import Fit, fit_base
from rcodec_jax.regions.importance import combine, from_boxes, from_gaze
from rcodec_jax.regions.levelmap import (
    LevelMap,
    build_level_map,
    cell_shape,
    pool_importance,
    uniform_level_map,
)
from rcodec_jax.regions.sampler import MapSampler

__all__ = [
    "Fit",
    "LevelMap",
    "MapSampler",
    "build_level_map",
    "cell_shape",
    "combine",
    "fit_base",
    "from_boxes",
    "from_gaze",
    "pool_importance",
    "uniform_level_map",
]
