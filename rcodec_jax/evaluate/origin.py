"""Where figures come from: which model made them, and what they were measured with."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Mapping
from typing import Any

import jax

from rcodec_jax.versions import installed_versions

_PACKAGES = (
    "jax",
    "jaxlib",
    "numpy",
    "scipy",
    "pillow",
    "pillow-jxl-plugin",
    "imageio-ffmpeg",
    "scikit-image",
)


def model_words(card: Mapping[str, Any]) -> str:
    """A model in a few words, "tiny, 17981 steps, 418330e3/d8f6ba31".

    Args:
      card: of a codec; name, steps, and digests of the integers and of the networks are told, those
        that are there.
    """
    digests = [str(card.get(key, ""))[:8] for key in ("integer_digest", "float_digest")]
    steps = card.get("steps")
    facts = (
        str(card.get("name", "")),
        "" if steps is None else f"{steps} steps",
        "/".join(digest for digest in digests if digest),
    )
    return ", ".join(part for part in facts if part)


def circumstances() -> dict[str, Any]:
    """What a report says besides its figures, as JSON values.

    Returns:
      command (the words of this process), date (UTC), versions by package, machine in words.
    """
    versions = {"python": platform.python_version(), **installed_versions(_PACKAGES)}
    devices = jax.devices()
    return {
        "command": list(sys.argv),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "machine": f"{os.cpu_count()} CPU cores ({platform.system()} {platform.machine()}), "
        f"{len(devices)} {devices[0].device_kind}",
    }
