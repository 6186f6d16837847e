"""Other codecs on the same pictures, every byte of the file counted. Each is optional."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rcodec_jax.evaluate.coders import Coder, present
from rcodec_jax.evaluate.peers import pillow, stills

PEERS: dict[str, Callable[[], Coder]] = {
    "jpeg": pillow.jpeg,
    "webp": pillow.webp,
    "avif": pillow.avif,
    "jxl": pillow.jxl,
    "jpeg2000": pillow.jpeg2000,
    "hevc": stills.hevc,
    "av1": stills.av1,
}


def make_peers(names: Sequence[str]) -> tuple[list[Coder], list[str]]:
    """Peers by name with their default sweeps, and a line for each that is missing here.

    Raises UsageError for an unknown name.
    """
    return present(names, PEERS, lambda make: make(), "peers")
