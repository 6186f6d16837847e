"""Reading pictures of every common kind into sRGB uint8.

Pillow decodes; this module decides what the pixels mean: orientation applied, colour profile
converted to sRGB, more bits reduced to 8, transparent pixels laid on a background. Whatever loses
something is said in a note.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from rcodec_jax.data.pictures import formats, kept, plugins, png, repair
from rcodec_jax.data.pictures.colour import WHITE, Colour, checked_colour, to_srgb
from rcodec_jax.data.pictures.declared import declared
from rcodec_jax.data.pictures.formats import DECODER_ERRORS
from rcodec_jax.data.pictures.samples import read_samples
from rcodec_jax.errors import UsageError
from rcodec_jax.limits import Limits

MAX_PIXELS, MAX_SIDE = Limits.max_pixels, Limits.max_side

_WAY_OUT = " ('rcodec encode --allow-truncated' reads the intact part)"
_TRANSPARENCY = "tRNS"

Read = TypeVar("Read")

ImageInput = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


class _PillowLimit:
    """Pillow's own limit of pixels, a global of its module, lifted while any thread reads.

    The limits of this module are checked before any pixel is decoded.
    """

    def __init__(self) -> None:
        self._lock, self._readers = threading.Lock(), 0
        self._limit: int | None = None

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        with self._lock:
            self._readers += 1
            if self._readers == 1:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    Image.MAX_IMAGE_PIXELS = self._limit


_PILLOW_LIMIT = _PillowLimit()


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
      pixels: uint8 [H, W, 3], sRGB, upright.
      notes: sentences for the user on what was changed or lost while reading.
      metadata: date taken, copyright and artist, see `kept`.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


class Decoded(NamedTuple):
    """A decoded picture and what a plainer program would see.

    Attributes:
      picture: the picture.
      image: Pillow's, loaded.
      is_plain: whether any decoder reads the file, with 8 bits a channel as they are.
    """

    picture: Picture
    image: Image.Image
    is_plain: bool


def read_image(
    source: ImageInput,
    *,
    max_pixels: int = MAX_PIXELS,
    max_side: int = MAX_SIDE,
    background: Colour = WHITE,
    allow_truncated: bool = False,
) -> Picture:
    """Reads one picture from a path, bytes or a binary file.

    Args:
      source: path, encoded bytes, or an open binary file (need not be seekable).
      max_pixels: largest width times height, checked before decoding.
      max_side: largest width or height.
      background: sRGB colour that shows where the picture is transparent.
      allow_truncated: read what is there of a cut or damaged JPEG, PNG, BMP or PPM, with a note.

    Raises:
      UsageError: missing, unreadable, not an image, damaged, or above the limits; or no colour.
    """
    background = checked_colour(background)
    picture, notes = _mended(
        _File.of(source),
        lambda file: _decode(file, max_pixels, max_side, background).picture,
        allow_truncated=allow_truncated,
    )
    return replace(picture, notes=(*notes, *picture.notes))


def decode_image(data: bytes) -> Decoded:
    """`read_image` of encoded bytes with default limits, and what it saw on the way.

    Raises:
      UsageError: as `read_image`.
    """
    try:
        return _decode(_File("image", data=data), MAX_PIXELS, MAX_SIDE, WHITE)
    except _DamageError as error:
        raise UsageError(error.with_way_out()) from error.__cause__


def open_image(
    source: ImageInput, *, max_pixels: int = MAX_PIXELS, max_side: int = MAX_SIDE
) -> tuple[Image.Image, str]:
    """Opens a picture without decoding it, and checks its size.

    Returns:
      The lazy Pillow image and a name for messages.

    Raises:
      UsageError: missing, unreadable, not an image, or above the limits.
    """
    file = _File.of(source)
    return _open(_examined(file, header_only=True)[0], max_pixels, max_side), file.name


def load_image(
    source: ImageInput, *, allow_truncated: bool = False
) -> tuple[Image.Image, str, tuple[str, ...]]:
    """Opens a picture and decodes it, in the mode that it is stored in.

    Args:
      source: path, encoded bytes, or an open binary file.
      allow_truncated: as in `read_image`.

    Returns:
      The Pillow image, a name for messages, and what could not be read.

    Raises:
      UsageError: as `read_image`.
    """

    def read(file: _File) -> tuple[Image.Image, list[str]]:
        sound, chunks = _examined(file)
        damaged = () if chunks is None else chunks.damaged
        if not allow_truncated and any(chunk.name == _TRANSPARENCY for chunk in damaged):
            raise UsageError(
                f"{file.name}: damaged PNG: wrong checksum of {_TRANSPARENCY}{_WAY_OUT}"
            )
        image = _open(sound, MAX_PIXELS, MAX_SIDE)
        try:
            if chunks is not None and chunks.fault:
                raise _DamageError(file.name, image, chunks.fault)
            with _PILLOW_LIMIT.lifted():
                image.load()
        except UsageError:
            image.close()
            raise
        except DECODER_ERRORS as error:
            image.close()
            raise _DamageError(file.name, image, error) from error
        return image, _left_out(chunks)

    file = _File.of(source)
    (image, left_out), notes = _mended(file, read, allow_truncated=allow_truncated)
    return image, file.name, (*notes, *left_out)


class _DamageError(UsageError):
    """A picture whose size is known and whose pixels cannot all be had."""

    def __init__(self, name: str, image: Image.Image, reason: object) -> None:
        self.why = f"damaged {image.format or 'image'}: {reason}"
        super().__init__(f"{name}: {self.why}")
        self.format = image.format or ""
        self.size = image.size

    def with_way_out(self) -> str:
        if self.format not in repair.FORMATS:
            return str(self)
        return str(self) + _WAY_OUT


def _mended(
    file: _File, read: Callable[[_File], Read], *, allow_truncated: bool
) -> tuple[Read, tuple[str, ...]]:
    """What `read` makes of a file, or of as much as there is of a damaged one, and a note of it."""
    try:
        return read(file), ()
    except _DamageError as error:
        if not allow_truncated:
            raise UsageError(error.with_way_out()) from error.__cause__
        data = repair.mended(error.format, file.read(), error.size)
        if data is None:
            raise UsageError(str(error)) from error.__cause__
        try:
            found = read(_File(file.name, data=data))
        except _DamageError:
            raise UsageError(str(error)) from error.__cause__
        return found, (f"{error.why}; the unreadable part is grey or black",)


@dataclass(frozen=True)
class _File:
    """Where a picture is, so that it can be read more than once.

    Attributes:
      name: for messages.
      path: of a file, or
      data: its bytes.
    """

    name: str
    path: str | None = None
    data: bytes | None = None

    @staticmethod
    def of(source: ImageInput) -> _File:
        if isinstance(source, bytes | bytearray | memoryview):
            return _File("image", data=bytes(source))
        if isinstance(source, str | os.PathLike):
            path = os.fspath(source)
            # What can be read once only, such as a named pipe.
            once = os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))
            file = _File(path, path=path)
            return _File(path, data=file.read()) if once else file
        name = str(getattr(source, "name", "image"))
        try:
            data = source.read()
        except AttributeError:
            got = type(source).__name__
            raise UsageError(f"expected a path, bytes or a binary file, got {got}") from None
        except (OSError, ValueError) as error:  # a closed file gives the latter
            raise UsageError(f"{name}: cannot be read: {error}") from error
        if not isinstance(data, bytes):
            raise UsageError(f"{name}: expected a file opened as binary, got text")
        return _File(name, data=data)

    def open(self) -> BinaryIO:
        if self.path is None:
            return io.BytesIO(self.data or b"")
        try:
            return open(self.path, "rb")
        except FileNotFoundError as error:
            raise UsageError(f"{self.name}: no such file") from error
        except IsADirectoryError as error:
            raise UsageError(f"{self.name}: expected an image file, got a folder") from error
        except PermissionError as error:
            raise UsageError(f"{self.name}: permission denied") from error
        except DECODER_ERRORS as error:
            raise UsageError(f"{self.name}: cannot be read: {error}") from error

    def read(self) -> bytes:
        with self.open() as stream:
            try:
                return stream.read()
            except OSError as error:
                raise UsageError(f"{self.name}: cannot be read: {error}") from error


def _decode(file: _File, max_pixels: int, max_side: int, background: Colour) -> Decoded:
    file, chunks = _examined(file)
    notes = _left_out(chunks)

    def again() -> Image.Image:
        return _open(file, max_pixels, max_side)

    image = again()
    with image:
        if chunks is not None and chunks.fault:
            raise _DamageError(file.name, image, chunks.fault)
        try:
            facts = declared(image, chunks, file.read)
            notes += facts.notes
            with _PILLOW_LIMIT.lifted():
                samples = read_samples(image, again, notes, bits=facts.bits)
            is_plain = samples.colour.dtype == np.uint8 and not (chunks and chunks.damaged)
            pixels = to_srgb(image, samples, facts, notes, background)
        except UsageError as error:
            raise UsageError(f"{file.name}: {error}") from None
        except MemoryError as error:
            size = f"{image.size[0]}x{image.size[1]}"
            raise UsageError(f"{file.name}: not enough memory for {size} pixels") from error
        except DECODER_ERRORS as error:
            raise _DamageError(file.name, image, error) from error
    return Decoded(Picture(pixels, tuple(notes), kept.metadata_of(image)), image, is_plain)


def _left_out(chunks: png.Png | None) -> list[str]:
    """A note on damaged chunks of a PNG, if there are any."""
    if chunks is None or not chunks.damaged:
        return []
    names = ", ".join(sorted({chunk.name for chunk in chunks.damaged}))
    return [f"damaged chunks of the PNG were left out: {names}"]


def _examined(file: _File, *, header_only: bool = False) -> tuple[_File, png.Png | None]:
    """The file without what would keep Pillow from reading it, and the chunks of a PNG.

    Raises:
      UsageError: missing, unreadable, or of a kind that is not read, which is named.
    """
    chunks = None
    with file.open() as stream:
        try:
            head = stream.read(formats.HEAD_BYTES)
            if head.startswith(png.SIGNATURE):
                chunks = png.walk(stream, header_only=header_only)
        except OSError as error:
            raise UsageError(f"{file.name}: cannot be read: {error}") from error
    if not head:
        raise UsageError(f"{file.name}: expected a picture, got an empty file")
    refused = formats.refused(head)
    if refused is not None:
        raise UsageError(f"{file.name}: {refused}")
    if chunks is not None and chunks.damaged:
        file = _File(file.name, data=png.without_damage(file.read(), chunks))
    return file, chunks


def _open(file: _File, max_pixels: int, max_side: int) -> Image.Image:
    """The lazy Pillow image, within the limits."""
    # A path goes to Pillow as it is, which then closes what it opened.
    stream = file.path if file.path is not None else io.BytesIO(file.data or b"")
    try:
        with _PILLOW_LIMIT.lifted():
            image = Image.open(stream, formats=(*formats.READ, *plugins.registered()))
    except DECODER_ERRORS as error:
        with file.open() as again:
            kind = formats.known(again.read(formats.HEAD_BYTES))
        if kind is not None:
            raise UsageError(
                f"{file.name}: damaged {kind}, or one of a rare kind that is not read; save it "
                "again with another program"
            ) from error
        raise UsageError(
            f"{file.name}: not an image that can be read (expected PNG, JPEG, WebP, AVIF, TIFF, "
            "BMP, GIF, PPM, JPEG 2000 or QOI)"
        ) from error
    width, height = image.size
    refused = formats.refused_tiff(image)
    if width < 1 or height < 1 or max(width, height) > max_side or width * height > max_pixels:
        refused = (
            f"expected an image of 1 to {max_pixels} pixels and sides up to {max_side}, "
            f"got {width}x{height}"
        )
    if refused is not None:
        image.close()
        raise UsageError(f"{file.name}: {refused}")
    return image
