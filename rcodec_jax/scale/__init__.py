"""Meshes, sharding rules, placement of arrays and multi-process start-up.

Models know nothing of it: what is split over which devices is said by rules from outside.
"""

from rcodec_jax.scale.chips import Chip, topology
from rcodec_jax.scale.collectives import Collective
from rcodec_jax.scale.defaults import RULES
from rcodec_jax.scale.distributed import check_agreement, initialize_from_environment
from rcodec_jax.scale.flops import Flops, count_flops
from rcodec_jax.scale.gathering import gathered
from rcodec_jax.scale.mesh import AXES, BATCH_SPEC, abstract_mesh, make_mesh
from rcodec_jax.scale.placement import fetch, global_batch, local_rows, place, replicate
from rcodec_jax.scale.plan import Compiled, TooLarge, compile_step
from rcodec_jax.scale.roofline import Roofline, roofline
from rcodec_jax.scale.rules import Largest, Rules, shardings_for

__all__ = [
    "AXES",
    "BATCH_SPEC",
    "RULES",
    "Chip",
    "Collective",
    "Compiled",
    "Flops",
    "Largest",
    "Roofline",
    "Rules",
    "TooLarge",
    "abstract_mesh",
    "check_agreement",
    "compile_step",
    "count_flops",
    "fetch",
    "gathered",
    "global_batch",
    "initialize_from_environment",
    "local_rows",
    "make_mesh",
    "place",
    "replicate",
    "roofline",
    "shardings_for",
    "topology",
]
