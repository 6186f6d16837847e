"""DISTS and Inception from made state dictionaries: values, batch norms, what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torchsaves import save_safetensors, save_zip, torch  # noqa: F401

from rcodec_jax.cli.main import main
from rcodec_jax.errors import UsageError
from rcodec_jax.export.dists import import_dists
from rcodec_jax.export.inception import fold, import_inception
from rcodec_jax.metrics import dists, inception

pytestmark = pytest.mark.usefixtures("torch")

PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Of the convolutions in torchvision's VGG16."""


def ramp(shape: tuple[int, ...], start: int) -> np.ndarray:
    """Values that tell their places, for less time than random ones."""
    return np.arange(start, start + np.prod(shape), dtype=np.float32).reshape(shape)


def vgg() -> dict[str, np.ndarray]:
    shapes = [s for n, s in dists.expected_shapes().items() if n.endswith("_w")]
    state = {}
    for place, (kh, kw, cin, cout) in zip(PLACES, shapes, strict=True):
        state[f"features.{place}.weight"] = ramp((cout, cin, kh, kw), place)
        state[f"features.{place}.bias"] = ramp((cout,), place)
    return state


def weights_pt() -> dict[str, np.ndarray]:
    return {name: ramp((1, 1475, 1, 1), i) for i, name in enumerate(("alpha", "beta"))}


def stage(place: int) -> int:
    """The stage of the module DISTS that has a convolution: each begins after a pool."""
    return 1 + sum(place > pool for pool in (4, 9, 16, 23))


def test_dists_round_trip(tmp_path: Path, capsys: Any) -> None:
    trunk, weights = vgg(), weights_pt()
    paths = [
        str(save_zip(tmp_path / "vgg16.pth", trunk)),
        str(save_zip(tmp_path / "weights.pt", weights)),
    ]
    words = ["import", "--kind", "dists", *paths, "--out", str(tmp_path), "--json"]
    assert main(words) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["file"] == str(tmp_path / "dists.npz")
    # VGG16 without its classifier has 14,714,688 parameters, says Keras.
    assert done["parameters"] == 14_714_688 + 2 * 1475
    params = dists.Dists.load(tmp_path).params
    kernel = trunk["features.24.weight"]
    assert params["conv5_1_w"][1, 2, 7, 11] == kernel[11, 7, 1, 2]
    np.testing.assert_array_equal(params["conv2_2_b"], trunk["features.7.bias"])
    np.testing.assert_array_equal(params["beta"], weights["beta"].ravel())
    assert main(words) == 2
    assert "exists already (--force" in capsys.readouterr().err


def test_a_whole_dists_module_in_one_file(tmp_path: Path) -> None:
    whole = {
        name.replace("features", f"stage{stage(int(name.split('.')[1]))}"): value
        for name, value in vgg().items()
    }
    whole["mean"] = np.zeros((1, 3, 1, 1), np.float32)
    path = save_safetensors(tmp_path / "whole", whole | weights_pt())
    file, _ = import_dists([path], tmp_path)
    assert dists.Dists.load(file).params["conv3_1_b"][0] == 10


def batch_normed() -> dict[str, np.ndarray]:
    state = {}
    for i, (name, channels, conv) in enumerate(inception.layers()):
        cout = conv.channels
        state[f"{name}.conv.weight"] = ramp((cout, channels, *conv.kernel), i)
        for j, part in enumerate(("weight", "bias", "running_mean", "running_var")):
            state[f"{name}.bn.{part}"] = 1 + ramp((cout,), i + j) / 100
        state[f"{name}.bn.num_batches_tracked"] = np.array(0, np.int64)
    return state | {"fc.bias": np.zeros(1008, np.float32)}


def test_inception_round_trip_and_what_does_not_fit(tmp_path: Path, capsys: Any) -> None:
    state = batch_normed()
    path = save_zip(tmp_path / "pt_inception.pth", state)
    words = ["import", "--kind", "inception", str(path), "--out", str(tmp_path)]
    assert main([*words, "--context", "text"]) == 2
    assert "--context: not valid with --kind inception" in capsys.readouterr().err
    assert main(words) == 0
    assert "inception.npz: Inception V3 for FID/256, 21.77 M parameters" in capsys.readouterr().out
    params = inception.Inception.load(tmp_path).params
    name = "Mixed_6c.branch7x7_2"
    of = {part: state[f"{name}.bn.{part}"][5] for part in ("weight", "bias")}
    mean, variance = (state[f"{name}.bn.running_{part}"][5] for part in ("mean", "var"))
    scale = of["weight"] / np.sqrt(variance + 1e-3)
    expected = state[f"{name}.conv.weight"][5, 3, 0, 6] * scale
    assert params[f"{name}_w"][0, 6, 3, 5] == pytest.approx(expected, rel=1e-5)
    assert params[f"{name}_b"][5] == pytest.approx(of["bias"] - mean * scale, rel=1e-4)

    first = "Conv2d_1a_3x3"
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"fc.bias": np.zeros(1000)}, "got torchvision's own weights, which make no FID"),
        ({f"{first}.bn.bias": None}, rf"expected the tensor {first}.bn.bias \(pt_inception-2015"),
        ({f"{first}.bn.bias": np.zeros(3)}, rf"{first}.bn.bias: expected shape \[32\], got \[3\]"),
        ({f"{first}.bn.bias": np.full(32, np.inf)}, f"{first}.bn.bias: expected finite values"),
        ({f"{first}.bn.running_var": np.full(32, -1.0)}, "running_var: expected at least 0"),
    )
    small = {name: value for name, value in state.items() if name.startswith(first)}
    for change, message in cases:
        changed = {n: v for n, v in (small | change).items() if v is not None}
        with pytest.raises(UsageError, match=message):
            import_inception([save_zip(tmp_path / "bad.pth", changed)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folded_batch_norm_is_the_batch_norm() -> None:
    rng = np.random.default_rng(0)
    kernel, x = rng.normal(size=(3, 3, 4, 5)), rng.normal(size=(1, 6, 7, 4))
    gain, shift, mean = rng.normal(size=(3, 5))
    variance = rng.uniform(0, 0.01, 5)  # where the epsilon matters
    folded, bias = fold(kernel, gain, shift, mean, variance)

    def conv(kernel: np.ndarray) -> np.ndarray:
        x32, kernel32 = (jnp.asarray(a, jnp.float32) for a in (x, kernel))
        dimensions = ("NHWC", "HWIO", "NHWC")
        return np.asarray(
            jax.lax.conv_general_dilated(
                x32, kernel32, (1, 1), "SAME", dimension_numbers=dimensions
            )
        )

    expected = (conv(kernel) - mean) / np.sqrt(variance + 1e-3) * gain + shift
    np.testing.assert_allclose(conv(folded) + bias, expected, rtol=1e-4, atol=1e-4)
