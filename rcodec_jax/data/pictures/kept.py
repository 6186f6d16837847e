"""Metadata that a coded file may keep: date taken, copyright and artist, as EXIF has them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image

from rcodec_jax.data.pictures.formats import DECODER_ERRORS

_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)", re.ASCII)
_OFFSET = re.compile(r"[+-]\d\d:\d\d", re.ASCII)
_MOST_BYTES = 450  # of a text: all of them fit into a file
_TEXTS = {"copyright": ExifTags.Base.Copyright, "artist": ExifTags.Base.Artist}


def metadata_of(image: Image.Image) -> dict[str, str]:
    """What EXIF says of a picture, by the keys of `bitstream.metadata`; unreadable: nothing."""
    try:
        exif = image.getexif()
        taken = exif.get_ifd(ExifTags.IFD.Exif)
    except DECODER_ERRORS:
        return {}
    found = {}
    date = _iso(_text(taken.get(ExifTags.Base.DateTimeOriginal)))
    if date:
        offset = _text(taken.get(ExifTags.Base.OffsetTimeOriginal))
        found["date"] = date + (offset if _OFFSET.fullmatch(offset) else "")
    texts = {key: _text(exif.get(tag)) for key, tag in _TEXTS.items()}
    return found | {key: text for key, text in texts.items() if text}


def tiff_tags(metadata: Mapping[str, str]) -> dict[int, Any]:
    """`exif_of` as tags of a TIFF, which Pillow wants one by one."""
    exif = exif_of(metadata)
    taken = dict(exif.get_ifd(ExifTags.IFD.Exif))
    return dict(exif) | ({ExifTags.IFD.Exif: taken} if taken else {})


def exif_of(metadata: Mapping[str, str]) -> Image.Exif:
    """Metadata as EXIF, text in UTF-8; a date is that of taking the picture."""
    exif = Image.Exif()
    for key, tag in _TEXTS.items():
        if key in metadata:
            exif[tag] = metadata[key].encode()
    if "date" in metadata:
        date, offset = metadata["date"][:19], metadata["date"][19:]
        taken: dict[int, str] = {
            ExifTags.Base.DateTimeOriginal: date.replace("-", ":").replace("T", " ")
        }
        if offset:
            taken[ExifTags.Base.OffsetTimeOriginal] = offset
        exif.get_ifd(ExifTags.IFD.Exif).update(taken)
    return exif


def _iso(text: str) -> str:
    """EXIF's date as ISO 8601, "" where no calendar has it: cameras write 0000:00:00 and worse."""
    date = _DATE.fullmatch(text)
    if date is None:
        return ""
    iso = "-".join(date.groups()[:3]) + "T" + date[4]
    try:
        datetime.datetime.fromisoformat(iso)
    except ValueError:
        return ""
    return iso


def _text(value: Any) -> str:
    """A line of text of an EXIF value, which Pillow reads as Latin-1 and cameras write as UTF-8."""
    if isinstance(value, str):
        value = value.encode("latin-1", "replace")
    if not isinstance(value, bytes):
        return ""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    text = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    return text.encode()[:_MOST_BYTES].decode(errors="ignore").strip()
