"""Meshes, sharding rules, placement of arrays and multi-process start-up.

Models know nothing of it: what is split over which devices is said by rules from outside.
"""

from rcodec_jax.scale.distributed import initialize_from_environment
from rcodec_jax.scale.flops import Flops, count_flops
from rcodec_jax.scale.mesh import BATCH_SPEC, make_mesh
from rcodec_jax.scale.placement import fetch, global_batch, place, replicate
from rcodec_jax.scale.rules import FSDP_RULES, Largest, Rules, shardings_for

__all__ = [
    "BATCH_SPEC",
    "FSDP_RULES",
    "Flops",
    "Largest",
    "Rules",
    "count_flops",
    "fetch",
    "global_batch",
    "initialize_from_environment",
    "make_mesh",
    "place",
    "replicate",
    "shardings_for",
]
