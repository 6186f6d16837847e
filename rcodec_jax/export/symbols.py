"""Symbols of a file to what the denoiser starts from, with NumPy and safetensors alone.

This file lies beside the programs of a frozen model, so that the folder is all that is needed:

    from rcodec_programs import ExportedModel
    from rcodec_symbols import Dequantiser
    start = Dequantiser("folder")(z, j, nodes, level_map)
    picture = ExportedModel("folder").picture(*start, level_map, size=(height_px, width_px))

Symbols are the integers of a file after its entropy decoder: `read_symbols` of the package gives
them. What follows from them is the same bit by bit here and there: all networks here are integers
(the package's FORMAT.md, sections 6 to 8), held in float64, where no operation on them rounds. The
tone map that a file may have is none of them: its reader adds it to the picture (section 5.1), and
enlarges a picture that was coded at half its sides, those of `size` then (section 2).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open

INTEGER = "integer.safetensors"
NODES = "nodes.safetensors"
MAX_LEVELS = 16
_ONE = 2048.0  # of the prior: 11 fraction bits
_MOST = 1 << 15  # of z and j; the proof of exactness counts on it


class Start(NamedTuple):
    """What `ExportedModel.picture` takes.

    Attributes:
      x: float32 [h, w, C], dequantised latent.
      prior: float32 [h, w, 2C], its mean, then log2 sigma.
      levels_t: float64 [16], timestep of each level; the last one repeated.
      dither: float32 [h, w, C], -1/2..1/2.
    """

    x: np.ndarray
    prior: np.ndarray
    levels_t: np.ndarray
    dither: np.ndarray


class Dequantiser:
    """The integer part of a model.

    Args:
      folder: what `rcodec export --format stablehlo` wrote of a bundle.

    Raises:
      ValueError: the integers are not those of the folder's manifest.
    """

    def __init__(self, folder: str | Path) -> None:
        manifest = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
        digest = hashlib.sha256((Path(folder) / INTEGER).read_bytes()).digest()[:8].hex()
        if digest != (expected := manifest["bundle"]["integer_digest"]):
            raise ValueError(f"{INTEGER}: expected digest {expected}, got {digest}")
        tensors, metadata = _read(Path(folder) / INTEGER)
        self._about = json.loads(metadata["rcodec.integer_part"])
        self._tensors = tensors
        self._nodes, _ = _read(Path(folder) / NODES)

    def __call__(
        self, z: np.ndarray, j: np.ndarray, nodes: np.ndarray, level_map: np.ndarray
    ) -> Start:
        """Dequantises.

        Args:
          z: int [hz, wz, Cz], hyper-latents.
          j: int [h, w, C], quantised latent relative to the prior's mean.
          nodes: int [L], node of each level, ascending, 0..1023.
          level_map: int [h, w], level of each cell, 0..L-1.

        Raises:
          ValueError: shapes or ranges that no file of this model has.
        """
        z, j, nodes, level_map = (np.asarray(a, np.int64) for a in (z, j, nodes, level_map))
        self._check(z, j, nodes, level_map)
        mean, log2_sigma = self._prior(z, j, nodes, level_map)
        node_map = nodes[level_map]
        signal, delta, log2_s = (
            self._nodes[name][node_map][..., None] for name in ("alpha_bar", "delta", "log2_scale")
        )
        mean, spread = mean / _ONE, log2_sigma / _ONE + log2_s
        spread = np.clip(spread, np.log2(0.01), np.log2(64.0))
        dither = (2.0 * _dither(j.shape) - 63.0) / 128
        x = np.sqrt(signal) * mean + delta * (j - dither)
        prior = np.concatenate([mean, spread - log2_s], axis=-1)
        levels_t = self._nodes["t"][np.pad(nodes, (0, MAX_LEVELS - nodes.size), mode="edge")]
        single = np.float32
        return Start(x.astype(single), prior.astype(single), levels_t, dither.astype(single))

    def _check(self, z: np.ndarray, j: np.ndarray, nodes: np.ndarray, levels: np.ndarray) -> None:
        stride = self._about["hyper_stride"]
        if not 1 <= nodes.size <= MAX_LEVELS or nodes.ndim != 1 or np.any(np.diff(nodes) < 0):
            raise ValueError(f"expected 1..{MAX_LEVELS} ascending nodes, got {nodes}")
        if levels.ndim != 2 or not levels.size:
            raise ValueError(f"expected a level map [h, w], got {levels.shape}")
        hyper = tuple(-(-side // stride) for side in levels.shape)
        for name, values, shape, low, high in (
            ("z", z, (*hyper, self._about["hyper_channels"]), 1 - _MOST, _MOST - 1),
            ("j", j, (*levels.shape, self._about["latent_channels"]), 1 - _MOST, _MOST - 1),
            ("nodes", nodes, nodes.shape, 0, len(self._nodes["t"]) - 1),
            ("level map", levels, levels.shape, 0, nodes.size - 1),
        ):
            if values.shape != shape:
                raise ValueError(f"{name}: expected {shape}, got {values.shape}")
            if values.min() < low or values.max() > high:
                raise ValueError(
                    f"{name}: expected {low}..{high}, got {values.min()}..{values.max()}"
                )

    def _prior(
        self, z: np.ndarray, j: np.ndarray, nodes: np.ndarray, levels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log2 sigma int64 [h, w, C], 11 fraction bits, of both halves of the latent."""
        height, width, channels = j.shape
        seen, stride = self._seen(nodes), self._about["hyper_stride"]
        extra = [(0, -side % stride) for side in levels.shape]
        padded = np.pad(levels, extra, mode="edge")
        out = self._run("layers", "", z, seen, padded)[:height, :width]
        if "context" not in self._about:
            return out[..., :channels], out[..., channels:]
        # The second half is corrected by what the integers of the first stand for.
        first = np.indices(j.shape).sum(0) % 2 == 0
        node_map = nodes[levels][..., None]
        spread = out[..., channels:] + self._tensors["node_log2_s"].astype(np.int64)[node_map]
        index = ((np.clip(spread, -13607, 12393) + 13607) * 326543 + (1 << 26)) >> 27
        value = 128 * j - (2 * _dither(j.shape) - 63)
        level, bits = np.minimum(index, 63), 22
        if "centroids" in self._tensors:
            size, bits = np.abs(value), 13
            near = self._tensors["centroids"][level, np.minimum(size, 383) >> 1].astype(np.int64)
            value = np.sign(value) * (near + (np.maximum(size - 383, 0) << 6))
        else:
            value *= self._tensors["context.gain"].astype(np.int64)[level]
        value *= self._tensors["context.step"].astype(np.int64)[node_map]
        value = np.where(first, (value + (1 << (bits + 3))) >> (bits + 4), 0)
        x = np.clip(np.concatenate([(out + 4) >> 3, value], axis=-1), -_MOST, _MOST - 1)
        change = self._run("context", "context.", x, seen, levels)
        out += np.where(np.tile(first, 2), 0, change)
        return out[..., :channels], out[..., channels:]

    def _seen(self, nodes: np.ndarray) -> np.ndarray:
        """What the networks see of the nodes: all, but for ablations."""
        sees = self._about.get("sees", ("node", "map"))
        middle = (nodes[0] + nodes[-1]) // 2
        apart = nodes - middle if "map" in sees else 0 * nodes
        return np.clip((middle if "node" in sees else 512) + apart, 0, 1023)

    def _run(
        self, network: str, prefix: str, x: np.ndarray, nodes: np.ndarray, levels: np.ndarray
    ) -> np.ndarray:
        """Applies the layers of a network: int64 [hz, wz, in] -> int64 [h, w, out]."""
        x = x.astype(np.float64)
        for i, about in enumerate(self._about[network]):
            about = dict(about)
            apply = _LAYERS[about.pop("kind")]
            at = f"{prefix}layers.{i}."
            arrays = {k[len(at) :]: v for k, v in self._tensors.items() if k.startswith(at)}
            if "rows" in arrays:
                arrays |= {"nodes": nodes, "levels": levels}
            x = apply(x, **about, **arrays)
        return x.astype(np.int64)


def _conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, shift: int) -> np.ndarray:
    height, width, _ = x.shape
    rows, columns, _, channels = weight.shape
    x = np.pad(x, ((rows // 2,) * 2, (columns // 2,) * 2, (0, 0)))
    y = np.zeros((height, width, channels))
    for row in range(rows):
        for column in range(columns):
            y += x[row : row + height, column : column + width] @ weight[row, column].astype(float)
    return _rounded(y + bias, shift)


def _leaky_relu(x: np.ndarray, slope_log2: int) -> np.ndarray:
    return np.where(x >= 0, x, np.floor(x * 2.0**-slope_log2 + 0.5))


def _film(
    x: np.ndarray,
    rows: np.ndarray,
    nodes: np.ndarray,
    levels: np.ndarray,
    gain_bits: int,
    stride: int,
) -> np.ndarray:
    """Gain and offset by node, mixed by how many cells of a block each level covers."""
    height, width, channels = x.shape
    blocks = levels.reshape(height, stride, width, stride)
    counts = [(blocks == level).sum((1, 3)) for level in range(nodes.size)]
    mixed = np.stack(counts, axis=-1).astype(float) @ rows[nodes].astype(float)
    y = x * mixed[..., :channels] + mixed[..., channels:] * 2.0**gain_bits
    return _rounded(y, gain_bits + 2 * (stride.bit_length() - 1))


def _depth_to_space(x: np.ndarray, block: int) -> np.ndarray:
    height, width, channels = x.shape
    split = x.reshape(height, width, block, block, channels // block**2)
    return split.transpose(0, 2, 1, 3, 4).reshape(height * block, width * block, -1)


_LAYERS: dict[str, Callable[..., np.ndarray]] = {
    "conv": _conv,
    "leaky_relu": _leaky_relu,
    "film": _film,
    "depth_to_space": _depth_to_space,
}


def _rounded(values: np.ndarray, shift: int) -> np.ndarray:
    """Integers / 2^shift to the nearest, halves up, within int16."""
    nearest = np.floor((values + ((1 << shift) >> 1)) * 2.0**-shift)
    return np.clip(nearest, -_MOST, _MOST - 1)


def _dither(shape: tuple[int, ...]) -> np.ndarray:
    """Dither indices int64 0..63: the top six bits of a counter-based generator's words."""
    key = np.frombuffer(b"rcodec-dither-v0", ">u8").astype(np.uint64)
    words = np.random.Philox(key=key).random_raw(int(np.prod(shape)))
    return (words >> np.uint64(58)).astype(np.int64).reshape(shape)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
