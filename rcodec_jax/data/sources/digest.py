"""Identity of a run's data: a digest of what its sources list, without reading the pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from rcodec_jax.data.sources.mixture import Source


def listing_digest(sources: Iterable[Source]) -> str:
    """SHA-256 of the sources' own digests and counts, in order; the same wherever the data lie."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.digest} {source.picture_count}\n".encode())
    return digest.hexdigest()
