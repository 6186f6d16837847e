"""Latents of a picture, from which files come at any base node."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import numpy as np

from rcodec_jax.bitstream import Header, read_container, write_container
from rcodec_jax.bitstream.container import coded_size
from rcodec_jax.codec.decode import draw
from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.quantise import Quantised, quantise
from rcodec_jax.codec.sample import SAMPLE_SIDE, Blocks, take_blocks
from rcodec_jax.codec.tone import finish, fit_tone
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import Symbols, decode_tone, encode_symbols
from rcodec_jax.levels import CELL_PX, HYPER_STRIDE
from rcodec_jax.model.bundle import Bundle
from rcodec_jax.model.descent import MSE_WEIGHT
from rcodec_jax.regions.levelmap import LevelMap, cell_shape


@dataclasses.dataclass(frozen=True, eq=False)
class Latents:
    """Latents of a picture, from which files come at any base.

    Attributes:
      bundle, programs: the model.
      levels_at: the level map of a base, and of the cells in blocks at that.
      size: height and width of the picture in pixels, as it is shown.
      rdoq_lambda: see `quantise.rdoq`.
      y: of a bucket [h', w', C].
      z: int32 [hz, wz, Z]; None for what the model's analysis gives at each base.
      blocks: places of a sample (`sample_blocks`), None where the whole is small enough to be
        looked at for every base.
      grey: the picture has no colour.
      resampling: 2 if the latents are those of the picture at half its width and height.
      metadata: what files say of the picture.
      sizes: of files, by base.
      known: what has been quantised, by base; of a large picture the last alone.
    """

    bundle: Bundle
    programs: Programs
    levels_at: Callable[..., LevelMap]
    size: tuple[int, int]
    rdoq_lambda: float
    y: np.ndarray
    z: np.ndarray | None = None
    blocks: Blocks | None = None
    grey: bool = False
    resampling: int = 1
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sizes: dict[int, float] = dataclasses.field(default_factory=dict)
    known: dict[int, Quantised] = dataclasses.field(default_factory=dict)

    def at(self, base: int) -> Quantised:
        if base not in self.known:
            if self.blocks is not None:
                self.known.clear()
            self.known[base] = quantise(
                self.bundle,
                self.programs,
                self.y,
                self.levels_at(base),
                rdoq_lambda=self.rdoq_lambda,
                z=self.z,
            )
        return self.known[base]

    def size_of(self, base: int) -> float:
        if base not in self.sizes:
            s = self.at(base)
            around = self._file(s, b"")
            self.sizes[base] = len(around) + s.payload_bytes
        return self.sizes[base]

    def roughly(self, base: int) -> float:
        """`size_of` by the sample, where there is one."""
        if self.blocks is None:
            return self.size_of(base)
        size = self._sample.size_of(base) * self._share
        self._sample.known.clear()
        return size

    @functools.cached_property
    def _share(self) -> float:
        """Cells of the picture for each of the sample."""
        cells = cell_shape(*coded_size(*self.size, self.resampling))
        return math.prod(cells) / math.prod(cell_shape(*self._sample.size))

    @functools.cached_property
    def _sample(self) -> Latents:
        """A small picture's latents, blocks of this one's beside one another."""
        assert self.blocks is not None
        y = take_blocks(self.y, self.blocks, SAMPLE_SIDE)
        z = None
        if self.z is not None:
            coarse = [starts // HYPER_STRIDE for starts in self.blocks]
            z = take_blocks(self.z, (coarse[0], coarse[1]), SAMPLE_SIDE // HYPER_STRIDE)
        size = (y.shape[0] * CELL_PX, y.shape[1] * CELL_PX)
        levels_at = functools.partial(self.levels_at, blocks=self.blocks)
        return Latents(self.bundle, self.programs, levels_at, size, self.rdoq_lambda, y, z)

    def with_tone(
        self, base: int, data: bytes, image: np.ndarray, most_bytes: float
    ) -> tuple[bytes, np.ndarray]:
        """The file of a base with a tone map, if there is one that is worth its bits.

        Args:
          image: what the latents are of, uint8 [H, W, 3].

        Returns:
          The file, and what it decodes to before it is enlarged: uint8 [H, W, 3].
        """
        s, steps = self.at(base), self.bundle.config.steps
        symbols = Symbols(s.z, s.j, s.prior)
        drawn = draw(
            self.programs, symbols, s.levels, image.shape[:2], steps=steps, kind="proportional"
        )
        decoded = finish(drawn, None, grey=self.grey)  # no bits for what decoders take away
        tone = fit_tone(image, decoded, self.worth(base), most_bytes=most_bytes - len(data))
        if tone:
            plain = read_container(data)
            data = self._file(s, plain.payload, tone)
            decoded = finish(drawn, decode_tone(tone, *image.shape[:2]), grey=self.grey)
        return data, decoded

    def worth(self, base: int) -> np.ndarray:
        """Bits that a squared error of 1 (in -1..1) of a pixel is worth at a base, [h, w]."""
        table = node_table(self.bundle.config.noise_schedule)
        alpha_bar = table.alpha_bar[self.levels_at(base).node_map]
        worth: np.ndarray = MSE_WEIGHT * alpha_bar / (1 - alpha_bar)
        return worth

    def quantised_by(self, rdoq_lambda: float) -> Latents:
        """The same latents, with another weight of their error."""
        return dataclasses.replace(self, rdoq_lambda=rdoq_lambda, sizes={}, known={})

    def finish(self, base: int) -> bytes:
        s = self.at(base)
        payload = encode_symbols(self.bundle.integers, s.z, s.j, s.levels, s.prior)
        return self._file(s, payload)

    def _file(self, s: Quantised, payload: bytes, tone: bytes = b"") -> bytes:
        header = self.header(s.levels)
        return write_container(header, s.level_bytes, payload, tone=tone, metadata=self.metadata)

    def header(self, levels: LevelMap) -> Header:
        return Header(
            height_px=self.size[0],
            width_px=self.size[1],
            n_lo=levels.n_lo,
            n_hi=levels.n_hi,
            level_count=levels.level_count,
            integer_digest=self.bundle.integers.digest,
            float_digest=self.bundle.float_digest,
            grey=self.grey,
            resampling=self.resampling,
        )
