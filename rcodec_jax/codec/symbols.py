"""Files to symbols without any float network: needs neither JAX nor a library of pictures.

What this module reads is what the promise of exactness is about.
"""

from __future__ import annotations

import os

from rcodec_jax.bitstream import Container, Header, read_container
from rcodec_jax.entropy import (
    IntegerPart,
    Limits,
    Symbols,
    ToneMap,
    decode_level_map,
    decode_symbols,
    decode_tone,
)
from rcodec_jax.errors import BitstreamError, DigestError
from rcodec_jax.model.bundle import find_stored_integers, load_integers, stored_integers
from rcodec_jax.regions.levelmap import LevelMap


def read_symbols(
    data: bytes, part: IntegerPart, *, limits: Limits | None = None
) -> tuple[Container, LevelMap, Symbols]:
    """Everything a file says, exactly.

    Args:
      data: the whole file.
      part: integer part of the model it was made with.
      limits: what to refuse before anything is allocated.

    Returns:
      The container, its level map and its symbols.

    Raises:
      BitstreamError: not a file, a damaged one, one beyond the limits or of another model.
    """
    container = read_file(data, limits=limits)
    return container, *symbols_of(container, part, limits=limits)


def read_file(data: bytes, *, limits: Limits | None = None) -> Container:
    """The container of a file; limits and errors as for `read_symbols`."""
    return read_container(data, limits=limits)


def symbols_of(
    container: Container, part: IntegerPart, *, limits: Limits | None = None
) -> tuple[LevelMap, Symbols]:
    """Level map and symbols of a file that is open already; otherwise as `read_symbols`."""
    header = container.header
    _require_model(header, part.digest)
    levels = read_levels(container, limits=limits)
    try:
        symbols = decode_symbols(
            part,
            container.payload,
            header.height_cells,
            header.width_cells,
            levels,
            limits=limits,
        )
    except BitstreamError as error:
        raise error.in_section(container.payload_offset) from error
    return levels, symbols


def read_levels(container: Container, *, limits: Limits | None = None) -> LevelMap:
    """The level map of a file.

    Raises:
      BitstreamError: a damaged map.
    """
    header: Header = container.header
    try:
        level_map = decode_level_map(
            container.level_map,
            header.height_cells,
            header.width_cells,
            header.level_count,
            limits=limits,
        )
    except BitstreamError as error:
        raise error.in_section(container.level_map_offset) from error
    return LevelMap(level_map, header.n_lo, header.n_hi, header.level_count)


def read_tone(container: Container) -> ToneMap | None:
    """The tone map of a file, None if it has none.

    Raises:
      BitstreamError: a damaged map.
    """
    if not container.tone:
        return None
    try:
        return decode_tone(container.tone, *container.header.coded_size)
    except BitstreamError as error:
        raise error.in_section(container.tone_offset) from error


def find_integer_part(
    header: Header,
    model: str | os.PathLike[str] | None = None,
    *,
    store: str | os.PathLike[str] | None = None,
) -> IntegerPart:
    """The integer part that a file needs.

    Args:
      header: of the file.
      model: a bundle folder to look at first; None for none.
      store: folder of integer parts by digest to look through then; None for the one that ships
        with the package, which has those of all released models.

    Raises:
      DigestError: a file of a model that is not here (names it).
      BundleError: the given folder is not a bundle, or a part is damaged.
    """
    given = None if model is None else load_integers(model)
    if given is not None and given.digest == header.integer_digest:
        return given
    kept = find_stored_integers(header.integer_digest, store)
    if kept is not None:
        return kept
    if given is not None:
        header.require_model(given.digest)
    raise DigestError(
        f"the file needs the model {header.integer_digest.hex()}, which does not ship with this "
        "release; name its bundle with --model"
    )


def _require_model(header: Header, digest: bytes) -> None:
    """`Header.require_model`, saying too whether the symbols at least are within reach."""
    try:
        header.require_model(digest)
    except DigestError as error:
        if not stored_integers(header.integer_digest).is_file():
            raise
        raise DigestError(
            f"{error}; its integer part is kept, so 'rcodec info' reads its symbols, but a picture "
            f"needs the bundle with networks {header.float_digest.hex()}"
        ) from None
