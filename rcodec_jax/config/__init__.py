"""Configuration: frozen dataclasses, overrides by field type and a JSON round trip.

Standard library only, but for the numbers of nodes in `levels`; building one touches no device.
"""

from rcodec_jax.config.files import load_config
from rcodec_jax.config.overrides import apply_overrides
from rcodec_jax.config.resuming import Change, changed_fields, check_fields, refused_changes
from rcodec_jax.config.serialization import flatten, from_dict, from_json, to_dict, to_json

__all__ = [
    "Change",
    "apply_overrides",
    "changed_fields",
    "check_fields",
    "flatten",
    "from_dict",
    "from_json",
    "load_config",
    "refused_changes",
    "to_dict",
    "to_json",
]
