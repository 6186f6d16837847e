"""The table of names: one to one, both directions, shapes checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rcodec_jax.config import load_config
from rcodec_jax.config.train import Config
from rcodec_jax.export.naming import CONTEXT, FOLDERS, key_of, table
from rcodec_jax.model.networks import parameter_shapes

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module", params=["paper", "paper_sd15"])
def config(request):
    return load_config(CONFIGS / f"{request.param}.py", Config).model


def test_every_parameter_has_one_place(config) -> None:
    entries = table(config)
    ours = {name for name in parameter_shapes(config) if name.partition("/")[0] in FOLDERS}
    assert {entry.name for entry in entries} == ours - {CONTEXT}
    # as many as diffusers' models of that size have
    assert len(entries) == len({(e.folder, e.key) for e in entries}) == 686 + 248
    old = [entry.old_key for entry in entries if entry.old_key]
    assert len(old) == len(set(old)) == 2 * 8


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("unet/conv_in/conv/kernel", "conv_in.weight"),
        ("unet/head/conv_norm_out/norm/scale", "conv_norm_out.weight"),
        ("unet/time_embedding/linear_1/bias", "time_embedding.linear_1.bias"),
        (
            "unet/down_blocks_1_resnets_0/time_emb_proj/linear/kernel",
            "down_blocks.1.resnets.0.time_emb_proj.weight",
        ),
        ("unet/down_blocks_0_downsample/conv/bias", "down_blocks.0.downsamplers.0.conv.bias"),
        ("unet/up_blocks_2_upsample/conv/conv/bias", "up_blocks.2.upsamplers.0.conv.bias"),
        ("unet/mid_block_attentions_0/norm/norm/bias", "mid_block.attentions.0.norm.bias"),
        (
            "unet/up_blocks_1_attentions_2/attn2/to_out/kernel",
            "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_out.0.weight",
        ),
        (
            "unet/mid_block_attentions_0/ff_in/kernel",
            "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight",
        ),
        (
            "encoder/mid_block/attn_norm/norm/scale",
            "encoder.mid_block.attentions.0.group_norm.weight",
        ),
        ("encoder/mid_block/resnets_1/norm2/norm/bias", "encoder.mid_block.resnets.1.norm2.bias"),
        ("decoder/mid_block/attn/to_q/kernel", "decoder.mid_block.attentions.0.to_q.weight"),
        ("encoder/quant_conv/conv/kernel", "quant_conv.weight"),
        ("decoder/post_quant_conv/conv/bias", "post_quant_conv.bias"),
    ],
)
def test_names(ours: str, theirs: str) -> None:
    assert key_of(ours) == theirs


def test_layouts_come_back_and_compute_the_same(config) -> None:
    """By what the layouts mean: [in, out] and [height, width, in, out] here."""
    rng = np.random.default_rng(0)
    kinds = {}
    for entry in table(config):
        kinds.setdefault(entry.kind, entry)
    linear = config.unet.linear_projection
    assert set(kinds) == {"vector", "matrix", "convolution", *([] if linear else ["pointwise"])}
    for entry in kinds.values():
        stored = rng.normal(size=entry.stored_shape).astype(np.float16)
        here = entry.from_stored(stored)
        assert here.shape == entry.shape and here.flags.c_contiguous and here.dtype == stored.dtype
        np.testing.assert_array_equal(entry.to_stored(here), stored)
        if entry.kind in ("matrix", "pointwise"):
            matrix = stored.reshape(stored.shape[:2])  # [out, in]
            assert here[1, 2] == matrix[2, 1]
            both = (matrix.shape, (*matrix.shape, 1, 1))
            assert all(entry.fits(shape) for shape in both) and not entry.fits(matrix.shape[:1])
            np.testing.assert_array_equal(entry.from_stored(matrix), here)
        elif entry.kind == "convolution":  # [out, in, height, width]
            assert here[2, 0, 1, 3] == stored[3, 1, 2, 0]
