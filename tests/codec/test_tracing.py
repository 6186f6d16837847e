"""Programs kept between processes: the same numbers, no tracing, no harm from bad files."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.codec import tracing
from rcodec_jax.codec.tracing import Program

PARAMS = {"layer": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}
X = np.ones((4, 2), np.float32)


class Network:
    """Counts how often it is traced."""

    def __init__(self) -> None:
        self.traced = 0

    def __call__(self, params: dict, x: jax.Array) -> jax.Array:
        self.traced += 1
        return jnp.tanh(x @ params["layer"]["kernel"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tracing, "_folder", lambda: tmp_path / "programs")
    return tmp_path / "programs"


def expected(x: np.ndarray) -> np.ndarray:
    return np.tanh(x @ PARAMS["layer"]["kernel"])


def test_a_later_process_does_not_trace(folder):
    first, second = Network(), Network()
    np.testing.assert_allclose(Program(first, "key")(PARAMS, X), expected(X), rtol=1e-6)
    again = Program(second, "key")
    np.testing.assert_allclose(again(PARAMS, X), expected(X), rtol=1e-6)
    assert (first.traced, second.traced) == (1, 0)
    # Another shape is another program, found or made when it is met.
    np.testing.assert_allclose(again(PARAMS, X[:2]), expected(X[:2]), rtol=1e-6)
    assert second.traced == 1 and len(list(folder.iterdir())) == 2


def test_results_have_the_structure_that_was_said(folder):
    def function(x: jax.Array, y: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        return x + y, {"less": x - y}

    for _ in range(2):  # made, then read
        program = Program(function, "key", result=(0, {"less": 0}), donated=(0,))
        more, rest = program(jnp.array(X), X)
        np.testing.assert_array_equal(more, 2 * X)
        np.testing.assert_array_equal(rest["less"], 0 * X)


@pytest.mark.parametrize("change", ["key", "sources"])
def test_other_models_and_other_code_are_other_programs(folder, change, monkeypatch):
    first, second = Network(), Network()
    Program(first, "key")(PARAMS, X)
    if change == "sources":
        monkeypatch.setattr(tracing, "_sources", lambda: "other")
    Program(second, "key" if change == "sources" else "other")(PARAMS, X)
    assert second.traced == 1 and len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:99], lambda data: data[:-9] + b"x" * 9]
)
def test_a_damaged_file_is_made_again(folder, damage):
    Program(Network(), "key")(PARAMS, X)
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    first, second = Network(), Network()
    for network in (first, second):
        np.testing.assert_allclose(Program(network, "key")(PARAMS, X), expected(X), rtol=1e-6)
    assert (first.traced, second.traced) == (1, 0)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tracing, "_folder", lambda: tmp_path / "file" / "programs")
    np.testing.assert_allclose(Program(Network(), "key")(PARAMS, X), expected(X), rtol=1e-6)


def test_nothing_is_kept_without_jaxs_cache_or_in_a_bucket(monkeypatch):
    kept_at = Path("/cache") / tracing.FOLDER
    for place, kept in ((None, None), ("gs://bucket/cache", None), ("/cache", kept_at)):
        monkeypatch.setattr(tracing, "_cache_dir", lambda place=place: place)
        assert tracing._folder() == kept


def test_the_code_that_a_program_follows_from_is_there():
    root = Path(tracing.__file__).parents[1]
    assert all((root / name).exists() for name in tracing._SOURCES)


def test_pictures_are_those_without(codec, bundle, tmp_path, monkeypatch):
    pixels = np.random.default_rng(5).integers(0, 256, (30, 44, 3), np.uint8)
    data = codec.encode(pixels, quality=60, effort=1)
    plain = codec.decode(data, steps=1)
    monkeypatch.setattr(tracing, "_folder", lambda: tmp_path)
    np.testing.assert_array_equal(type(codec)(bundle).decode(data, steps=1), plain)
    assert len(list(tmp_path.iterdir())) == 3  # denoiser, its step and decoder
    np.testing.assert_array_equal(type(codec)(bundle).decode(data, steps=1), plain)
