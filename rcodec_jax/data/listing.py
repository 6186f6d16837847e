"""Identity of a source: a digest of what it lists, without reading the pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from rcodec_jax.data.latents import LatentSet
from rcodec_jax.data.manifest import INFO
from rcodec_jax.data.mixture import Source
from rcodec_jax.data.records import ArrayRecordImages, PackedImages, TfdsImages
from rcodec_jax.data.sources import ImageFolder


def listing_digest(sources: Iterable[Source]) -> str:
    """SHA-256 of what sources list, in their order; the same wherever the data lie.

    Of a folder of pictures: relative paths, sizes in pixels and bytes; of a packed set or cached
    latents, the digest in its manifest, which covers every byte; of a data set of TFDS, its own
    description; of other ArrayRecord files, names, sizes and number of records.
    """
    digest = hashlib.sha256()
    for source in sources:
        part = hashlib.sha256("\n".join(_lines(source)).encode()).hexdigest()
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()


def _lines(source: Source) -> list[str]:
    if isinstance(source, ImageFolder):
        rows = zip(source.paths, source.sizes_px, strict=True)
        return [
            f"{path.relative_to(source.root).as_posix()} {height}x{width} {path.stat().st_size}"
            for path, (height, width) in rows
        ]
    if isinstance(source, PackedImages | LatentSet):
        return [source.manifest.digest, str(len(source))]
    if isinstance(source, TfdsImages):
        return [(source.folder / INFO).read_text(encoding="utf-8"), source.split]
    if isinstance(source, ArrayRecordImages):
        sizes = [f"{path.name} {path.stat().st_size}" for path in source.files]
        return [*sizes, str(len(source))]
    return [repr(source)]
