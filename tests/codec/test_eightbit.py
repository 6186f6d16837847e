"""Kernels in 8 bits: near what they were, half the bytes, and no damage gets past loading."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from rcodec_jax.config import to_dict
from rcodec_jax.errors import BundleError, UsageError
from rcodec_jax.model import bundle as bundles
from rcodec_jax.model.bundle import FLOAT, MANIFEST, Bundle, load_bundle, save_bundle
from rcodec_jax.model.eightbit import SCALE, is_eligible, quantise, restore
from rcodec_jax.model.trained import load_trained
from rcodec_jax.model.trees import flatten

KERNEL = "decoder/conv_in/conv/kernel"


@pytest.fixture
def kernel() -> np.ndarray:
    """[3,3,8,96], its channels of very different magnitude, one of zeros."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_t(4, (3, 3, 8, 96)) * np.logspace(-9, 3, 96)
    kernel[..., 7] = 0
    return kernel.astype(np.float32)


@pytest.fixture
def large(bundle) -> Bundle:
    """The nano model with one kernel that is large enough for 8 bits."""
    return with_kernel(bundle, np.random.default_rng(1).normal(size=(3, 3, 16, 64)))


def with_kernel(bundle: Bundle, kernel: np.ndarray) -> Bundle:
    decoder = bundle.params["decoder"]
    conv_in = {"conv": decoder["conv_in"]["conv"] | {"kernel": kernel.astype(np.float16)}}
    params = bundle.params | {"decoder": decoder | {"conv_in": conv_in}}
    return Bundle(**(vars(bundle) | {"params": params}))


def save(bundle: Bundle, folder: Path, bits: int) -> bytes:
    """Writes a bundle and returns its float part."""
    parts = (bundle.config, bundle.integers, bundle.params, bundle.shift, bundle.scale)
    save_bundle(folder, *parts, bundle.card, bits=bits)
    return (folder / FLOAT).read_bytes()


def test_an_element_is_half_a_step_off_unless_it_is_clipped(kernel) -> None:
    values, scales = quantise(kernel)
    assert values.dtype == np.int8 and scales.dtype == np.float16 and scales.shape == (96,)
    assert values.min() >= -127
    step = scales.astype(np.float32)
    error = np.abs(restore(values, scales) - kernel)
    bound = np.maximum(step / 2, np.abs(kernel) - 127 * step)
    assert (error <= bound * 1.0001).all() and not error[..., 7].any()
    # Steps may clip what is rare where that leaves less error in all. Channels whose steps float16
    # hardly holds, all of them below 1e-4, are only held to the bound above.
    channels = (0, 1, 2)
    spread = np.sqrt(np.square(kernel).mean(channels))
    assert (np.sqrt(np.square(error).mean(channels)) <= 0.02 * spread)[40:].all()
    plain = np.abs(kernel).max(channels) / 127
    worse = np.abs(np.rint(kernel / np.where(plain, plain, 1)) * plain - kernel)
    assert np.square(error[..., 40:]).sum() < np.square(worse[..., 40:]).sum()


def test_what_is_on_the_grid_stays(kernel) -> None:
    values, scales = quantise(kernel)
    again, same = quantise(restore(values, scales))
    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(same, scales)
    # halves lie between: the even one of both neighbours
    column = np.array([127, 0.5, 1.5, -2.5], np.float32)[:, None] * 2.0**-6
    np.testing.assert_array_equal(quantise(column)[0][:, 0], [127, 0, 2, -2])


def test_only_large_kernels_off_the_linear_path_are_eligible() -> None:
    assert is_eligible(KERNEL, (3, 3, 16, 64)) and is_eligible("unet/a/linear/kernel", (64, 64))
    for part in ("encoder", "decoder", "decoder_realism"):
        assert not is_eligible(f"{part}/linear/kernel", (192, 64))
    assert not is_eligible("decoder/conv_in/conv/bias", (8192,))
    assert not is_eligible("decoder/norm/scale", (64, 64))
    assert not is_eligible(KERNEL, (3, 3, 8, 48))
    assert not is_eligible(KERNEL, (71, 71))  # would leave the scales behind it at an odd byte


def test_a_bundle_in_8_bits(large, tmp_path) -> None:
    data = save(large, tmp_path / "8", 8)
    again = load_bundle(tmp_path / "8")
    assert (large.bits, again.bits) == (16, 8)
    stored = safetensors.numpy.load(data)
    assert stored[KERNEL].dtype == np.int8 and stored[f"{KERNEL}{SCALE}"].dtype == np.float16
    found, expected = flatten(again.params), flatten(large.params)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        eight = stored[name].dtype == np.int8
        assert eight == is_eligible(name, value.shape)
        assert found[name].dtype == (np.float32 if eight else np.float16)
        # In 8 bits what a reader that knows only the definition makes of the stored bytes.
        value = stored[name] * stored[f"{name}{SCALE}"].astype(np.float32) if eight else value
        np.testing.assert_array_equal(found[name], value)
    assert save(again, tmp_path / "again", 8) == data
    assert again.float_digest == load_bundle(tmp_path / "again").float_digest
    with pytest.raises(UsageError, match="8 or 16 bits, got 4"):
        save(large, tmp_path / "4", 4)


def test_the_shipped_model_is_half_of_what_it_is_in_16_bits(tmp_path) -> None:
    shipped = load_bundle("shipped")
    whole = (bundles.shipped_bundle() / FLOAT).read_bytes()
    manifest = json.loads((bundles.shipped_bundle() / MANIFEST).read_text())
    assert shipped.float_digest.hex() == manifest["float_digest"] and shipped.bits == 8
    assert save(shipped, tmp_path / "8", 8) == whole
    assert len(whole) < 0.52 * len(save(shipped, tmp_path / "16", 16))


def test_any_bits_change_the_digest(large, tmp_path) -> None:
    kernel = large.params["decoder"]["conv_in"]["conv"]["kernel"]
    kernels = (kernel, np.roll(kernel, 1), 2 * kernel)  # the last has other scales alone
    digests = set()
    for i, changed in enumerate(kernels):
        save(with_kernel(large, changed), tmp_path / str(i), 8)
        digests.add(load_bundle(tmp_path / str(i)).float_digest)
    assert len(digests) == 3


def test_an_optional_part_is_stored_where_there_is_one(large, tmp_path) -> None:
    part = "decoder_realism"
    save(large, tmp_path / "without", 8)
    assert part not in load_bundle(tmp_path / "without").params
    for bits in (8, 16):
        folder = tmp_path / str(bits)
        both = Bundle(**(vars(large) | {"params": large.params | {part: large.params["decoder"]}}))
        save(both, folder, bits)
        params = load_bundle(folder).params
        expected = flatten(params["decoder"])
        assert flatten(params[part]).keys() == expected.keys()
        for name, value in flatten(params[part]).items():
            np.testing.assert_array_equal(value, expected[name])
        # Training on goes from the model itself.
        assert part not in load_trained(folder, entropy=False).params


def scales(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict], object]:
    name = f"{KERNEL}{SCALE}"
    return lambda tensors: tensors.update({name: change(tensors[name])})


def replaced(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[3] = value
    return array


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors: tensors.pop(f"{KERNEL}{SCALE}"), f"{KERNEL}: 8 bits without scales"),
        (lambda tensors: tensors.pop(KERNEL), f"{KERNEL}{SCALE}: scales of no tensor"),
        (
            lambda tensors: tensors.update({KERNEL: np.zeros((3, 3, 16, 64), np.float16)}),
            f"{KERNEL}{SCALE}: scales of no tensor",
        ),
        (scales(lambda scale: scale.astype(np.float32)), f"{KERNEL}: expected a kernel and"),
        (scales(lambda scale: np.ones(64, np.int8)), f"{KERNEL}: expected a kernel and"),
        (scales(lambda scale: scale[:-1]), f"{KERNEL}: expected a kernel and"),
        (scales(lambda scale: scale[None]), f"{KERNEL}: expected a kernel and"),
        (scales(lambda scale: replaced(scale, np.nan)), f"{KERNEL}{SCALE}: expected finite"),
        (scales(lambda scale: replaced(scale, np.inf)), f"{KERNEL}{SCALE}: expected finite"),
        (scales(lambda scale: replaced(scale, -1)), f"{KERNEL}{SCALE}: expected finite"),
        (
            lambda tensors: tensors.update({KERNEL: np.zeros((3, 64), np.int32)}),
            f"{KERNEL}: expected float16 or int8, got int32",
        ),
        (
            lambda tensors: tensors.update(
                {"latent/shift": tensors["latent/shift"].view(np.int32)}
            ),
            "latent shift and scale in float32",
        ),
    ],
)
def test_damage_is_refused_where_the_digest_was_made_to_fit(
    large, tmp_path, damage, message
) -> None:
    tensors = safetensors.numpy.load(save(large, tmp_path, 8))
    damage(tensors)
    (tmp_path / FLOAT).write_bytes(safetensors.numpy.save(tensors))
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    _, digest = bundles._read_floats(tmp_path / FLOAT, to_dict(large.config))
    manifest["float_digest"] = digest.hex()
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError) as error:
        load_bundle(tmp_path)
    assert message in str(error.value) and str(tmp_path / FLOAT) in str(error.value)
