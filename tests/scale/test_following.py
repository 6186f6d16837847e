"""What belongs to a parameter lies as it does; default rules; slices; abstract meshes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from rcodec_jax import scale
from rcodec_jax.config.model import ModelConfig, UNetConfig
from rcodec_jax.config.presets import SD21_UNET, stable_diffusion
from rcodec_jax.errors import UsageError
from rcodec_jax.model.networks import Networks


def _specs(tree: Any) -> dict[str, P]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(k, simple=True, separator="/"): v.spec for k, v in leaves}


PARAMETERS = {
    "unet": {
        "wide": {"kernel": jax.ShapeDtypeStruct((128, 256), "float32")},
        "square": {"kernel": jax.ShapeDtypeStruct((256, 256), "float32")},
        "conv": {"kernel": jax.ShapeDtypeStruct((3, 3, 256, 256), "float32")},
    },
    "kernel": jax.ShapeDtypeStruct((4, 256), "float32"),
}
RULES = (("^unet/", scale.Largest("fsdp", beside=P())), ("^kernel$", P(None, "tensor")))


@pytest.mark.parametrize("optimizer", [optax.adam(1e-3), optax.adafactor(1e-3)])
def test_moments_averages_and_factored_moments_follow(optimizer: Any) -> None:
    state = {
        "params": PARAMETERS,
        "ema": PARAMETERS,
        "opt": jax.eval_shape(optimizer.init, PARAMETERS),
        "step": jax.ShapeDtypeStruct((), "int32"),
    }
    mesh = scale.abstract_mesh(2, 4, 2)
    specs = _specs(scale.shardings_for(state, mesh, RULES, parameters=PARAMETERS))
    own = _specs(scale.shardings_for(PARAMETERS, mesh, RULES))
    assert own["unet/conv/kernel"] == P(None, None, None, "fsdp")
    assert own["kernel"] == P(None, "tensor")
    factored = 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        parameter = max((p for p in own if name.endswith(f"/{p}")), key=len, default=None)
        if parameter is None or leaf.shape in ((), (1,)):
            assert specs[name] == P(), name
            continue
        top, last = PARAMETERS, None
        for key in parameter.split("/"):
            last = top[key]
            top = last
        if leaf.shape == last.shape:
            assert specs[name] == own[parameter], name
        else:
            factored += 1
            # every parameter is split in its last dimension: the row moment has lost it
            expected = P() if "/v_row/" in name else P(*[None] * (leaf.ndim - 1), "fsdp")
            assert specs[name] == expected, name
    assert factored == (6 if "v_row" in str(specs) else 0)


def test_without_parameters_every_path_is_for_the_rules() -> None:
    specs = _specs(scale.shardings_for(PARAMETERS, scale.abstract_mesh(1, 4), RULES))
    assert specs["unet/wide/kernel"] == P(None, "fsdp")


SD = ModelConfig(
    latent_channels=4,
    unet=UNetConfig(
        channels=(64, 128), layers=1, heads=(1, 2), context_features=48, norm="group", groups=8,
        scale_shift=False, prediction="v", prior=False,
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        (ModelConfig(), (1, 1, 1)),
        (ModelConfig(), (1, 4, 2)),
        (ModelConfig(), (2, 2, 8)),
        (SD, (2, 8, 1)),
        (SD, (1, 4, 4)),
        (stable_diffusion(SD21_UNET), (8, 32, 1)),
        (stable_diffusion(SD21_UNET), (4, 16, 4)),
    ],
)
def test_default_rules_split_nearly_every_parameter(model: ModelConfig, sizes: Any) -> None:
    shapes = jax.eval_shape(Networks(model).init, jax.random.key(0))
    shardings = scale.shardings_for(shapes, scale.abstract_mesh(*sizes), scale.RULES)
    whole = local = 0
    for leaf, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True):
        whole += leaf.size
        local += int(np.prod(sharding.shard_shape(leaf.shape)))
    assert whole / sizes[1] / sizes[2] <= local < whole / sizes[1] + 10**6


def test_default_rules_pair_the_products_of_a_block() -> None:
    shapes = jax.eval_shape(Networks(SD).init, jax.random.key(0))
    specs = _specs(scale.shardings_for(shapes, scale.abstract_mesh(2, 2, 2), scale.RULES))
    block = "unet/down_blocks_1_attentions_0"
    for name in ("attn1/to_q", "attn1/to_v", "attn2/to_k", "ff_in"):
        assert specs[f"{block}/{name}/kernel"][1] == "tensor", name
    for name in ("attn1/to_out", "attn2/to_out", "ff_out"):
        assert specs[f"{block}/{name}/kernel"][0] == "tensor", name
    assert specs[f"{block}/ff_out/bias"] == P()  # added once, after the sum
    resnet = "unet/down_blocks_1_resnets_0"
    assert specs[f"{resnet}/conv1/conv/kernel"] == P(None, None, "fsdp", "tensor")
    assert specs[f"{resnet}/norm2/norm/scale"] == P("tensor")
    assert specs[f"{resnet}/conv2/conv/kernel"] == P(None, None, "tensor", "fsdp")
    assert specs[f"{resnet}/conv2/conv/bias"] == P()


def test_a_model_that_does_not_divide_is_named() -> None:
    shapes = jax.eval_shape(Networks(SD).init, jax.random.key(0))
    with pytest.raises(UsageError, match=r"^\w+/.*/conv1/conv/\w+: .*tensor=3"):
        scale.shardings_for(shapes, scale.abstract_mesh(1, 1, 3), scale.RULES)


@dataclasses.dataclass(frozen=True)
class Chip:
    """As much of a TPU as the making of a mesh looks at."""

    id: int
    slice_index: int
    side: int = 2
    platform: str = "tpu"
    device_kind: str = "some TPU"
    process_index: int = 0
    core_on_chip: int = 0
    slices: int = 2

    @property
    def coords(self) -> tuple[int, int, int]:
        cell = self.id // self.slices
        return (cell % self.side, cell // self.side, 0)


def test_slices_are_outermost_on_data() -> None:
    mesh = scale.make_mesh(4, 2, 1, slices=2)
    flat = [device.id for device in mesh.devices.flat]
    assert flat == sorted(flat)  # virtual devices: consecutive ones are a slice
    chips = [Chip(index, index % 2) for index in range(8)]
    mesh = scale.make_mesh(4, 2, 1, slices=2, devices=chips)
    slices = np.vectorize(lambda chip: chip.slice_index)(mesh.devices)
    assert (slices[:2] == slices[0, 0, 0]).all() and (slices[2:] != slices[0, 0, 0]).all()


def test_hosts_of_gpus_are_no_slices() -> None:
    gpus = [Chip(index, index // 4, platform="gpu", device_kind="some GPU") for index in range(8)]
    for sizes, slices in (((1, 8, 1), 1), ((2, 4, 1), 2), ((8, 1, 1), 4)):
        mesh = scale.make_mesh(*sizes, slices=slices, devices=gpus)
        assert [device.id for device in mesh.devices.flat] == list(range(8))


def test_an_axis_may_take_a_part_of_a_torus() -> None:
    chips = [Chip(i, 0, side=16, device_kind="TPU v6 lite", slices=1) for i in range(256)]
    mesh = scale.make_mesh(8, 32, devices=chips)
    assert dict(mesh.shape) == {"data": 8, "fsdp": 32, "tensor": 1}
    assert len(set(mesh.devices.flat)) == 256


@pytest.mark.parametrize(
    ("sizes", "slices", "chips", "words"),
    [
        ((2, 4), 4, None, "divides over 4 slices"),
        ((8, 1), 0, None, "slices=0"),
        ((4, 2), 1, [Chip(index, index % 2) for index in range(8)], "expected slices=2"),
        ((8, 1), 8, [Chip(index, index % 2) for index in range(8)], "expected slices=2"),
    ],
)
def test_slices_that_do_not_fit(sizes: Any, slices: int, chips: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        scale.make_mesh(*sizes, slices=slices, devices=chips)


def test_a_mesh_over_slices_sums_as_any_other() -> None:
    values = np.arange(16.0, dtype=np.float32)
    sums = []
    for slices in (1, 2, 4):
        mesh = scale.make_mesh(4, 2, slices=slices)
        sums.append(float(jax.jit(lambda x: (x * x).sum())(scale.global_batch(values, mesh))))
    assert sums == [float((values**2).sum())] * 3


def test_abstract_meshes_need_sizes() -> None:
    assert dict(scale.abstract_mesh(512, 4096).shape) == {"data": 512, "fsdp": 4096, "tensor": 1}
    with pytest.raises(UsageError, match="data=-1"):
        scale.abstract_mesh(-1)
