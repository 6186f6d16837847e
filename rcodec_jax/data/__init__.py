"""Pictures in and out, sources and the training loader. Imports no other part of rcodec."""

from rcodec_jax.data.files import atomic_write
from rcodec_jax.data.images import Picture, read_image, read_mask, write_image
from rcodec_jax.data.loader import image_batches, make_dataset
from rcodec_jax.data.sources import ImageFolder

__all__ = [
    "ImageFolder",
    "Picture",
    "atomic_write",
    "image_batches",
    "make_dataset",
    "read_image",
    "read_mask",
    "write_image",
]
