"""The integer part of a model: everything that steers the entropy decoder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from rcodec_jax.entropy.bands import band_rows
from rcodec_jax.entropy.coder.tables import check_range
from rcodec_jax.entropy.distributions.centroids import Centroids
from rcodec_jax.entropy.distributions.dither import dither_indices
from rcodec_jax.entropy.distributions.gaussian import GaussianTables
from rcodec_jax.entropy.distributions.static import StaticTables
from rcodec_jax.entropy.integer import hyper, partfile
from rcodec_jax.entropy.integer.context import ContextModel
from rcodec_jax.entropy.integer.layers import LevelContext
from rcodec_jax.entropy.integer.network import IntegerNetwork
from rcodec_jax.errors import BundleError, RcodecError
from rcodec_jax.levels import MAX_LEVELS, NODE_COUNT, Levels, seen_nodes
from rcodec_jax.passes import CONTEXTS, first_half, second_half

DIGEST_BYTES = 8
_MAX_LOG2_S = 1 << 16  # 32 octaves at 11 fraction bits


@dataclass(frozen=True, eq=False)
class Prior:
    """Prior of the clean latent, 11 fraction bits.

    Attributes:
      mean: int16 [h, w, C] of one network; of the sum of two int32, as photos go beyond int16.
      log2_sigma: int16 [h, w, C], int32 where the sum of two networks is beyond.
    """

    mean: np.ndarray
    log2_sigma: np.ndarray


@dataclass(frozen=True, eq=False)
class IntegerPart:
    """Tables and integer network of one model.

    Attributes:
      latent_channels: C, channels of y.
      hyper_channels: Cz, channels of z.
      hyper_stride: latent cells per side of one z cell.
      node_log2_s: int32 [1024], log2 s of each node, 11 fraction bits.
      node_class: uint8 [1024], class of the z tables of each node.
      gaussian, hyper_tables: tables of y and z.
      network: z and levels to mean and log2 sigma.
      hyper_weight: int16 [Cz], what the mean of its neighbours counts for each channel of z, 8
        fraction bits; None where z is coded without them.
      context: the network that corrects the prior of the latent's second half, or None.
      centroids: what integers stand for, or None for linear estimates.
      skip: latents are 0 and not coded where their table gives all other values together less than
        this, of 2^16.
      sees: which of `partfile.SIGHTS` networks and tables of z see of the levels, in that order.

    Raises:
      BundleError: the parts do not fit together.
    """

    latent_channels: int
    hyper_channels: int
    hyper_stride: int
    node_log2_s: np.ndarray
    node_class: np.ndarray
    gaussian: GaussianTables
    hyper_tables: StaticTables
    network: IntegerNetwork
    hyper_weight: np.ndarray | None = None
    context: ContextModel | None = None
    centroids: Centroids | None = None
    skip: int = 0
    sees: tuple[str, ...] = partfile.SIGHTS
    _stored_digest: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        checks: list[tuple[str, object, object]] = [
            ("hyper tables: channels", self.hyper_tables.channels, self.hyper_channels),
            ("network: input channels", self.network.input_channels, self.hyper_channels),
            ("network: output channels", self.network.output_channels, 2 * self.latent_channels),
            ("network: upsampling", self.network.upsampling, self.hyper_stride),
            ("node_log2_s: shape", self.node_log2_s.shape, (NODE_COUNT,)),
            ("node_log2_s: dtype", self.node_log2_s.dtype, np.dtype(np.int32)),
            ("node_class: shape", self.node_class.shape, (NODE_COUNT,)),
            ("node_class: dtype", self.node_class.dtype, np.dtype(np.uint8)),
        ]
        if (weight := self.hyper_weight) is not None:
            checks.append(("hyper weight: shape", weight.shape, (self.hyper_channels,)))
            checks.append(("hyper weight: dtype", weight.dtype, np.dtype(np.int16)))
        if self.context is not None:
            checks.append(("context: channels", self.context.latent_channels, self.latent_channels))
        for name, given, expected in checks:
            if given != expected:
                raise BundleError(f"{name}: expected {expected}, got {given}")
        if np.abs(self.node_log2_s.astype(np.int64)).max() > _MAX_LOG2_S:
            raise BundleError(f"node_log2_s: not within +-{_MAX_LOG2_S}")
        if not 0 <= self.skip <= partfile.MAX_SKIP:
            raise BundleError(f"skip: expected 0..{partfile.MAX_SKIP}, got {self.skip}")
        classes, rest = divmod(self.hyper_tables.classes, 1 if weight is None else CONTEXTS)
        if rest or self.node_class.max() >= classes:
            raise BundleError(
                f"node_class: names class {self.node_class.max()} of "
                f"{self.hyper_tables.classes} tables a channel"
            )

    @cached_property
    def _blob(self) -> bytes:
        return partfile.serialise(vars(self))

    def to_bytes(self) -> bytes:
        """The part as safetensors bytes, always the same for the same part."""
        return self._blob

    @cached_property
    def digest(self) -> bytes:
        """First 8 bytes of the SHA-256 of the stored bytes: what a file names its model by."""
        return self._stored_digest or hashlib.sha256(self._blob).digest()[:DIGEST_BYTES]

    @classmethod
    def from_bytes(cls, blob: bytes) -> IntegerPart:
        """Reads and checks a part.

        Raises:
          BundleError: malformed, inconsistent, or a layer whose exactness cannot be proved.
        """
        digest = hashlib.sha256(blob).digest()[:DIGEST_BYTES]
        fields: dict[str, Any] = partfile.parse(blob)
        return cls(**fields, _stored_digest=digest)

    def hyper_size(self, height_cells: int, width_cells: int) -> tuple[int, int]:
        """(hz, wz): z cells of a grid of latent cells."""
        return -(-height_cells // self.hyper_stride), -(-width_cells // self.hyper_stride)

    def halves(self, height_cells: int, width_cells: int) -> list[np.ndarray]:
        """Which latents are coded together, one group after the other: bool [h, w, C] each.

        With a context network they are two halves, else all are in one group.
        """
        shape = height_cells, width_cells, self.latent_channels
        if self.context is None:
            return [np.ones(shape, bool)]
        return [first_half(*shape), second_half(*shape)]

    def padded_map(self, level_map: np.ndarray) -> np.ndarray:
        """The level map with its edges repeated to whole z cells."""
        height, width = level_map.shape
        hz, wz = self.hyper_size(height, width)
        extra = (hz * self.hyper_stride - height, wz * self.hyper_stride - width)
        return np.pad(level_map, ((0, extra[0]), (0, extra[1])), mode="edge")

    def cell_classes(self, levels: Levels) -> np.ndarray:
        """Class of each z cell, that of the lowest level it covers: uint8 [hz, wz]."""
        padded = self.padded_map(levels.level_map)
        s = self.hyper_stride
        lowest = padded.reshape(padded.shape[0] // s, s, padded.shape[1] // s, s).min((1, 3))
        return self.node_class[self._seen(levels.nodes)[lowest]]

    def hyper_symbols(self, z: np.ndarray, levels: Levels) -> tuple[np.ndarray, np.ndarray]:
        """(symbols, tables) of z in the order they are coded in: int64 [hz wz Cz] each."""
        classes = self.cell_classes(levels)
        order = hyper.coding_order(self.hyper_weight, *classes.shape)
        both = hyper.to_symbols(self.hyper_tables, self.hyper_weight, classes, z)
        symbols, tables = (a.reshape(order.size, -1)[order].reshape(-1) for a in both)
        return symbols, tables

    def read_hyper(self, levels: Levels, read: hyper.Read) -> np.ndarray:
        """z int32 [hz, wz, Cz] from symbols that `read` gives for the tables it is asked for.

        Raises:
          CorruptPayloadError: no hyper-latents have these symbols.
        """
        classes = self.cell_classes(levels)
        return hyper.from_symbols(self.hyper_tables, self.hyper_weight, classes, read)

    def hyper_bits(self, z: np.ndarray, levels: Levels) -> np.ndarray:
        """Ideal code length of each hyper-latent, escapes included: float64 [hz, wz, Cz]."""
        classes = self.cell_classes(levels)
        k, tables = hyper.to_symbols(self.hyper_tables, self.hyper_weight, classes, z)
        return self.hyper_tables.bank.bits(tables, k)

    def predict(self, z: np.ndarray, levels: Levels) -> Prior:
        """Prior of the latent from the hyper-latents and the levels, before `refine`.

        Args:
          z: int [hz, wz, Cz], |z| < 2^15.
          levels: of the picture.

        Raises:
          RcodecError: shapes or ranges are wrong.
        """
        levels = self.check_levels(levels)
        height, width = levels.level_map.shape
        expected = (*self.hyper_size(height, width), self.hyper_channels)
        if z.shape != expected or z.dtype.kind not in "iu":
            raise RcodecError(f"z: expected integers {expected}, got {z.dtype} {z.shape}")
        check_range(z)  # the proof of exactness counts on it
        c = self.latent_channels
        prior = Prior(*(np.empty((height, width, c), np.int16) for _ in range(2)))

        def write(top: int, bottom: int, rows: np.ndarray) -> None:
            for array, own in ((prior.mean, rows[..., :c]), (prior.log2_sigma, rows[..., c:])):
                array[top:bottom] = own[: height - top, :width]

        self.network.run_in_bands(
            lambda top, bottom: z[top:bottom].astype(np.float64),
            write, LevelContext(self._seen(levels.nodes), self.padded_map(levels.level_map)),
        )  # fmt: skip
        return prior

    def refine(self, prior: Prior, j: np.ndarray, levels: Levels) -> Prior:
        """The prior of both halves of the latent: that of the second half knows the first.

        Args:
          prior: what `predict` gives.
          j: int [h, w, C], |j| < 2^15, of which the first half counts (`passes.first_half`).
          levels: as for `predict`.

        Returns:
          `prior` itself if the part has no context network.

        Raises:
          RcodecError: |j| >= 2^15.
        """
        context = self.context
        if context is None:
            return prior
        levels = LevelContext(levels.nodes, levels.level_map)
        first = first_half(*prior.mean.shape)
        refined = Prior(np.empty(first.shape, np.int32), np.empty(first.shape, np.int16))
        beyond: list[int] = []  # bands with a log2 sigma that is not within int16

        def read(top: int, bottom: int) -> np.ndarray:
            rows = slice(top, bottom)
            known = check_range(np.where(first[rows], j[rows], 0))
            before = prior.mean[rows], prior.log2_sigma[rows]
            here = levels.rows(rows)
            index = self.sigma_index(Prior(*before), here)
            step = context.step[here.nodes[here.level_map]]
            dither = dither_indices(*known.shape, top=top)
            given = *before, known, dither, index, first[rows], step
            return context.inputs(*given, self.centroids)

        def write(top: int, bottom: int, changes: np.ndarray) -> None:
            rows, c = slice(top, bottom), self.latent_channels
            for name, change in (("mean", changes[..., :c]), ("log2_sigma", changes[..., c:])):
                change = np.where(first[rows], 0, change).astype(np.int32)
                change += getattr(prior, name)[rows]
                kept = getattr(refined, name)[rows]
                np.copyto(kept, change, casting="unsafe")
                if kept.dtype != change.dtype and not np.array_equal(kept, change):
                    beyond.append(top)

        seen = LevelContext(self._seen(levels.nodes), levels.level_map)
        context.network.run_in_bands(read, write, seen)
        if beyond:  # of no model that was trained
            refined = Prior(refined.mean, np.empty(first.shape, np.int32))
            context.network.run_in_bands(read, write, seen)
        return refined

    def _seen(self, nodes: np.ndarray) -> np.ndarray:
        """What networks and tables of z see of nodes int [L]."""
        wide = np.asarray(nodes, np.int64)
        seen: np.ndarray = seen_nodes(
            wide, see_node="node" in self.sees, see_map="map" in self.sees
        )
        return seen

    def sigma_index(self, prior: Prior, levels: Levels) -> np.ndarray:
        """Level of s sigma of each latent value: uint8 [h, w, C]."""
        log2_s = self.node_log2_s[levels.nodes]
        index: np.ndarray = np.empty(prior.log2_sigma.shape, np.uint8)
        rows = band_rows(index[0].size)
        for top in range(0, index.shape[0], rows):
            band = slice(top, top + rows)
            seen = log2_s[levels.level_map[band]][:, :, None]
            index[band] = self.gaussian.index(prior.log2_sigma[band], seen)
        return index

    def contexts(
        self, half: np.ndarray, prior: Prior, levels: Levels
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the values of a half are coded by, in their order.

        Args:
          half: bool [h, w, C], of `halves`.
          prior: of the latent; levels: of the picture.

        Returns:
          Level of s sigma and dither index: uint8 [n] each.
        """
        height, width, channels = half.shape
        levels, found = LevelContext(levels.nodes, levels.level_map), []
        step = band_rows(width * channels)
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            own, here = half[rows], Prior(prior.mean[rows], prior.log2_sigma[rows])
            dither = dither_indices(*own.shape, top=top)
            found.append((self.sigma_index(here, levels.rows(rows))[own], dither[own]))
        index, dither = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return index, dither

    def coded(self, sigma_index: np.ndarray, dither_index: np.ndarray) -> np.ndarray:
        """Which latents of these indices (uint8, same shape) are coded; the others are 0: bool."""
        return self._coded[sigma_index, dither_index]

    @cached_property
    def _coded(self) -> np.ndarray:
        coded: np.ndarray = self.gaussian.others >= self.skip
        return coded

    def bits(
        self,
        z: np.ndarray,
        j: np.ndarray,
        levels: Levels,
        prior: Prior | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ideal code lengths -log2 p of the integer tables, escapes included.

        Args:
          z: int [hz, wz, Cz]; j: int [h, w, C]; levels: of the picture.
          prior: what `predict` and `refine` give for them, if known already.

        Returns:
          (bits_z float64 [hz, wz, Cz], bits_y float64 [h, w, C]).
        """
        levels = self.check_levels(levels)
        if prior is None:
            prior = self.refine(self.predict(z, levels), j, levels)
        index = self.sigma_index(prior, levels)
        height, width = levels.level_map.shape
        dither = dither_indices(height, width, self.latent_channels)
        bits_y = np.where(self.coded(index, dither), self.gaussian.bits(index, dither, j), 0.0)
        return self.hyper_bits(z, levels), bits_y

    @staticmethod
    def check_levels(levels: Levels) -> LevelContext:
        """Checks levels and returns them as arrays.

        Raises:
          RcodecError: a shape, type or range is wrong.
        """
        nodes, level_map = np.asarray(levels.nodes), np.asarray(levels.level_map)
        if nodes.ndim != 1 or not 1 <= nodes.size <= MAX_LEVELS or nodes.dtype.kind not in "iu":
            raise RcodecError(f"nodes: expected integers [1..{MAX_LEVELS}], got {nodes.shape}")
        if nodes.min() < 0 or nodes.max() >= NODE_COUNT or np.any(np.diff(nodes) < 0):
            raise RcodecError(f"nodes: expected ascending values 0..{NODE_COUNT - 1}, got {nodes}")
        if level_map.ndim != 2 or level_map.size == 0 or level_map.dtype.kind not in "iu":
            raise RcodecError(f"level map: expected integers [h, w], got {level_map.shape}")
        if level_map.min() < 0 or level_map.max() >= nodes.size:
            raise RcodecError(f"level map: expected 0..{nodes.size - 1}, got {level_map.max()}")
        return LevelContext(nodes, level_map)
