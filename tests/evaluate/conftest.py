"""A stand-in for the codec: JPEG with the codec's calls, and pictures to run it on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from rcodec_jax.errors import UsageError


class FakeCodec:
    """JPEG behind `encode`/`decode`; importance blurs what does not matter before coding.

    With `shrink` every file but the smallest search result loses some of its allowed bytes, as a
    search on too few probes would.
    """

    def __init__(self, shrink: float = 1.0) -> None:
        self.decode_options: list[dict[str, Any]] = []
        self.shrink = shrink

    def encode(
        self,
        image: np.ndarray,
        importance: np.ndarray | None = None,
        quality: float | None = None,
        bpp: float | None = None,
        size_bytes: int | None = None,
        roi_strength: float = 1.0,
        **encoding: Any,
    ) -> bytes:
        pixels = image
        if importance is not None:
            blurred = ndimage.gaussian_filter(image.astype(np.float64), (4, 4, 0))
            weight = 1 - roi_strength * (1 - importance[..., None])
            pixels = np.clip(np.round(weight * image + (1 - weight) * blurred), 0, 255)
            pixels = pixels.astype(np.uint8)
        if quality is not None:
            return self._jpeg(pixels, int(quality))
        budget = size_bytes if size_bytes is not None else int(bpp * image[..., 0].size / 8)  # type: ignore[operator]
        if importance is not None:
            budget = int(budget * self.shrink)
        files = [self._jpeg(pixels, q) for q in range(1, 96)]
        fitting = [data for data in files if len(data) <= budget]
        if not fitting:
            raise UsageError(f"expected at least {len(files[0])} bytes, got {budget}")
        # Padding after the end of the JPEG: the rate is met as exactly as a real search would.
        return max(fitting, key=len).ljust(budget, b"\0")

    def decode(self, data: bytes, **options: Any) -> np.ndarray:
        self.decode_options.append(options)
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    @staticmethod
    def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
        return buffer.getvalue()


def picture(seed: int, height: int = 170, width: int = 186) -> np.ndarray:
    """Smooth shapes with some texture: codes like a photograph, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    x = sum(
        gain * ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (s, s, 0.5)) * s
        for s, gain in ((20, 3.0), (5, 1.0), (1.2, 0.4))
    )
    return np.clip(128 + 40 * np.asarray(x), 0, 255).astype(np.uint8)


@pytest.fixture
def fake_codec() -> FakeCodec:
    return FakeCodec()


@pytest.fixture
def sloppy_codec() -> FakeCodec:
    return FakeCodec(shrink=0.9)


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, two of them with masks: one fair object, one far too small."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, name in enumerate(("a.png", "b.png", "sub/c.png")):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(i)).save(path)
    labels = np.zeros((170, 186), np.uint8)
    labels[30:130, 40:120] = 1
    labels[140:160, 140:160] = 2
    Image.fromarray(labels).save(folder / "a_inst.png")
    Image.fromarray((labels == 2).astype(np.uint8) * 255).save(folder / "b_mask.png")
    return folder
