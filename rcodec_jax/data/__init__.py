"""Pictures in and out, sources and the training loader. Imports no other part of rcodec."""

from rcodec_jax.data.images import Picture, read_image, write_image
from rcodec_jax.data.latents import LatentSet
from rcodec_jax.data.listing import listing_digest
from rcodec_jax.data.loader import make_dataset
from rcodec_jax.data.masks import read_mask
from rcodec_jax.data.mixture import Mixture, Source, select
from rcodec_jax.data.opening import open_source
from rcodec_jax.data.sources import ImageFolder

__all__ = [
    "ImageFolder",
    "LatentSet",
    "Mixture",
    "Picture",
    "Source",
    "listing_digest",
    "make_dataset",
    "open_source",
    "read_image",
    "read_mask",
    "select",
    "write_image",
]
