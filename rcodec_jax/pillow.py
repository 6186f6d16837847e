"""Pillow opens and saves `.rdc` files once this module is imported.

    import rcodec_jax.pillow

    image = Image.open("photo.rdc")             # size at once, pixels when they are asked for
    image.save("back.png")
    photo.save("photo.rdc", bpp=0.2, importance=mask)

`save` takes what `Codec.encode` takes. The shipped model is loaded at the first use; `use` chooses
another, and how to decode.
"""

from __future__ import annotations

import functools
import io
import threading
from typing import IO, Any

from PIL import Image, ImageFile

import rcodec_jax.codec as codecs
from rcodec_jax.bitstream import MAGIC, MEDIA_TYPE, read_container
from rcodec_jax.data.pictures.kept import exif_of
from rcodec_jax.errors import RcodecError, UsageError

FORMAT = "RDC"
"""Pillow's name of the format."""

ENDING = ".rdc"

SAVE_OPTIONS = (
    "importance",
    "quality",
    "bpp",
    "size_bytes",
    "roi_strength",
    "effort",
    "tune",
    "resampling",
    "metadata",
)
"""Options of `Image.save` that count; Pillow hands out those of other formats, too."""

_lock = threading.Lock()
_decoding: dict[str, Any] = {}
_chosen: list[codecs.Codec] = []


def use(codec: codecs.Codec | None = None, **decoding: Any) -> None:
    """Chooses the model and how files are decoded from now on.

    Args:
      codec: what `rcodec_jax.load` gives; None for the shipped model.
      decoding: options of `Codec.decode`: steps, trajectory, realism, limits.
    """
    with _lock:
        _chosen[:] = [] if codec is None else [codec]
        _decoding.clear()
        _decoding.update(decoding)


@functools.cache
def _shipped() -> codecs.Codec:
    return codecs.load()


def _codec() -> tuple[codecs.Codec, dict[str, Any]]:
    """The model, and how it decodes."""
    with _lock:
        return _chosen[0] if _chosen else _shipped(), dict(_decoding)


class RdcImageFile(ImageFile.ImageFile):
    """An `.rdc` file as Pillow sees it: its size is known at once, its pixels are decoded late."""

    format = FORMAT
    format_description = "rcodec, a region-adaptive generative image codec"

    _data: bytes | None = None

    def _open(self) -> None:
        assert self.fp is not None  # of an image that is being opened
        data = self.fp.read()
        try:
            container = read_container(data)
        except RcodecError as error:
            raise OSError(f"RDC: {error}") from error
        self._data = data
        self._mode = "RGB"
        header = container.header
        self._size = (header.width_px, header.height_px)
        self.info["bpp"] = len(data) * 8 / (header.width_px * header.height_px)
        if container.metadata:
            self.info["exif"] = exif_of(container.metadata).tobytes()

    def load(self) -> Any:
        """Decodes, the first time it is called.

        Raises:
          OSError: a damaged file, or one of another model.
        """
        if self._data is not None:
            try:
                codec, options = _codec()
                pixels = codec.decode(self._data, **options)
            except UsageError:
                raise
            except RcodecError as error:
                raise OSError(f"RDC: {error}") from error
            self._data = None
            if self.fp is not None and getattr(self, "_exclusive_fp", False):
                self.fp.close()
            self.fp = io.BytesIO(pixels.tobytes())
            self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, "RGB")]
        return super().load()


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, stream: IO[bytes], filename: str | bytes) -> None:
    options = getattr(image, "encoderinfo", {})
    chosen = {name: options[name] for name in SAVE_OPTIONS if name in options}
    stream.write(_codec()[0].encode(image, **chosen))


Image.register_open(FORMAT, RdcImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ENDING)
Image.register_mime(FORMAT, MEDIA_TYPE)
