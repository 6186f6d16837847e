"""What a file says of its picture: when it was taken, and whose it is (FORMAT.md, section 1.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rcodec_jax.errors import BitstreamError, UsageError

KEYS = ("date", "copyright", "artist")
"""What is written: the date taken (ISO 8601, to the second, with an offset where that is known),
the copyright notice, and who took the picture. Files may have other keys, too."""

MAX_BYTES = 1024

_KEY = re.compile(r"[a-z]{1,16}")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([+-]\d\d:\d\d)?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def encode_metadata(metadata: Mapping[str, str]) -> bytes:
    """Metadata as the bytes of a file; none for none.

    Raises:
      UsageError: another key than `KEYS`, a value that is empty or has control characters, a date
        of another form, or more than `MAX_BYTES` in all.
    """
    for key, value in metadata.items():
        if key not in KEYS:
            raise UsageError(f"metadata: expected keys out of {', '.join(KEYS)}, got {key!r}")
        if not isinstance(value, str) or not value or _CONTROL.search(value):
            raise UsageError(f"metadata: expected a line of text for {key}, got {value!r}")
        if key == "date" and not _is_date(value):
            raise UsageError(
                f"metadata: expected a date such as 2026-11-29T12:30:00+01:00, got {value!r}"
            )
    text = "\n".join(f"{key}={metadata[key]}" for key in KEYS if key in metadata)
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"metadata: expected text, got {error.object!r}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"metadata: expected at most {MAX_BYTES} bytes, got {len(data)}")
    return data


def decode_metadata(data: bytes, offset: int) -> dict[str, str]:
    """Metadata of the bytes of a file.

    Args:
      data: the section, at least one byte.
      offset: where in the file it begins.

    Raises:
      BitstreamError: not lines of KEY=VALUE in UTF-8, a key twice, or a date of another form.
    """
    try:
        lines = [line.partition("=") for line in data.decode().split("\n")]
    except UnicodeDecodeError as error:
        raise BitstreamError("metadata: not UTF-8", offset=offset + error.start) from error
    metadata = {key: value for key, _, value in lines}
    sound = (_KEY.fullmatch(k) and v and not _CONTROL.search(v) for k, v in metadata.items())
    if not all(sound) or len(metadata) < len(lines) or not _is_date(metadata.get("date")):
        raise BitstreamError(
            "metadata: not lines of KEY=VALUE, each key once, with a date as it should be",
            offset=offset,
        )
    return metadata


def _is_date(value: str | None) -> bool:
    return value is None or _DATE.fullmatch(value) is not None
