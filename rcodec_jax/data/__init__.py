"""Pictures in and out, sources and the training loader. Imports no other part of rcodec."""

from rcodec_jax.data.loading.loader import make_dataset
from rcodec_jax.data.pictures.images import Picture, read_image, write_image
from rcodec_jax.data.pictures.masks import read_mask
from rcodec_jax.data.sources.digest import listing_digest
from rcodec_jax.data.sources.latents import LatentSet
from rcodec_jax.data.sources.mixture import Mixture, Source, select
from rcodec_jax.data.sources.resolve import open_source
from rcodec_jax.data.sources.sources import ImageFolder

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
