"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform

import jax


def machine() -> str:
    """One line on what the figures were measured on."""
    devices = jax.devices()
    return (
        f"{os.cpu_count()} CPU cores ({platform.machine()}), JAX {jax.__version__} on "
        f"{len(devices)} {devices[0].device_kind}, Python {platform.python_version()}"
    )
