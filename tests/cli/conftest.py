"""A codec that keeps the picture as it is, to test the command around it."""

from __future__ import annotations

import dataclasses
import io
import os
from types import SimpleNamespace

import jax  # noqa: F401  its import draws unseeded numbers, which tests may not
import numpy as np
import pytest
from PIL import Image

import rcodec_jax
from rcodec_jax.bitstream import Header, read_container, write_container


@dataclasses.dataclass
class FakeEncoded:
    data: bytes
    bpp: float
    base_node: int = 7
    notes: tuple[str, ...] = ("a note",)
    cell_bits: np.ndarray | None = None
    header: Header | None = None


@dataclasses.dataclass
class FakeCodec:
    """Records how it was loaded and called; its payload is a PNG file."""

    model: str | None = None
    dtype: str = "float32"
    calls: list[dict] = dataclasses.field(default_factory=list)
    said: dict[str, str] = dataclasses.field(default_factory=dict)
    card: dict = dataclasses.field(default_factory=lambda: {"name": "fake"})
    bundle: SimpleNamespace = dataclasses.field(
        default_factory=lambda: SimpleNamespace(config=SimpleNamespace(steps=2))
    )

    def encode_detailed(self, image, importance=None, **options) -> FakeEncoded:
        self.calls.append({"image": image, "importance": importance, **options})
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        header = Header(*image.shape[:2], 0, 0, 1, b"no model", b"none")
        data = write_container(header, b"", buffer.getvalue())
        bits = np.ones((-(-image.shape[0] // 8), -(-image.shape[1] // 8)))
        return FakeEncoded(data, len(data) * 8 / image[..., 0].size, cell_bits=bits, header=header)

    def encode(self, image, importance=None, **options) -> bytes:
        return self.encode_detailed(image, importance, **options).data

    def metadata(self, data, limits=None) -> dict[str, str]:
        return self.said

    def decode(
        self, data, steps=None, trajectory="proportional", realism=0.5, limits=None, progress=None
    ) -> np.ndarray:
        self.calls.append({"steps": steps, "trajectory": trajectory, "realism": realism})
        return np.asarray(Image.open(io.BytesIO(read_container(data).payload)))


@pytest.fixture
def codec(monkeypatch, tmp_path) -> FakeCodec:
    """The codec that the command will load; caches go to a temporary folder."""
    fake = FakeCodec()

    def load(model=None, *, dtype="float32") -> FakeCodec:
        fake.model, fake.dtype = model, dtype
        return fake

    monkeypatch.setitem(rcodec_jax.__dict__, "load", load)
    return fake


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    """The command changes the environment; the tests after it must not see that."""
    before = dict(os.environ)
    monkeypatch.setenv("RCODEC_CACHE_DIR", str(tmp_path / "cache"))
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def pixels() -> np.ndarray:
    """A picture, uint8 [37,50,3]."""
    return np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)


@pytest.fixture
def photo(tmp_path, pixels) -> str:
    """The picture as a file."""
    path = str(tmp_path / "photo.png")
    Image.fromarray(pixels).save(path)
    return path
