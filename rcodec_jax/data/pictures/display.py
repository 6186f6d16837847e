"""Colours that a file declares by code points, gamma or primaries: as displayed light to sRGB.

Code points are those of ITU-T H.273. Light is what a display shows: of BT.709 and its kin that is
the display of BT.1886, a power of 2.4. PQ and HLG (BT.2100) are tone-mapped by the EETF of
BT.2390, which keeps what is dark and rolls off what a display of 203 cd/m2 (the reference white of
BT.2408) cannot show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of red, green, blue and white (CIE 1931)."""

_D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)
SRGB: Chromaticities = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65)

PRIMARIES: dict[int, tuple[str, Chromaticities]] = {
    1: ("BT.709", SRGB),
    4: ("BT.470 M", (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *_C)),
    5: ("BT.470 BG", (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65)),
    6: ("BT.601", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65)),
    7: ("SMPTE 240M", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65)),
    8: ("film", (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *_C)),
    9: ("BT.2020", (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65)),
    10: ("XYZ", (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1 / 3, 1 / 3)),
    11: ("DCI-P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351)),
    12: ("Display P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65)),
    22: ("EBU 3213", (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65)),
}

WHITE_NITS = 203.0
"""Reference white of BT.2408: what becomes white in sRGB."""

HDR_PEAK_NITS = 1000.0
"""Peak of a picture that declares none; HLG is defined for such a display."""

_STRIP_PIXELS = 2**20


class Transfer(NamedTuple):
    """How samples become light.

    Attributes:
      name: for notes.
      light: samples 0..1 to light, 1 for white; of PQ and HLG to cd/m2.
      peak: cd/m2 of the brightest sample where light is absolute, None where it is relative.
    """

    name: str
    light: Callable[[np.ndarray], np.ndarray]
    peak: float | None = None


class Space(NamedTuple):
    """What samples mean.

    Attributes:
      primaries: name and chromaticities.
      transfer: how samples become light.
      narrow: whether black and white are at 16 and 235 of 255.
    """

    primaries: tuple[str, Chromaticities]
    transfer: Transfer
    narrow: bool = False

    @property
    def is_srgb(self) -> bool:
        """Whether samples are those of sRGB but for rounding."""
        off = max(abs(a - b) for a, b in zip(self.primaries[1], SRGB, strict=True))
        return off < 0.002 and self.transfer is SRGB_TRANSFER and not self.narrow

    @property
    def note(self) -> str:
        """What the user is told of the conversion."""
        words = f"converted to sRGB from {self.primaries[0]}, {self.transfer.name}"
        if self.transfer.peak is None:
            return words
        return (
            f"{words}; tone-mapped by the curve of BT.2390 from {self.transfer.peak:g} to "
            f"{WHITE_NITS:g} cd/m2"
        )


def to_srgb8(values: np.ndarray, top: int, space: Space) -> np.ndarray:
    """Samples of a space as sRGB.

    Args:
      values: integers in 0..top, [H, W] or [H, W, 3].
      top: what full intensity is.

    Returns:
      uint8 [H, W, 3].
    """
    height, width = values.shape[:2]
    out = np.empty((height, width, 3), np.uint8)
    matrix = _between(space.primaries[1])
    rows = max(1, _STRIP_PIXELS // max(width, 1))
    # One entry for each sample that there can be: curves are dear, pictures large.
    table = _light(np.arange(top + 1) / top, space) if top <= 65535 else None
    for start in range(0, height, rows):
        strip = values[start : start + rows]
        light = _light(strip / top, space) if table is None else table[strip]
        if light.ndim == 2:
            light = np.repeat(light[..., None], 3, axis=2)
        if space.transfer.peak is not None:
            light = _shown(light, space.transfer)
        light = np.clip(light @ matrix.T, 0, 1)
        out[start : start + rows] = np.rint(255 * _srgb_samples(light)).astype(np.uint8)
    return out


def of_code_points(
    primaries: int, transfer: int, *, narrow: bool = False, peak: float | None = None
) -> Space | str | None:
    """The space of code points.

    Args:
      primaries, transfer: as in H.273.
      narrow: whether samples have a narrow range.
      peak: cd/m2 of the brightest light that PQ is used for, where the file says.

    Returns:
      The space; words for what cannot be converted; None where nothing is specified.
    """
    if primaries == 2 and transfer == 2:
        return None
    known = PRIMARIES.get(1 if primaries == 2 else primaries)
    curve = _TRANSFERS.get(13 if transfer == 2 else transfer)
    if known is None or curve is None:
        return f"colour code points {primaries} and {transfer}"
    if curve is PQ and peak is not None:
        curve = curve._replace(peak=min(max(peak, WHITE_NITS), 10000.0))
    return Space(known, curve, narrow)


def of_gamma(exponent: float | None, chromaticities: Chromaticities | None) -> Space:
    """The space of a picture with a power curve, or of other primaries, or both.

    Args:
      exponent: light is samples to this power; within 5 % of 2.2 it is sRGB's curve, which such
        files mean.
      chromaticities: None for those of sRGB.
    """
    transfer = SRGB_TRANSFER
    if exponent is not None and abs(exponent / 2.2 - 1) > 0.05:
        transfer = _power(exponent)
    if chromaticities is None:
        return Space(("sRGB's primaries", SRGB), transfer)
    return Space(("the declared primaries", chromaticities), transfer)


def is_sensible(chromaticities: Chromaticities) -> bool:
    """Whether primaries and white span a space of colours."""
    xy = np.reshape(chromaticities, (4, 2))
    if not np.isfinite(xy).all() or (xy[3] <= 0.05).any() or xy[3].sum() > 1:
        return False
    a, b, c = xy[:3]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
    return abs(float(area)) > 0.01 and bool((np.abs(xy) < 2).all()) and bool((_white(xy) > 0).all())


def _light(samples: np.ndarray, space: Space) -> np.ndarray:
    if space.narrow:
        samples = np.clip((samples * 255 - 16) / 219, 0, 1)
    return space.transfer.light(samples).astype(np.float32)


def _between(source: Chromaticities) -> np.ndarray:
    """Matrix from linear light of some primaries to that of sRGB, white to white (Bradford)."""
    source_white, white = (_xyz(np.array(c[6:])) for c in (source, SRGB))
    bradford = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    gains = (bradford @ white) / (bradford @ source_white)
    adapt = np.linalg.inv(bradford) @ np.diag(gains) @ bradford
    matrix = np.linalg.inv(_to_xyz(SRGB)) @ adapt @ _to_xyz(source)
    return matrix.astype(np.float32)


def _to_xyz(chromaticities: Chromaticities) -> np.ndarray:
    xy = np.reshape(chromaticities, (4, 2))
    return _columns(xy) * _white(xy)


def _columns(xy: np.ndarray) -> np.ndarray:
    """XYZ of each primary with a sum of 1, in columns; of blue with y = 0 as well."""
    return np.stack([xy[:3, 0], xy[:3, 1], 1 - xy[:3].sum(axis=1)])


def _white(xy: np.ndarray) -> np.ndarray:
    """How much of each primary makes white."""
    return np.linalg.solve(_columns(xy), _xyz(xy[3]))


def _xyz(xy: np.ndarray) -> np.ndarray:
    return np.array([xy[0], xy[1], 1 - xy[0] - xy[1]]) / xy[1]


def _srgb_samples(light: np.ndarray) -> np.ndarray:
    low = light <= 0.0031308
    return np.where(low, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def _srgb_light(samples: np.ndarray) -> np.ndarray:
    return np.where(samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4)


def _power(exponent: float, name: str = "") -> Transfer:
    return Transfer(name or f"gamma {exponent:.3g}", lambda v: v**exponent)


_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128


def _pq_light(samples: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: cd/m2."""
    power = samples ** (1 / _M2)
    return 10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def _pq_samples(nits: np.ndarray) -> np.ndarray:
    power = (np.maximum(nits, 0) / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _hlg_scene(samples: np.ndarray) -> np.ndarray:
    """BT.2100: light of the scene, 0..1; the display's system gamma is applied in `_shown`."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(samples <= 0.5, samples**2 / 3, (np.exp((samples - c) / a) + b) / 12)


def _shown(light: np.ndarray, transfer: Transfer) -> np.ndarray:
    """Light [.., 3] of PQ (cd/m2) or HLG (of the scene) as light of a white of 1 (BT.2390, 5.4)."""
    peak = transfer.peak or HDR_PEAK_NITS
    if transfer is HLG:
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light = peak * light * np.maximum(luminance, 1e-6)[..., None] ** 0.2
    # By the largest of the three, so that hues stay.
    largest = light.max(axis=-1, keepdims=True)
    top = _pq_samples(np.array(peak))
    mapped = _pq_light(top * _roll_off(_pq_samples(largest) / top, float(_white_of(peak))))
    return light * (mapped / np.maximum(largest, 1e-6)) / WHITE_NITS


def _white_of(peak: float) -> np.ndarray:
    return _pq_samples(np.array(WHITE_NITS)) / _pq_samples(np.array(peak))


def _roll_off(e: np.ndarray, most: float) -> np.ndarray:
    """The EETF's Hermite spline on 0..1: the identity up to a knee, `most` at 1."""
    knee = 1.5 * most - 0.5
    if knee >= 1:
        return e
    t = np.clip((e - knee) / (1 - knee), 0, 1)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * most
    )
    return np.where(e < knee, e, spline)


ADOBE_RGB = Space(
    ("Adobe RGB", (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65)), _power(2.19921875, "gamma 2.2")
)
SRGB_TRANSFER = Transfer("the curve of sRGB", _srgb_light)
PQ = Transfer("PQ", _pq_light, HDR_PEAK_NITS)
HLG = Transfer("HLG", _hlg_scene, HDR_PEAK_NITS)
_BT1886 = _power(2.4, "BT.1886 (gamma 2.4)")

_TRANSFERS = {
    **dict.fromkeys((1, 6, 7, 11, 12, 14, 15), _BT1886),
    4: _power(2.2),
    5: _power(2.8),
    8: _power(1.0, "linear light"),
    9: Transfer("a logarithm over 2 decades", lambda v: np.where(v <= 0, 0, 10 ** (2 * (v - 1)))),
    10: Transfer(
        "a logarithm over 2.5 decades", lambda v: np.where(v <= 0, 0, 10 ** (2.5 * (v - 1)))
    ),
    13: SRGB_TRANSFER,
    16: PQ,
    17: Transfer("SMPTE ST 428-1", lambda v: v**2.6 * (52.37 / 48)),
    18: HLG,
}
