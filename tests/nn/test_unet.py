"""The denoiser: names of its parameters, sizes, what its prior input does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from rcodec_jax.nn.unet import UNet


def shapes_of(module: UNet, channels: int = 4, prior: int = 0) -> dict:
    """Slash-joined names -> shapes, without running anything."""
    size = (5, 7)
    tree = jax.eval_shape(
        module.init,
        jax.random.key(0),
        jnp.zeros((1, *size, channels)),
        jnp.zeros((1, 1)),
        jnp.zeros((1, *size), jnp.int32),
        jnp.zeros((1, *size, prior)) if prior else None,
    )["params"]
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}


@pytest.fixture(scope="module")
def sd() -> UNet:
    """Stable Diffusion's layout with every width divided by 40 or more."""
    return UNet(
        out_channels=4,
        channels=(8, 16, 16),
        layers=2,
        heads=(1, 2, 0),
        middle_heads=2,
        context_features=12,
        context_tokens=7,
        time_features=32,
        norm="group",
        groups=4,
        scale_shift=False,
    )


def convolutional(*channels: int) -> UNet:
    """One without attention."""
    return UNet(
        out_channels=3,
        channels=channels,
        layers=1,
        heads=(),
        middle_heads=0,
        context_features=0,
        context_tokens=77,
        time_features=8,
        norm="channel",
        groups=1,
        scale_shift=False,
    )


def test_names_follow_the_diffusers_layout(sd: UNet) -> None:
    names = shapes_of(sd)
    tops = {name.split("/")[0] for name in names}
    expected = {"context", "time_embedding", "conv_in", "head"}
    for i, attends in enumerate((True, True, False)):
        expected |= {f"down_blocks_{i}_resnets_{j}" for j in range(2)}
        if attends:
            expected |= {f"down_blocks_{i}_attentions_{j}" for j in range(2)}
        if i < 2:
            expected.add(f"down_blocks_{i}_downsample")
    expected |= {"mid_block_resnets_0", "mid_block_attentions_0", "mid_block_resnets_1"}
    for i, attends in enumerate((False, True, True)):
        expected |= {f"up_blocks_{i}_resnets_{j}" for j in range(3)}
        if attends:
            expected |= {f"up_blocks_{i}_attentions_{j}" for j in range(3)}
        if i < 2:
            expected.add(f"up_blocks_{i}_upsample")
    assert tops == expected
    block = {
        name.partition("/")[2] for name in names if name.startswith("down_blocks_1_resnets_0/")
    }
    parts = ("norm1/norm", "norm2/norm", "conv1/conv", "conv2/conv", "conv_shortcut/conv")
    assert {name.rpartition("/")[0] for name in block} == {*parts, "time_emb_proj/linear"}
    transformer = {
        name.partition("/")[2].partition("/")[0]
        for name in names
        if name.startswith("mid_block_attentions_0/")
    }
    assert transformer == {
        "norm", "proj_in", "norm1", "attn1", "norm2", "attn2", "norm3", "ff_in", "ff_out",
        "proj_out",
    }  # fmt: skip


def test_shapes_are_those_of_the_original(sd: UNet) -> None:
    shapes = shapes_of(sd)
    assert shapes["conv_in/conv/kernel"] == (3, 3, 4, 8)
    assert shapes["time_embedding/linear_1/kernel"] == (8, 32)
    assert shapes["time_embedding/linear_2/kernel"] == (32, 32)
    assert shapes["down_blocks_0_resnets_0/time_emb_proj/linear/kernel"] == (32, 8)
    # the context has its own width; queries, keys and values no bias
    assert shapes["down_blocks_1_attentions_0/attn2/to_k/kernel"] == (12, 16)
    assert "down_blocks_1_attentions_0/attn2/to_k/bias" not in shapes
    assert shapes["down_blocks_1_attentions_0/ff_in/kernel"] == (16, 128)
    # up blocks concatenate the skips of the way down
    assert shapes["up_blocks_0_resnets_0/conv1/conv/kernel"] == (3, 3, 32, 16)
    assert shapes["up_blocks_2_resnets_2/conv1/conv/kernel"] == (3, 3, 16, 8)
    assert shapes["context"] == (7, 12)


def test_the_prior_is_more_input_channels() -> None:
    module = convolutional(8)
    assert shapes_of(module, channels=3)["conv_in/conv/kernel"] == (3, 3, 3, 8)
    assert shapes_of(module, channels=3, prior=6)["conv_in/conv/kernel"] == (3, 3, 9, 8)


def test_no_attention_without_heads() -> None:
    names = shapes_of(convolutional(8, 8), 3)
    assert not any("attentions" in name or name == "context" for name in names)
