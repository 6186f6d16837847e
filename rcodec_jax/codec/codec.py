"""The codec as users meet it."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np

from rcodec_jax.bitstream import read_container
from rcodec_jax.bitstream.metadata import KEYS
from rcodec_jax.codec import decode as decoding
from rcodec_jax.codec import halving
from rcodec_jax.codec.checks import check_process
from rcodec_jax.codec.encode import Encoded
from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.inputs import (
    FileInput,
    ImportanceInput,
    PictureInput,
    file_of,
    importance_of,
    metadata_of,
    picture_of,
)
from rcodec_jax.codec.many import WORKERS, FirstAlone, file_programs, in_order, programs_of
from rcodec_jax.codec.refine import DEFAULT_TUNE, Refiner, Tune
from rcodec_jax.diffusion.schedule import Trajectory
from rcodec_jax.entropy import Limits
from rcodec_jax.errors import UsageError
from rcodec_jax.levels import DEFAULT_STRENGTH
from rcodec_jax.model.bundle import Bundle, load_bundle
from rcodec_jax.model.ends import BALANCED
from rcodec_jax.progress import Progress, no_progress

Dtype = Literal["float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)


class Codec:
    """A model ready to encode and decode; make one with `load`.

    Attributes:
      bundle: the model.
      dtype: of the float networks' computation, "float32" or "bfloat16".
    """

    def __init__(self, bundle: Bundle, *, dtype: Dtype = "float32") -> None:
        if dtype not in DTYPES:
            raise UsageError(f"expected dtype {' or '.join(DTYPES)}, got {dtype!r}")
        self.bundle = bundle
        self.dtype = dtype

    def __repr__(self) -> str:
        card = {"name": "without a name"} | self.card
        return "<rcodec model {name}, {integer_digest}/{float_digest}>".format(**card)

    @property
    def card(self) -> dict[str, Any]:
        """Name, figures and digests of the model."""
        return self.bundle.card | {
            "integer_digest": self.bundle.integers.digest.hex(),
            "float_digest": self.bundle.float_digest.hex(),
        }

    def encode(
        self,
        image: PictureInput,
        *,
        importance: ImportanceInput | None = None,
        quality: float | None = None,
        bpp: float | None = None,
        size_bytes: int | None = None,
        roi_strength: float = DEFAULT_STRENGTH,
        effort: int | None = None,
        tune: Tune = DEFAULT_TUNE,
        resampling: int | None = None,
        metadata: bool | Mapping[str, str] = False,
    ) -> bytes:
        """Encodes a picture.

        Args:
          image: uint8 [H, W, 3], sRGB, any size from 1x1: an array of NumPy, JAX or PyTorch (on
            the CPU); or a Pillow picture or the path of a picture, which are turned upright and
            converted.
          importance: float [H, W] in 0..1; where bits go; or a mask, as a Pillow picture or a path.
            None: everywhere alike.
          quality: 0..100, default 50.
          bpp: budget in bits per pixel of the file, never exceeded.
          size_bytes: budget in bytes, never exceeded. At most one of the three.
          roi_strength: 0..1, how much the importance counts: 0.5 for as much as is worth it in this
            picture (`codec.exchange`); 1 sacrifices the background.
          effort: 1..9, how long to fit the latents to this picture before they are coded: smaller
            files of the same quality, for time at encoding alone (see `descent.STEPS`). None: the
            default, or 1 with a note, for more than `encode.LARGE_PX` pixels and for a model that
            lacks what it takes.
          tune: what effort beyond 1 is for: "mse" for PSNR alone, "balanced" for it and for how
            pictures look, "perceptual" for the latter.
          resampling: 1 to code all pixels, 2 for a picture of half the width and height, which
            decoders enlarge again. None: 2 for a budget that is spent better so (`codec.halving`),
            else 1.
          metadata: True to keep date taken, copyright and artist of a picture that says them (a
            path or a Pillow picture); or what to write (`bitstream.metadata`).

        Returns:
          The file.

        Raises:
          UsageError: bad arguments, a budget below what the model can reach (named), or an effort
            beyond 1 of a model without `training.safetensors`.
        """
        return self.encode_detailed(
            image,
            importance=importance,
            quality=quality,
            bpp=bpp,
            size_bytes=size_bytes,
            roi_strength=roi_strength,
            effort=effort,
            tune=tune,
            resampling=resampling,
            metadata=metadata,
        ).data

    def encode_detailed(
        self,
        image: PictureInput,
        *,
        importance: ImportanceInput | None = None,
        metadata: bool | Mapping[str, str] = False,
        **options: Any,
    ) -> Encoded:
        """`encode`, of the same options, with all that came about on the way.

        Args:
          image, importance, metadata: as for `encode`.
          options: as for `encode`; besides them `rdoq_lambda`, see `codec.quantise.quantise`, and
            `progress`, see `rcodec_jax.progress`, called as latents are refined.

        Raises:
          UsageError: as `encode`.
        """
        picture = picture_of(image)
        notes = list(picture.notes)
        importance = importance_of(importance, picture.pixels.shape[:2], notes)
        encoded = halving.encode(
            self.bundle,
            self._programs,
            picture.pixels,
            importance=importance,
            metadata=metadata_of(metadata, picture),
            refiner=self._refiner,
            **options,
        )
        return dataclasses.replace(encoded, notes=(*notes, *encoded.notes)) if notes else encoded

    def metadata(self, data: FileInput, *, limits: Limits | None = None) -> dict[str, str]:
        """What a file says of its picture: date, copyright and artist, as far as it was told.

        Args:
          data: the file, or its path.
          limits: as for `decode`.

        Raises:
          BitstreamError: a damaged file, or one beyond the limits.
          UsageError: a path that cannot be read.
        """
        found = read_container(file_of(data), limits=limits).metadata
        return {key: found[key] for key in KEYS if key in found}

    def encode_many(
        self,
        images: Iterable[PictureInput],
        *,
        importance: Iterable[ImportanceInput | None] | None = None,
        workers: int = WORKERS,
        **options: Any,
    ) -> Iterator[bytes]:
        """Encodes pictures of any sizes, some at a time; the files are those of `encode`.

        Args:
          images: each as for `encode`; taken as files are, so they may be read on the way.
          importance: one for each picture.
          workers: pictures at a time, each of which takes memory.
          options: as for `encode`, of all of them.

        Yields:
          The files, in order.

        Raises:
          UsageError: as `encode`, in the place of the picture; or not one importance for each.
        """
        first_alone = FirstAlone()

        def work(item: tuple[PictureInput, ImportanceInput | None]) -> bytes:
            picture = picture_of(item[0])
            with first_alone(programs_of(*picture.pixels.shape[:2])):
                return self.encode(picture, importance=item[1], **options)

        yield from in_order(work, _pairs(images, importance), workers=workers)

    def decode(
        self,
        data: FileInput,
        *,
        steps: int | None = None,
        trajectory: Trajectory = "proportional",
        realism: float = BALANCED,
        limits: Limits | None = None,
        progress: Progress = no_progress,
    ) -> np.ndarray:
        """Decodes a file.

        Args:
          data: the file, or its path.
          steps: denoiser evaluations, 1..50; None for the model's default. Few give fidelity.
          trajectory: how the cells' timesteps fall together.
          realism: 0..1, from least error to real detail, part of which is made up; other than
            the default of models that have such decoders.
          limits: what to refuse before anything is allocated.
          progress: see `rcodec_jax.progress`; called after each tile of a large picture.

        Returns:
          uint8 [H, W, 3].

        Raises:
          BitstreamError: damaged, beyond the limits, or of another model.
          UsageError: bad arguments.
        """
        return decoding.decode(
            self.bundle,
            self._programs,
            file_of(data),
            steps=steps,
            trajectory=trajectory,
            realism=realism,
            limits=limits,
            progress=progress,
        )

    def decode_many(
        self, files: Iterable[FileInput], *, workers: int = WORKERS, **options: Any
    ) -> Iterator[np.ndarray]:
        """Decodes files of any sizes, some at a time; the pictures are those of `decode`.

        Args:
          files: each as for `decode`.
          workers: files at a time, each of which takes memory.
          options: as for `decode`, of all of them.

        Yields:
          uint8 [H, W, 3] each, in order.

        Raises:
          BitstreamError, UsageError: as `decode`, in the place of the file.
        """
        first_alone = FirstAlone()

        def work(item: FileInput) -> np.ndarray:
            data = file_of(item)
            with first_alone(file_programs(data)):
                return self.decode(data, **options)

        yield from in_order(work, files, workers=workers)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: it compiles its own programs."""
        return {"bundle": self.bundle, "dtype": self.dtype}

    @property
    def _programs(self) -> Programs:
        check_process()
        return self._compiled

    @functools.cached_property
    def _compiled(self) -> Programs:
        return Programs(self.bundle, dtype=self.dtype)

    @functools.cached_property
    def _refiner(self) -> Refiner:
        return Refiner(self.bundle)


def _pairs(
    images: Iterable[PictureInput], importance: Iterable[ImportanceInput | None] | None
) -> Iterator[tuple[PictureInput, ImportanceInput | None]]:
    if isinstance(images, str | os.PathLike) or hasattr(images, "__array__"):
        raise UsageError("expected a sequence of pictures or paths, got a single one")
    if importance is None:
        yield from ((image, None) for image in images)
        return
    try:
        yield from zip(images, importance, strict=True)
    except ValueError as error:
        raise UsageError("expected one importance for each picture, got another number") from error


def load(model: str | os.PathLike[str] | None = None, *, dtype: Dtype = "float32") -> Codec:
    """Loads a codec.

    Args:
      model: folder of a bundle; None or "shipped" for the one that ships with the package.
      dtype: of the float networks' parameters and computation. "bfloat16" halves memory and is
        fast on accelerators; pictures differ a little, the symbols of a file never.

    Raises:
      BundleError: no bundle there, or a damaged one.
      UsageError: another dtype.
    """
    if not isinstance(model, str | os.PathLike | None):
        raise UsageError(f"expected the folder of a bundle or None, got {type(model).__name__}")
    return Codec(load_bundle(model), dtype=dtype)
