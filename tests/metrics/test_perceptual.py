"""LPIPS: structure with random weights; published figures with RCODEC_LPIPS_DIR set."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics import perceptual
from rcodec_jax.metrics.perceptual import Lpips

LPIPS_DIR = os.environ.get("RCODEC_LPIPS_DIR")

distance = jax.jit(lambda net, a, b: net(a, b))
both = jax.jit(lambda net, a, b: (net(a, b), net.spatial(a, b)))
gradient = jax.jit(jax.grad(lambda net, a, b: net(a, b).sum(), argnums=1))


def random_arrays(net: str, seed: int = 0) -> dict[str, np.ndarray]:
    """He-scaled random weights; linear heads positive, as the trained ones are."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in perceptual.expected_shapes(net).items():
        if name.startswith("lin"):
            arrays[name] = rng.uniform(0, 1, shape).astype(np.float32)
        else:
            fan_in = np.prod(shape[:-1]) if len(shape) == 4 else 100.0
            arrays[name] = rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
    return arrays


@pytest.fixture(scope="module", params=perceptual.NETS)
def lpips(request: pytest.FixtureRequest) -> Lpips:
    return Lpips.from_arrays(random_arrays(request.param), request.param)


def pictures(seed: int, height: int = 40, width: int = 53, count: int = 2) -> jax.Array:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(-1, 1, (count, height, width, 3)), jnp.float32)


def test_zero_for_equal_pictures_symmetric_and_positive(lpips: Lpips) -> None:
    a, b = pictures(1), pictures(2)
    assert distance(lpips, a, b).shape == (2,)
    np.testing.assert_allclose(distance(lpips, a, a), 0, atol=1e-12)
    np.testing.assert_allclose(distance(lpips, a, b), distance(lpips, b, a), rtol=1e-6)
    assert (np.asarray(distance(lpips, a, b)) > 0).all()


def test_distance_grows_with_noise(lpips: Lpips) -> None:
    a, noise = pictures(3) * 0.5, pictures(4)
    values = [
        float(distance(lpips, a, a + amount * noise).mean()) for amount in (0.01, 0.05, 0.2, 0.5)
    ]
    assert values == sorted(values)


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_any_size_from_32_and_the_map_averages_to_about_the_distance(
    lpips: Lpips, size: tuple[int, int]
) -> None:
    a, b = pictures(5, *size), pictures(6, *size)
    plain, spatial = both(lpips, a, b)
    assert spatial.shape == (2, *size)
    np.testing.assert_allclose(spatial.mean(axis=(1, 2)), plain, rtol=0.1)


def test_gradient_is_finite_everywhere(lpips: Lpips) -> None:
    """Also for flat pictures, equal pictures, and values far outside the range."""
    b = pictures(9)
    for a in (pictures(10), b, jnp.zeros_like(b), 1e5 * b):
        assert np.isfinite(gradient(lpips, a, b)).all()
    assert float(jnp.abs(gradient(lpips, pictures(10), b)).max()) > 0


def test_dead_features_give_zero_and_finite_gradient() -> None:
    arrays = {
        k: np.zeros_like(v) if k.startswith("conv1") else v
        for k, v in random_arrays("alex").items()
    }
    net = Lpips.from_arrays(arrays, "alex")
    assert np.isfinite(gradient(net, pictures(1), pictures(2))).all()


def test_feature_shapes_follow_the_published_networks() -> None:
    x = pictures(11, 64, 64, count=1)

    def features(net):
        params = Lpips.from_arrays(random_arrays(net), net).params
        return jax.eval_shape(lambda params, x: perceptual.features(params, x, net), params, x)

    alex = features("alex")
    assert [f.shape[1:] for f in alex] == [
        (15, 15, 64),
        (7, 7, 192),
        (3, 3, 384),
        (3, 3, 256),
        (3, 3, 256),
    ]
    squeeze = features("squeeze")
    sizes, channels = [31, 15, 7, 3, 3, 3, 3], [64, 128, 256, 384, 384, 512, 512]
    assert [f.shape[1:] for f in squeeze] == [
        (s, s, c) for s, c in zip(sizes, channels, strict=True)
    ]
    vgg = perceptual.features(Lpips.from_arrays(random_arrays("vgg"), "vgg").params, x, "vgg")
    sizes, channels = [64, 32, 16, 8, 4], [64, 128, 256, 512, 512]
    assert [f.shape[1:] for f in vgg] == [(s, s, c) for s, c in zip(sizes, channels, strict=True)]


def test_pool_keeps_the_last_partial_window_when_asked() -> None:
    x = jnp.arange(6.0).reshape(1, 6, 1, 1) * jnp.ones((1, 6, 6, 1))
    np.testing.assert_array_equal(perceptual._max_pool(x)[0, :, 0, 0], [2, 4])
    np.testing.assert_array_equal(perceptual._max_pool(x, ceil=True)[0, :, 0, 0], [2, 4, 5])
    np.testing.assert_array_equal(perceptual._max_pool(x[:, :5], window=2)[0, :, 0, 0], [1, 3])


def test_pool_has_the_gradient_of_windows() -> None:
    """Where no two values are equal."""
    x = jnp.asarray(np.random.default_rng(0).permutation(8 * 9).reshape(1, 8, 9, 1), jnp.float32)

    def windows(x):
        pooled = (1, 3, 3, 1), (1, 2, 2, 1), "VALID"
        return jnp.sum(jnp.sin(jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *pooled)))

    found = jax.grad(lambda x: jnp.sum(jnp.sin(perceptual._max_pool(x))))(x)
    np.testing.assert_allclose(found, jax.grad(windows)(x), atol=1e-6)


def test_load_round_trip_and_clear_errors(tmp_path: Path) -> None:
    arrays = random_arrays("alex")
    np.savez(tmp_path / "lpips_alex.npz", allow_pickle=False, **arrays)
    a, b = pictures(1), pictures(2)
    expected = distance(Lpips.from_arrays(arrays, "alex"), a, b)
    for path in (tmp_path, tmp_path / "lpips_alex.npz"):
        np.testing.assert_array_equal(distance(Lpips.load(path), a, b), expected)
    with pytest.raises(UsageError, match="no LPIPS weights .* --kind lpips"):
        Lpips.load(tmp_path, "squeeze")
    with pytest.raises(UsageError, match="holds LPIPS alex, expected squeeze"):
        Lpips.load(tmp_path / "lpips_alex.npz", "squeeze")
    whole = (tmp_path / "lpips_alex.npz").read_bytes()
    for junk in (b"not a zip", b"", whole[:500], whole[:-100]):
        (tmp_path / "junk.npz").write_bytes(junk)
        with pytest.raises(UsageError, match="not a readable"):
            Lpips.load(tmp_path / "junk.npz")
    with pytest.raises(UsageError, match="lin4"):
        Lpips.from_arrays({k: v for k, v in arrays.items() if k != "lin4"}, "alex")
    with pytest.raises(UsageError, match="must be one of"):
        perceptual.expected_shapes("resnet")


def test_bad_inputs_are_named(lpips: Lpips) -> None:
    with pytest.raises(UsageError, match="one shape"):
        lpips(pictures(1), pictures(1)[:, :-1])
    with pytest.raises(UsageError, match="at least 32"):
        lpips(pictures(1, 31, 40), pictures(1, 31, 40))


@pytest.mark.skipif(not LPIPS_DIR, reason="RCODEC_LPIPS_DIR is not set: no real LPIPS weights")
@pytest.mark.parametrize(
    ("net", "expected"), [("alex", (0.7219, 0.1376)), ("squeeze", (0.7110, 0.1479))]
)
def test_published_example(net: str, expected: tuple[float, float]) -> None:
    folder = Path(str(LPIPS_DIR))
    lpips = Lpips.load(folder, net)

    def read(name: str) -> np.ndarray:
        with Image.open(folder / "lpips_example" / f"{name}.png") as image:
            return np.asarray(image.convert("RGB"), np.float32)[None] / 127.5 - 1

    values = [float(lpips(jnp.asarray(read("ref")), jnp.asarray(read(n)))[0]) for n in ("p0", "p1")]
    np.testing.assert_allclose(values, expected, atol=6e-5)
