"""The mark of decoded pictures: part of what they show was made up by a model."""

from __future__ import annotations

from typing import Any

from PIL.PngImagePlugin import PngInfo

from rcodec_jax import __version__

COMMENT = "decoded by rcodec; partly generated"
"""For people: a PNG's or JPEG's comment, a TIFF's description."""

SOURCE_TYPE = "compositeWithTrainedAlgorithmicMedia"
"""For programs: IPTC's digital source type of a picture that a trained model had a part in."""

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'xmp:CreatorTool="rcodec {__version__}" Iptc4xmpExt:DigitalSourceType='
    f'"http://cv.iptc.org/newscodes/digitalsourcetype/{SOURCE_TYPE}"/>'
    "</rdf:RDF></x:xmpmeta>"
).encode("ascii")

_TIFF_DESCRIPTION, _TIFF_XMP = 270, 700


def save_options(format: str) -> dict[str, Any]:
    """Options of Pillow's `save` that write the mark; none for a format without metadata.

    Args:
      format: as Pillow calls it.
    """
    if format == "PNG":
        text = PngInfo()
        text.add_text("Comment", COMMENT)
        text.add_itxt("XML:com.adobe.xmp", XMP.decode("ascii"))
        return {"pnginfo": text}
    if format == "JPEG":
        return {"comment": COMMENT, "xmp": XMP}
    if format in ("WEBP", "AVIF"):
        return {"xmp": XMP}
    if format == "TIFF":
        return {"tiffinfo": {_TIFF_DESCRIPTION: COMMENT, _TIFF_XMP: XMP}}
    return {}
