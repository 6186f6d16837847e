"""Other codecs on the same pictures, every byte of the file counted. Each is optional."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import Coder, MissingPeerError
from rcodec_jax.evaluate.peers import hevc, pillow

PEERS: dict[str, Callable[[], Coder]] = {
    "jpeg": pillow.jpeg,
    "webp": pillow.webp,
    "avif": pillow.avif,
    "jxl": pillow.jxl,
    "jpeg2000": pillow.jpeg2000,
    "hevc": hevc.HevcCoder,
}


def make_peers(names: Sequence[str]) -> tuple[list[Coder], list[str]]:
    """Peers by name with their default sweeps, and a line for each that is missing here.

    Raises UsageError for an unknown name.
    """
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise UsageError(f"peers are {', '.join(PEERS)}, got {', '.join(unknown)}")
    made, missing = [], []
    for name in names:
        try:
            made.append(PEERS[name]())
        except MissingPeerError as error:
            missing.append(f"peer {name} left out: {error}")
    return made, missing
