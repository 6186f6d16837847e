"""Which kinds of files are read, and the names of those that are not."""

from __future__ import annotations

import re
import struct

from PIL import Image

from rcodec_jax.data.pictures import plugins

READ = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "QOI")
"""What Pillow is asked to try besides `plugins`. None starts another program, as EPS would."""

HEAD_BYTES = 1024
"""How much of a file tells its kind."""

DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    AssertionError,
    struct.error,
)
"""What Pillow's decoders raise on damaged files."""

_RAW = ("a camera's raw file", "develop it to a TIFF or JPEG first, with darktable or RawTherapee")
_PRINT = ("draw it as a PNG first, at the size that you want", "")
_VIDEO = ("a video", "take a picture out of it first: ffmpeg -i FILE -frames:v 1 picture.png")
_HEIC = ("HEIC", "convert it to PNG or JPEG first, with heif-convert or the phone's own export")
_EPS = ("EPS or PostScript", _PRINT[0] + ": gs -sDEVICE=png16m -r150 -o picture.png FILE")
_JXL = ("JPEG XL", "convert it to PNG first: djxl FILE picture.png")
_HDR = "its light has no upper end: tone-map it to an 8 or 16-bit picture first"

_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\x0a", *_JXL),
    (b"\0\0\0\x0cJXL \r\n\x87\n", *_JXL),
    (b"v/1\x01", "OpenEXR", _HDR),
    (b"#?RADIANCE", "Radiance HDR", _HDR),
    (b"#?RGBE", "Radiance HDR", _HDR),
    (b"8BPS", "a Photoshop file (PSD)", "export it as PNG or TIFF first"),
    (b"gimp xcf", "a GIMP file (XCF)", "export it as PNG or TIFF first"),
    (b"%PDF-", "PDF", _PRINT[0] + ": pdftoppm -png FILE picture"),
    (b"%!PS", *_EPS),
    (b"\xc5\xd0\xd3\xc6", *_EPS),
    (b"FUJIFILMCCD-RAW", *_RAW),
    (b"IIRO", *_RAW),
    (b"IIRS", *_RAW),
    (b"MMOR", *_RAW),
    (b"IIU\0", *_RAW),
    (b"FOVb", *_RAW),
    (b"II\xbc\x01", "JPEG XR", "convert it to PNG first"),
    (b"BPG\xfb", "BPG", "convert it to PNG first: bpgdec -o picture.png FILE"),
    (b"DDS ", "a texture (DDS)", "convert it to PNG first"),
    (b"\0\0\x01\0", "an icon (ICO)", "convert it to PNG first"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile", _PRINT[0]),
    (b"SIMPLE  =", "FITS", "scale it to a 16-bit TIFF or PNG first"),
    (b"\x89HDF\r\n", "HDF5", "write the picture in it as PNG or TIFF first"),
    (b"\x93NUMPY", "a NumPy array", "encode it from Python: rcodec_jax.load().encode(array)"),
    (b"\x1f\x8b", "a compressed file (gzip)", "unpack it first"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it first"),
    (b"\x1aE\xdf\xa3", *_VIDEO),
    (b"rdc", "a file of rcodec", "decode it first: rcodec decode FILE picture.png"),
    (b"version https://git-lfs", "a pointer of Git LFS", "get the picture itself: git lfs pull"),
)

_READ_STARTS = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"qoif", "QOI"),
)

_BRANDS: dict[bytes, tuple[str, str]] = {
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), _HEIC
    ),
    b"crx ": _RAW,
    **dict.fromkeys((b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"M4V ", b"avc1"), _VIDEO),
}
"""By the brand of an ISO base media file."""

_DNG_VERSION, _SUBFILE, _SUB_IFDS = 50706, 254, 330


def refused(head: bytes) -> str | None:
    """Name and remedy of a kind that is not read, None for any other.

    Args:
      head: the first HEAD_BYTES of the file.
    """
    for start, name, remedy in _STARTS:
        if head.startswith(start):
            return _unless_installed(name, remedy)
    if head[4:8] == b"ftyp":
        size = min(int.from_bytes(head[:4], "big"), len(head))
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
        if not {b"avif", b"avis"} & set(brands) and brands[0] in _BRANDS:
            return _unless_installed(*_BRANDS[brands[0]])
    if head[:4] in (b"II*\0", b"MM\0*") and head[8:10] == b"CR":
        return f"{_RAW[0]} is not read; {_RAW[1]}"
    if head[128:132] == b"DICM":
        return "DICOM is not read; export it as a 16-bit PNG or TIFF first"
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"(?i)(<!doctype html|<html)", head):
        return "a web page (HTML) is not read; download the picture itself"
    if re.match(rb"(<\?xml|<!--|<!DOCTYPE svg|<svg)", head) and b"<svg" in head:
        return f"SVG is not read; {_PRINT[0]}: rsvg-convert -o picture.png FILE"
    return None


def _unless_installed(name: str, remedy: str) -> str | None:
    if plugins.is_read(name):
        return None
    package = plugins.package(name)
    return f"{name} is not read; " + (f"install {package}, or " if package else "") + remedy


def known(head: bytes) -> str | None:
    """Which of the formats that are read a file looks like, by its first bytes."""
    for start, name in _READ_STARTS:
        if head.startswith(start):
            return name
    if head[4:8] == b"ftyp" and _BRANDS.get(head[8:12]) is _HEIC:
        return "HEIC"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    return "WebP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def refused_tiff(image: Image.Image) -> str | None:
    """The same for files that are TIFF by form: raw files, whose first picture is a preview."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return None
    preview = tags.get(_SUBFILE) == 1 and _SUB_IFDS in tags
    return f"{_RAW[0]} is not read; {_RAW[1]}" if preview or _DNG_VERSION in tags else None
