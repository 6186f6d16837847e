"""Exact entropy coding: integers only, NumPy only. What this package does fixes the file format."""

from rcodec_jax.entropy.distributions.centroids import Centroids
from rcodec_jax.entropy.distributions.dither import DITHER_KEY, dither_indices, dither_values
from rcodec_jax.entropy.distributions.gaussian import (
    DITHER_POINTS,
    PRIOR_BITS,
    SIGMA_LEVELS,
    GaussianTables,
    sigma_of_level,
)
from rcodec_jax.entropy.distributions.static import StaticTables
from rcodec_jax.entropy.integer.context import ContextModel
from rcodec_jax.entropy.integer.layers import Conv, DepthToSpace, Film, LeakyRelu, LevelContext
from rcodec_jax.entropy.integer.network import IntegerNetwork
from rcodec_jax.entropy.integer.part import IntegerPart, Prior
from rcodec_jax.entropy.levelmap import decode_level_map, encode_level_map
from rcodec_jax.entropy.symbols import Symbols, decode_symbols, encode_symbols
from rcodec_jax.entropy.tone import ToneMap, decode_tone, encode_tone
from rcodec_jax.limits import Limits

__all__ = [
    "DITHER_KEY",
    "DITHER_POINTS",
    "PRIOR_BITS",
    "SIGMA_LEVELS",
    "Centroids",
    "ContextModel",
    "Conv",
    "DepthToSpace",
    "Film",
    "GaussianTables",
    "IntegerNetwork",
    "IntegerPart",
    "LeakyRelu",
    "LevelContext",
    "Limits",
    "Prior",
    "StaticTables",
    "Symbols",
    "ToneMap",
    "decode_level_map",
    "decode_symbols",
    "decode_tone",
    "dither_indices",
    "dither_values",
    "encode_level_map",
    "encode_symbols",
    "encode_tone",
    "sigma_of_level",
]
