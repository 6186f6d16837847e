"""What commands share that make a better bundle of a bundle and some pictures."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rcodec_jax.cli import arguments
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


def add_options(parser: argparse.ArgumentParser, *, to: str, always: bool = True) -> None:
    """The bundle, --out, --data, --seed and the usual options; `to` is what pictures are for, and
    whether they always are."""
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle folder to start from")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="bundle folder to write")
    parser.add_argument(
        "--data",
        required=always,
        nargs="+",
        metavar="SOURCE",
        help=f"pictures to {to}, as for 'train --data'",
    )
    arguments.add_seed_option(parser, "the random draws")
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)


def draw_crops(
    sources: Sequence[str], *, side: int, most: int, count: int, seed: int
) -> list[np.ndarray]:
    """Crops of at most `count` pictures, drawn from all sources alike.

    Args:
      sources: as of `rcodec train --data`.
      side: least side in pixels; smaller pictures are left out.
      most: greatest side; of larger pictures a crop of it anywhere is taken.
      count: of pictures.
      seed: of the draw.

    Returns:
      uint8 [H, W, 3] each.

    Raises:
      UsageError: a source of something else, or no picture that is large enough.
    """
    import numpy as np

    from rcodec_jax.data import open_source
    from rcodec_jax.data.sources.sources import PictureSource

    found = []
    rng = np.random.default_rng(seed)
    for name in sources:
        source = open_source(name, min_side=side)
        if not isinstance(source, PictureSource) or source.kind != "images":
            raise UsageError(f"{name}: expected pictures, got latents")
        share = min(source.picture_count, -(-count // len(sources)))
        for picture in rng.choice(source.picture_count, share, replace=False).tolist():
            pixels = source.picture(picture)
            if min(pixels.shape[:2]) >= side:
                top, left = (int(rng.integers(max(n - most, 0) + 1)) for n in pixels.shape[:2])
                found.append(pixels[top : top + most, left : left + most].copy())
    if not found:
        raise UsageError(f"expected pictures with sides of at least {side} pixels, got none")
    return found[:count]
