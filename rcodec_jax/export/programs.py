"""The networks as functions of flat weights, the way others call them.

Shapes: B pictures, h w units of `unit_cells` latent cells, C channels, L = 16 levels, Z channels of
the hyper-latent. Everything is float32 or int32 at the door, whatever is computed inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rcodec_jax.config.model import ModelConfig
from rcodec_jax.diffusion.sampler import by_centroids, clean_and_noise, per_cell
from rcodec_jax.diffusion.schedule import STEPS, log_snr
from rcodec_jax.levels import CELL_PX, HYPER_STRIDE, MAX_LEVELS
from rcodec_jax.model.networks import LevelInputs, Networks
from rcodec_jax.model.trees import Flat, unflatten
from rcodec_jax.ops.rounding import round_half_up

SHIFT, SCALE = "latent/shift", "latent/scale"
CENTROIDS = "latent/centroids"
"""Names of the latent's statistics among the weights: y = (encoder output - shift) * scale."""


class Port(NamedTuple):
    """An input or an output.

    Attributes:
      name: of the argument.
      shape: as `jax.export` reads it, in b, h and w.
      dtype: float32 or int32.
      meaning: one line.
    """

    name: str
    shape: str
    dtype: str
    meaning: str


class Program(NamedTuple):
    """One function to export.

    Attributes:
      function: (weights by name, *inputs) -> outputs, a tuple.
      parts: networks whose weights it takes; the latent's statistics come on top where `latent`.
      latent: whether it takes those.
      inputs, outputs: in order.
    """

    function: Callable[..., tuple[jax.Array, ...]]
    parts: tuple[str, ...]
    latent: bool
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def unit_cells(config: ModelConfig) -> int:
    """Latent sides must be multiples of this: what UNet and hyper-analysis halve evenly."""
    return max(HYPER_STRIDE, 2 ** (len(config.unet.channels) - 1))


def make_programs(config: ModelConfig, dtype: str = "float32") -> dict[str, Program]:
    """Encoder, hyper-analysis, one step of the decode, and decoder, by name.

    Args:
      config: the model's shape.
      dtype: of the computation.
    """
    networks = Networks(config, jnp.dtype(dtype))
    unit = unit_cells(config)
    cells = f"{unit}*h, {unit}*w"
    channels, hyper = config.latent_channels, config.hyper.hyper_channels
    pixels = f"b, {unit * CELL_PX}*h, {unit * CELL_PX}*w, 3"
    latent = f"b, {cells}, {channels}"
    level_map = Port("level_map", f"b, {cells}", "int32", "level of each cell, 0..15")
    image = Port("image", pixels, "float32", "sRGB, 0..255 mapped to -1..1")
    y = Port("y", latent, "float32", "latent, zero mean and unit variance")
    nodes = Port("nodes", f"b, {MAX_LEVELS}", "int32", "node of each level, 0..1023")
    z = Port("z", f"b, {unit // HYPER_STRIDE}*h, {unit // HYPER_STRIDE}*w, {hyper}", "int32",
             "hyper-latent, rounded")  # fmt: skip
    x = Port("x", latent, "float32", "dequantised, or the last step's next_x")
    times = (
        Port("t", f"b, {MAX_LEVELS}", "float32", "timestep of each level now, 0..999"),
        Port("next_t", f"b, {MAX_LEVELS}", "float32", "timestep of each level after the step"),
    )
    prior = Port(
        "prior", f"b, {cells}, {2 * channels}", "float32", "entropy model's mean, then log2 sigma"
    )
    features = Port(
        "features", f"b, {cells}, {config.decoder_features}", "float32", "the last step's"
    )
    dither = Port("dither", latent, "float32", "g of the latent's integers, -1/2..1/2")
    hints = (features, dither) if config.hint_channels else ()
    needs_prior = config.unet.prior
    results = (
        Port("output", latent, "float32", f"of the network: {config.unet.prediction}"),
        Port("clean", latent, "float32", "estimate of y; the result after the last step"),
        Port("next_x", latent, "float32", "the latent at next_t, by deterministic DDIM"),
        *hints[:1],
    )

    def encode(weights: Flat, image: jax.Array) -> tuple[jax.Array, ...]:
        mean, _ = networks.encode(unflatten(weights), image)
        return ((mean - _row(weights[SHIFT])) * _row(weights[SCALE]),)

    def decode(weights: Flat, y: jax.Array, *given: jax.Array) -> tuple[jax.Array, ...]:
        raw = y / _row(weights[SCALE]) + _row(weights[SHIFT])
        return (
            networks.decode(unflatten(weights), raw, networks.hints(*given) if given else None),
        )

    def analyse(
        weights: Flat, y: jax.Array, nodes: jax.Array, level_map: jax.Array
    ) -> tuple[jax.Array, ...]:
        found = networks.hyper_encode(unflatten(weights), y, LevelInputs.of(level_map, nodes))
        return (round_half_up(found).astype(jnp.int32),)

    def step(
        weights: Flat,
        x: jax.Array,
        t: jax.Array,
        next_t: jax.Array,
        level_map: jax.Array,
        prior: jax.Array | None = None,
    ) -> tuple[jax.Array, ...]:
        now = _signal_and_noise(t, config)
        signal, noise = (per_cell(share, level_map) for share in now)
        given, estimate = x, None
        if CENTROIDS in weights and prior is not None:
            abar = jnp.square(now[0])
            given, estimate = by_centroids(x, level_map, abar, prior, weights[CENTROIDS])
        both = networks.denoise(unflatten(weights), given, t, level_map, prior)
        output, *more = jnp.split(both, [channels], axis=-1)
        prediction = config.unet.prediction
        clean, epsilon = clean_and_noise(x, output, signal, noise, prediction, prior, estimate)
        signal, noise = (per_cell(share, level_map) for share in _signal_and_noise(next_t, config))
        return output, clean, signal * clean + noise * epsilon, *(more if hints else ())

    denoiser_inputs = (x, *times, level_map, *([prior] if needs_prior else []))
    return {
        "encoder": Program(encode, ("encoder",), True, (image,), (y,)),
        "hyper_analysis": Program(analyse, ("hyper_analysis",), False, (y, nodes, level_map), (z,)),
        "step": Program(step, ("unet",), False, denoiser_inputs, results),
        "decoder": Program(
            decode,
            ("decoder",),
            True,
            (y, *hints),
            (image._replace(meaning="about -1..1, not clipped"),),
        ),
    }


def weight_names(program: Program, names: list[str]) -> list[str]:
    """Those of a model's tensors that a program takes, in its order."""
    taken = [name for name in names if name.split("/")[0] in program.parts]
    extra = [SHIFT, SCALE] if program.latent else []
    if CENTROIDS in names and "unet" in program.parts:
        extra = [CENTROIDS]
    return sorted([*taken, *extra])


def _row(values: jax.Array) -> jax.Array:
    """By channel [C] -> [1, 1, 1, C], float32."""
    return values.astype(jnp.float32).reshape(1, 1, 1, -1)


def _signal_and_noise(t: jax.Array, config: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """sqrt(abar) and sqrt(1 - abar) at timesteps of any shape, as `schedule.alpha_bar` has it."""
    table = jnp.asarray(log_snr(config.noise_schedule), jnp.float32)
    whole = jnp.clip(jnp.floor(t), 0, STEPS - 2).astype(jnp.int32)
    between: Any = table[whole] + (t - whole) * (table[whole + 1] - table[whole])
    return jnp.sqrt(jax.nn.sigmoid(between)), jnp.sqrt(jax.nn.sigmoid(-between))
