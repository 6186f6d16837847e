"""Refinement: a better objective, the same bytes each time, budgets kept, tiles like the whole."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.codec import refine
from rcodec_jax.codec.codec import Codec
from rcodec_jax.codec.quantise import quantise
from rcodec_jax.codec.refine import Refiner
from rcodec_jax.config.train import MAX_REFINE
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import dither_indices, dither_values
from rcodec_jax.errors import UsageError
from rcodec_jax.model import descent, structure
from rcodec_jax.model.bundle import TRAINING, Bundle
from rcodec_jax.model.networks import LevelInputs, Networks
from rcodec_jax.model.relaxed import Dithered, code_latent
from rcodec_jax.model.structure import structural_distance
from rcodec_jax.ops.pixels import to_signed
from rcodec_jax.regions.levelmap import LevelMap, cell_shape, uniform_level_map
from rcodec_jax.train.step.descended import descended

NODE = 300


@pytest.fixture(scope="module")
def face(astronaut: np.ndarray) -> np.ndarray:
    """uint8 [75, 122, 3]: no side is a whole number of cells."""
    return np.ascontiguousarray(astronaut[60:135, 170:292])


def start(codec: Codec, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, LevelMap]:
    """What refinement starts from: y, z and a uniform level map."""
    levels = uniform_level_map(*cell_shape(*image.shape[:2]), node=NODE)
    y = codec._programs.latent(image)
    return y, codec._programs.hyper(y, levels), levels


def test_effort_one_is_the_encoder_alone(codec, face) -> None:
    encoded = codec.encode_detailed(face, quality=70, effort=1)
    s = encoded.symbols
    plain = quantise(codec.bundle, codec._programs, codec._programs.latent(face), s.levels)
    np.testing.assert_array_equal(s.z, plain.z)
    np.testing.assert_array_equal(s.j, plain.j)
    for tune in refine.TUNES:
        assert codec.encode(face, quality=70, effort=1, tune=tune) == encoded.data


def test_same_options_same_bytes_and_any_decoder(codec, face) -> None:
    seen = []
    options = dict(quality=70, effort=2, tune="mse")
    first = codec.encode_detailed(face, **options, progress=lambda *step: seen.append(step))
    again = codec.encode(face, **options)
    assert first.data == again != codec.encode(face, quality=70, effort=1)
    steps = [step for step in seen if step[2] == "refining"]
    assert steps == [(i + 1, descent.STEPS[1], "refining") for i in range(descent.STEPS[1])]
    assert codec.decode(first.data).shape == face.shape


@pytest.mark.parametrize("tune, steps", [("mse", 6), ("perceptual", 6), ("mse", 20)])
def test_the_objective_falls(codec, face, tune, steps) -> None:
    """The bits and the error of the relaxed code, both by hand, at the picture's own cells."""
    y, z, levels = start(codec, face)
    refiner = codec._refiner
    found = refiner(face, y, z, levels, steps=steps, tune=tune)
    assert [a.dtype for a in found] == [np.float32, np.int32]
    assert [a.shape for a in found] == [y.shape, z.shape]
    before, after = (objective(refiner, face, *values, levels, tune) for values in ((y, z), found))
    assert after < before * 0.995


def objective(refiner, image, y, z, levels, tune) -> float:
    """Objective of refinement from its definition, on the bucket of the picture."""
    bundle = refiner._bundle
    height, width = y.shape[:2]

    def extend(a: np.ndarray, h: int, w: int) -> np.ndarray:
        pad = [(0, h - a.shape[0]), (0, w - a.shape[1])] + [(0, 0)] * (a.ndim - 2)
        return np.pad(a, pad, mode="symmetric")

    h, w = levels.level_map.shape
    y = extend(y[:h, :w], height, width)
    full = extend(z.astype(np.float32), height // 4, width // 4)
    inputs = LevelInputs.of(
        jnp.zeros((1, height, width), jnp.int32), jnp.full((1, 16), NODE, jnp.int32)
    )
    networks = Networks(bundle.config, folded=True)
    points = tuple(((np.arange(8) + 0.5) / 8 - 0.5).tolist())

    @jax.jit
    def run(params, y, z):
        coded = code_latent(
            networks, params, y, z, inputs, quantiser=Dithered(0.0, points)
        )  # fmt: skip
        shift, scale = (a.reshape(1, 1, 1, -1) for a in (bundle.shift, bundle.scale))
        return coded, networks.decode(params, coded.clean / scale + shift)

    coded, whole = run(refiner._params, y[None], full[None])
    decoded = np.asarray(whole)[0, : image.shape[0]]
    original = image / 127.5 - 1.0
    bits = float(coded.bits_y[0, :h, :w].sum() + coded.bits_z[0, : z.shape[0], : z.shape[1]].sum())
    snr = float(coded.alpha_bar.mean() / (1 - coded.alpha_bar.mean()))
    squared = np.square(decoded[:, : image.shape[1]] - original).mean()
    total = (
        descent.RATE_WEIGHTS[tune] * bits / image[..., 0].size + descent.MSE_WEIGHT * snr * squared
    )
    if weight := descent.STRUCTURE_WEIGHTS[tune]:
        wide = extend(image, 8 * height, 8 * width)[None] / 127.5 - 1.0
        own = np.zeros((1, 8 * height, 8 * width, 1), np.float32)
        own[:, : image.shape[0], : image.shape[1]] = 1.0
        measure = functools.partial(structural_distance, texture=descent.TEXTURE)
        distance = jax.jit(measure)(jnp.asarray(wide, jnp.float32), whole, jnp.asarray(own))
        total += weight * math.sqrt(snr) * float(distance) / image[..., 0].size
    return total


def test_training_refines_by_short_descents_alone() -> None:
    assert MAX_REFINE == descent.SHORT


def test_training_refines_as_encoders_do(codec, astronaut) -> None:
    """The latents that a training step's decoder is given are those of a file, of this dither."""
    image = np.ascontiguousarray(astronaut[:128, 100:228])  # no extension, which training has not
    y, z, levels = start(codec, image)
    found = codec._refiner(image, y, z, levels, steps=2)[0]
    bundle = codec.bundle
    shift, scale = (a.reshape(1, 1, 1, -1) for a in (bundle.shift, bundle.scale))
    params = codec._refiner._params | {"hyper_analysis": bundle.params["hyper_analysis"]}
    inputs = LevelInputs.of(
        jnp.asarray(levels.level_map[None]), jnp.asarray(levels.padded_nodes[None])
    )
    dither = dither_values(dither_indices(*y.shape))[None].astype(np.float32)

    @jax.jit
    def run(params, y, image):
        return descended(
            Networks(bundle.config, folded=True), params, y, to_signed(image), inputs, dither,
            lambda y: y / scale + shift, 2,
        )  # fmt: skip

    other = np.asarray(run(params, y[None], image[None]))[0]
    assert np.abs(found - y).max() > 0.1
    np.testing.assert_allclose(other, found, atol=2e-3)


@pytest.mark.parametrize("node", [200, 500])
def test_the_first_step_is_a_share_of_the_quantisers(codec, face, node) -> None:
    """Adam divides the gradient by its own size, so each channel moves by the learning rate."""
    y = codec._programs.latent(face)
    levels = uniform_level_map(*cell_shape(*face.shape[:2]), node=node)
    moved = codec._refiner(face, y, codec._programs.hyper(y, levels), levels, steps=1)[0] - y
    h, w = levels.level_map.shape
    size = np.sqrt(np.square(moved[:h, :w]).mean(axis=(0, 1)))
    expected = descent.schedule(1).rate(0) * 2.0 ** -node_table("scaled_linear").log2_scale[node]
    np.testing.assert_allclose(size, expected, rtol=0.01)


def test_what_is_beyond_the_picture_does_not_matter(codec, face) -> None:
    """Neither the encoder's latent of the extension nor its pixels reach the symbols."""
    y, z, levels = start(codec, face)
    h, w = levels.level_map.shape
    other = y.copy()
    other[h:], other[:, w:] = 9.0, -9.0
    found, again = (codec._refiner(face, a, z, levels, steps=2, tune="mse") for a in (y, other))
    np.testing.assert_array_equal(found[0][:h, :w], again[0][:h, :w])
    np.testing.assert_array_equal(found[1], again[1])


@pytest.mark.slow
def test_tiles_are_like_the_whole(codec, astronaut) -> None:
    """Away from the seams nothing tells that there were tiles; at them, little does."""
    image = np.ascontiguousarray(astronaut[:128, :640])
    y, z, levels = start(codec, image)
    whole, _ = codec._refiner(image, y, z, levels, steps=3, tune="mse")
    seen = []
    tiled, _ = Refiner(codec.bundle, tile=48, halo=16)(
        image, y, z, levels, steps=3, tune="mse", progress=lambda *a: seen.append(a[:2])
    )
    moved = np.abs(whole - y).mean()
    assert np.abs(tiled - whole).mean() < 0.2 * moved
    assert seen[-1] == (len(seen), len(seen)) and len(seen) > 3


def test_where_the_outcome_is_worse_nothing_changes(codec, face, monkeypatch) -> None:
    y, z, levels = start(codec, face)
    wild = descent.Schedule(2, 5.0, 5.0, noise=1.0, hyper=1.0)
    monkeypatch.setattr(refine, "schedule", lambda steps: wild)
    same = codec._refiner(face, y, z, levels, steps=2, tune="mse")
    np.testing.assert_array_equal(same[0], y)
    np.testing.assert_array_equal(same[1], z)


@pytest.mark.parametrize("with_map", [False, True])
def test_budgets_are_kept(codec, face, with_map) -> None:
    importance = None
    if with_map:
        importance = np.zeros(face.shape[:2], np.float32)
        importance[20:50, 30:90] = 1
    low, high = (len(codec.encode(face, quality=q, effort=1)) for q in (10, 90))
    for target in (low + (high - low) // 3, low + 2 * (high - low) // 3):
        data = codec.encode(face, size_bytes=target, effort=2, tune="mse", importance=importance)
        assert target - max(0.02 * target, 16) <= len(data) <= target


def test_budget_below_reach_is_named(codec, face) -> None:
    with pytest.raises(UsageError, match="expected a"):
        codec.encode(face, size_bytes=20, effort=2, tune="mse")


@pytest.mark.parametrize("effort", [0, 10, 2.5, True, "3"])
def test_wrong_efforts(codec, face, effort) -> None:
    with pytest.raises(UsageError, match=r"effort in 1\.\.9"):
        codec.encode(face, effort=effort)


def test_wrong_tune(codec, face) -> None:
    with pytest.raises(UsageError, match="expected tune mse, balanced or perceptual, got 'ssim'"):
        codec.encode(face, tune="ssim")


def test_model_without_what_training_needs(bundle: Bundle, face, tmp_path) -> None:
    bare = Codec(dataclasses.replace(bundle, folder=tmp_path))
    encoded = bare.encode_detailed(face, quality=70)
    assert encoded.data == bare.encode(face, quality=70, effort=1)
    assert any(TRAINING in note and "effort 1" in note for note in encoded.notes)
    with pytest.raises(UsageError, match=TRAINING):
        bare.encode(face, quality=70, effort=2)


def test_structure_knows_equals_and_weights() -> None:
    """Zero for equal pictures, linear in the weight, deaf to a change of tone."""
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.uniform(-1, 1, (1, 32, 40, 3)), jnp.float32) for _ in range(2))
    weight = jnp.ones((1, 32, 40, 1))
    distance = jax.jit(structural_distance)
    far = distance(a, b, weight)
    assert far > 32 * 40
    np.testing.assert_allclose(distance(a, b, 3 * weight), 3 * far, rtol=1e-5)
    np.testing.assert_allclose(distance(a, a + 0.3, weight), 0, atol=1e-2)
    assert distance(a, a, weight) < 1e-6


def test_structure_is_the_farther_the_less_texture_is_left() -> None:
    """Grain that is not the original's is nearer to it the more it is as strong; none is worst."""
    rng = np.random.default_rng(0)
    a, other = (rng.standard_normal((1, 32, 32, 3)).astype(np.float32) * 0.2 for _ in range(2))
    distance = jax.jit(
        functools.partial(structural_distance, weight=jnp.ones((1, 32, 32, 1)), texture=1.0)
    )
    none, faint, alike, strong = (float(distance(a, k * other)) for k in (0.0, 0.3, 1.0, 3.0))
    assert alike < faint < none and alike < strong


def test_blur_is_the_mean_of_25_pixels_with_edges_repeated() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 8, 12)).astype(np.float32)
    wide = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(wide, (5, 5), axis=(2, 3))
    np.testing.assert_allclose(structure._blur(x), windows.mean(axis=(4, 5)), atol=1e-6)


def test_defaults_agree() -> None:
    """What the command says of its default is what the library does."""
    from rcodec_jax.cli import arguments

    assert arguments.TUNES == refine.TUNES
    assert len(descent.STEPS) == 9 and descent.STEPS[0] == 0
    assert f"{refine.DEFAULT_EFFORT}; 1 above 4 megapixels" in inspect.getsource(arguments)
