"""SSIMULACRA 2: how far a picture is from its original for the eye, 100 for no visible difference.

The measure of Jon Sneyers (Cloudinary), version 2.1: structural similarity and lost and added edges
in the colour space XYB at six scales, in the mean and in the fourth norm, weighted such that
people's judgements come out. About 30 is low, 50 medium, 70 high and 90 visually lossless quality.

Figures are those of the package `ssimulacra2` of PyPI, borders too: what lies above and below the
picture is mirrored, what lies at either side is 0. The program of the JPEG XL reference software
blurs by a recursive filter with zeros all around. Zeros all around alone raise scores of a picture
of 512x512 by .1 to .6 above 60 and by 3 to 4 below 15, so the two must not be mixed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics.fidelity import MARGIN_PX, blur, check_pair, halve

MIN_SIDE_PX = 8
"""Smallest side that it is defined for."""

SCALES = 6
_ABSORBANCE = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
_BIAS = 0.0037930732552754493
_C2 = 0.0009

# fmt: off
_WEIGHTS = (  # by plane, scale and norm (mean, fourth): of structure, added edges, lost edges
    # X
    0.0, 0.0007376606707406586, 0.0,
    0.0, 0.0007793481682867309, 0.0,
    0.0, 0.0004371155730107379, 0.0,
    1.1041726426657346, 0.00066284834129271, 0.00015231632783718752,
    0.0, 0.0016406437456599754, 0.0,
    1.8422455520539298, 11.441172603757666, 0.0,
    0.0007989109436015163, 0.000176816438078653, 0.0,
    1.8787594979546387, 10.94906990605142, 0.0,
    0.0007289346991508072, 0.9677937080626833, 0.0,
    0.00014003424285435884, 0.9981766977854967, 0.00031949755934435053,
    0.0004550992113792063, 0.0, 0.0,
    0.0013648766163243398, 0.0, 0.0,
    # Y
    0.0, 0.0, 0.0,
    7.466890328078848, 0.0, 17.445833984131262,
    0.0006235601634041466, 0.0, 0.0,
    6.683678146179332, 0.00037724407979611296, 1.027889937768264,
    225.20515300849274, 0.0, 0.0,
    19.213238186143016, 0.0011401524586618361, 0.001237755635509985,
    176.39317598450694, 0.0, 0.0,
    24.43300999870476, 0.28520802612117757, 0.0004485436923833408,
    0.0, 0.0, 0.0,
    34.77906344483772, 44.835625328877896, 0.0,
    0.0, 0.0, 0.0,
    0.0, 0.0, 0.0,
    # B - Y
    0.0, 0.0008680556573291698, 0.0,
    0.0, 0.0, 0.0,
    0.0, 0.0005313191874358747, 0.0,
    0.00016533814161379112, 0.0, 0.0,
    0.0, 0.0, 0.0,
    0.0004179171803251336, 0.0017290828234722833, 0.0,
    0.0020827005846636437, 0.0, 0.0,
    8.826982764996862, 23.19243343998926, 0.0,
    95.1080498811086, 0.9863978034400682, 0.9834382792465353,
    0.0012286405048278493, 171.2667255897307, 0.9807858872435379,
    0.0, 0.0, 0.0,
    0.0005130064588990679, 0.0, 0.00010854057858411537,
)
# fmt: on


def ssimulacra2(original: jax.Array, decoded: jax.Array) -> jax.Array:
    """SSIMULACRA 2 of each pair, float32 [N], at most 100 and without a bound below.

    Single precision: within .05 of double precision up to 95.

    Args:
      original, decoded: sRGB [N, H, W, 3] in 0..1, sides of at least `MIN_SIDE_PX`.

    Raises:
      UsageError: other shapes.
    """
    check_pair(original, decoded)
    shape = original.shape
    if min(shape[1:3]) < MIN_SIDE_PX:
        raise UsageError(
            f"SSIMULACRA 2 needs sides of at least {MIN_SIDE_PX} px, got {shape[1]}x{shape[2]}"
        )
    light = _light(jnp.concatenate([original, decoded]))
    found = []
    for _ in range(SCALES):
        if min(light.shape[1:3]) < MIN_SIDE_PX:
            break
        found.append(_differences(*jnp.split(_planes(light), 2)))
        light = halve(light)
    # Of pictures too small for all scales the weights are taken one after the other all the same.
    weights = np.reshape(_WEIGHTS[: 18 * len(found)], (3, len(found), 2, 3)).astype(np.float32)
    x = 0.9562382616834844 * jnp.sum(jnp.stack(found, axis=2) * weights[None], axis=(1, 2, 3, 4))
    x = x * (2.326765642916932 + x * (-0.020884521182843837 + x * 6.248496625763138e-05))
    return 100.0 - 10.0 * jnp.maximum(x, 0.0) ** 0.6276336467831387


def _light(x: jax.Array) -> jax.Array:
    """sRGB to linear light."""
    return jnp.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _planes(light: jax.Array) -> jax.Array:
    """Linear light [..., 3] to X, Y and B - Y, each scaled and shifted to be positive."""
    channels = jnp.unstack(light, axis=-1)
    # Sums and not a matrix: the compiler makes one loop of all this.
    mixed = [sum(w * c for w, c in zip(row, channels, strict=True)) + _BIAS for row in _ABSORBANCE]
    long, medium, short = (jnp.maximum(m, 0.0) ** (1 / 3) - _BIAS ** (1 / 3) for m in mixed)
    x, y = (long - medium) / 2, (long + medium) / 2
    return jnp.stack([14.0 * x + 0.42, y + 0.01, short - y + 0.55], axis=-1)


def _differences(a: jax.Array, b: jax.Array) -> jax.Array:
    """Of planes [N, H, W, 3]: [N, 3, 2 norms, 3 kinds]."""
    moments = _blur(jnp.concatenate([a, b, a * a, b * b, a * b], axis=-1))
    mean_a, mean_b, square_a, square_b, product = jnp.split(moments, 5, axis=-1)
    covariance = product - mean_a * mean_b
    variances = (square_a - mean_a * mean_a) + (square_b - mean_b * mean_b)
    structure = (2.0 * covariance + _C2) / (variances + _C2)
    unlike = jnp.maximum(1.0 - (1.0 - jnp.square(mean_a - mean_b)) * structure, 0.0)
    edges = (1.0 + jnp.abs(b - mean_b)) / (1.0 + jnp.abs(a - mean_a)) - 1.0
    kinds = unlike, jnp.maximum(edges, 0.0), jnp.maximum(-edges, 0.0)
    first = jnp.stack([jnp.mean(kind, axis=(1, 2)) for kind in kinds], axis=-1)
    fourth = jnp.stack([jnp.mean(kind**4, axis=(1, 2)) for kind in kinds], axis=-1) ** 0.25
    return jnp.stack([first, fourth], axis=2)


def _blur(x: jax.Array) -> jax.Array:
    """Gaussian of [N, H, W, C]; beyond the picture it is mirrored below and above, else zero."""
    x = jnp.pad(x, ((0, 0), (MARGIN_PX, MARGIN_PX), (0, 0), (0, 0)), mode="symmetric")
    return blur(jnp.pad(x, ((0, 0), (0, 0), (MARGIN_PX, MARGIN_PX), (0, 0))))
