"""LPIPS weights from files of torch.save and safetensors; the pickles are made here, without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchsaves import SAVERS, Stored, pickled, save_legacy, save_zip, torch  # noqa: F401

from rcodec_jax.cli.main import main
from rcodec_jax.errors import UsageError
from rcodec_jax.export.lpips import import_lpips
from rcodec_jax.export.torchfile import TorchFile
from rcodec_jax.metrics.perceptual import NETS, Lpips, expected_shapes

pytestmark = pytest.mark.usefixtures("torch")

# Where torchvision's `features` have the convolutions, written down a second time.
PLACES = {
    "alex": [0, 3, 6, 8, 10],
    "vgg": [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
}


def random_arrays(net: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = expected_shapes(net).items()
    return {name: rng.random(shape, np.float32) for name, shape in shapes}


def published(net: str, arrays: dict[str, np.ndarray]) -> tuple[dict, dict]:
    """The same as two state dictionaries: of torchvision's network, and of the heads."""
    backbone, heads = {}, {}
    convolutions = [name[:-2] for name in arrays if name.endswith("_w")]
    for i, name in enumerate(convolutions):
        if net == "squeeze":
            place = "0" if name == "conv1" else name.removeprefix("fire").replace("_", ".", 1)
        else:
            place = str(PLACES[net][i])
        kernel = arrays[f"{name}_w"].transpose(3, 2, 0, 1)
        backbone[f"features.{place}.weight"] = np.ascontiguousarray(kernel)
        backbone[f"features.{place}.bias"] = arrays[f"{name}_b"]
    backbone["classifier.1.weight"] = np.zeros((3, 2), np.float32)  # LPIPS has no use for it
    for i in range(sum(name.startswith("lin") for name in arrays)):
        heads[f"lin{i}.model.1.weight"] = arrays[f"lin{i}"].reshape(1, -1, 1, 1)
    return backbone, heads


@pytest.mark.parametrize(
    ("net", "kind"), [("alex", "legacy"), ("squeeze", "safetensors"), ("vgg", "zip")]
)
def test_round_trip(net: str, kind: str, tmp_path: Path, capsys: Any) -> None:
    arrays = random_arrays(net)
    backbone, heads = published(net, arrays)
    paths = [
        str(SAVERS[kind](tmp_path / "backbone.pth", backbone)),
        str(save_legacy(tmp_path / "heads.pth", heads)),
    ]
    out = tmp_path / "weights"
    assert main(["import", "--kind", "lpips", *paths, "--out", str(out), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["net"] == net and done["file"] == str(out / f"lpips_{net}.npz")
    assert done["parameters"] == sum(value.size for value in arrays.values())
    params = Lpips.load(out, net).params
    assert set(params) == set(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(params[name], value, err_msg=name)
    assert main(["import", "--kind", "lpips", *paths, "--out", str(out)]) == 2
    assert "exists already (--force" in capsys.readouterr().err
    assert main(["import", "--kind", "lpips", *paths, "--out", str(out), "--force"]) == 0


def test_a_whole_lpips_module_in_one_file(tmp_path: Path) -> None:
    arrays = random_arrays("alex")
    backbone, heads = published("alex", arrays)
    del backbone["classifier.1.weight"]
    slices = {name.replace("features", "net.slice2"): value for name, value in backbone.items()}
    doubled = {f"lins.{i}.model.1.weight": value for i, value in enumerate(heads.values())}
    shift = {"scaling_layer.shift": np.zeros((1, 3, 1, 1), np.float32)}
    whole = save_zip(tmp_path / "whole.pth", shift | slices | heads | doubled)
    file, net, _ = import_lpips([whole], tmp_path)
    assert net == "alex"
    np.testing.assert_array_equal(Lpips.load(file).params["conv5_w"], arrays["conv5_w"])


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_any_dtype_and_order_in_memory(save: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    arrays = {
        "half": rng.random((2, 3)).astype(np.float16),
        "double": rng.random(5),
        "turned": np.asfortranarray(rng.random((3, 4, 2)).astype(np.float32)),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
    }
    file = TorchFile(save(tmp_path / "a.pth", arrays))
    assert file.shapes == {name: value.shape for name, value in arrays.items()}
    for name, value in arrays.items():
        np.testing.assert_array_equal(file.read(name), value, strict=True)


class Call:
    """Pickled as a call of something that a reader must not call."""

    def __reduce__(self) -> Any:
        return print, ("called",)


def test_nothing_but_tensors_is_called(tmp_path: Path, capsys: Any) -> None:
    for root in (Call(), {"a": Call()}, {"a": print}, {"a": np.zeros(3)}):
        path = save_zip(tmp_path / "bad.pth", {}, root)
        with pytest.raises(UsageError, match="expected tensors, got (builtins|__builtin__|numpy)"):
            TorchFile(path)
        path.write_bytes(pickled(root))
        with pytest.raises(UsageError, match="expected a file of torch.save, got"):
            TorchFile(path)
    assert "called" not in capsys.readouterr().out
    path = save_zip(tmp_path / "nested.pth", {}, {"state_dict": {}, "epoch": 3})
    with pytest.raises(UsageError, match="expected a dictionary of tensors, got dict at 'state"):
        TorchFile(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    tensor = Stored(np.zeros(6, np.float32), "0")
    tensor.array = np.lib.stride_tricks.as_strided(tensor.array, (3, 2), (12, 4))
    path = save_zip(tmp_path / "a.pth", {}, {"a": tensor})
    with pytest.raises(UsageError, match=r"a tensor \[3, 2\] beyond its storage"):
        TorchFile(path)
    tensor.array = np.zeros(6, np.float32)
    path = save_zip(tmp_path / "a.pth", {}, {"a": tensor})
    with pytest.raises(UsageError, match="no storage 0 of 6 values"):
        TorchFile(path)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_damage_is_an_error_of_ours(save: Any, tmp_path: Path) -> None:
    """Cut anywhere, or any byte changed: what can be read has the shape that is told."""
    path = save(tmp_path / "a.pth", {"a": np.arange(4, dtype=np.float32)})
    content = path.read_bytes()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(UsageError):
            TorchFile(path)
    for i in range(0, len(content), 3):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0x55]) + content[i + 1 :])
        try:
            file = TorchFile(path)
            for name, shape in file.shapes.items():
                assert file.read(name).shape == shape
        except UsageError:
            pass


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    backbone, heads = published("alex", random_arrays("alex"))
    trunk = save_zip(tmp_path / "trunk.pth", backbone)
    right = save_zip(tmp_path / "heads.pth", heads)
    cases = (
        ([trunk], r"expected the tensor lin0.model.1.weight \(a head"),
        ([right], "got no features.0.weight among 5 tensors"),
        ([trunk, right, right], "expected each tensor once, got lin0.model.1.weight again"),
        ([tmp_path / "none.pth"], "cannot be read: No such file"),
    )
    for paths, message in cases:
        with pytest.raises(UsageError, match=message):
            import_lpips(paths, tmp_path / "out")
    other = published("squeeze", random_arrays("squeeze"))[1]
    wrong = save_zip(tmp_path / "wrong.pth", other)
    with pytest.raises(UsageError, match=r"lin1.*expected shape \[1, 192, 1, 1\], got \[1, 128"):
        import_lpips([trunk, wrong], tmp_path / "out")
    heads["lin0.model.1.weight"] = heads["lin0.model.1.weight"] * np.float32(np.nan)
    with pytest.raises(UsageError, match="lin0.model.1.weight: expected finite values"):
        import_lpips([trunk, save_zip(tmp_path / "nan.pth", heads)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert set(PLACES) | {"squeeze"} == set(NETS)
