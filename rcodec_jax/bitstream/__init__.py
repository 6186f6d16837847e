"""The file as bytes: header, sections, checksums. FORMAT.md here is the specification."""

from rcodec_jax.bitstream.container import (
    FORMAT_VERSION,
    MAGIC,
    MEDIA_TYPE,
    Container,
    Header,
    read_container,
    write_container,
)
from rcodec_jax.bitstream.crc import crc32c

__all__ = [
    "FORMAT_VERSION",
    "MAGIC",
    "MEDIA_TYPE",
    "Container",
    "Header",
    "crc32c",
    "read_container",
    "write_container",
]
