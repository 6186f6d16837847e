"""The count of operations: against hands, against XLA where it can, against the chain rule."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from rcodec_jax.nn.unet import UNet
from rcodec_jax.scale import count_flops


def _array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_matrix_product_is_two_operations_per_term() -> None:
    flops = count_flops(lambda a, b: a @ b, _array(3, 5), _array(5, 7))
    assert (flops.matmul, flops.conv, flops.total) == (2 * 3 * 5 * 7, 0, 2 * 3 * 5 * 7)
    batched = count_flops(
        lambda a, b: jnp.einsum("bnhd,bmhd->bhnm", a, b), _array(2, 9, 4, 8), _array(2, 6, 4, 8)
    )
    assert batched.total == 2 * 2 * 4 * 9 * 6 * 8


def _conv(x: Any, kernel: Any, **options: Any) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=options.pop("strides", (1, 1)),
        padding=options.pop("padding", ((1, 1), (1, 1))),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        **options,
    )


def test_a_convolution_counts_what_meets_the_picture() -> None:
    flops = count_flops(_conv, _array(2, 6, 5, 3), _array(3, 3, 3, 4))
    # a line of n under 3 taps with a zero at either end: 3 n - 2 products
    assert (flops.matmul, flops.conv) == (0, 2 * 2 * (3 * 6 - 2) * (3 * 5 - 2) * 3 * 4)
    grouped = count_flops(
        lambda x, k: _conv(x, k, feature_group_count=3), _array(2, 6, 5, 3), _array(3, 3, 1, 6)
    )
    assert grouped.conv == 2 * 2 * (3 * 6 - 2) * (3 * 5 - 2) * 6
    strided = count_flops(
        lambda x, k: _conv(x, k, strides=(2, 2), padding=((0, 1), (0, 1))),
        _array(1, 8, 8, 1),
        _array(3, 3, 1, 1),
    )
    assert strided.conv == 2 * (3 * 4 - 1) ** 2  # the last of four positions misses one tap
    dilated = count_flops(
        lambda x, k: _conv(x, k, lhs_dilation=(2, 2), padding=((0, 0), (0, 0))),
        _array(1, 4, 4, 1),
        _array(3, 3, 1, 1),
    )
    assert dilated.conv == 2 * 8**2  # x 0 x 0 x 0 x: windows with 2, 1, 2, 1, 2 elements


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": (2, 1), "padding": ((0, 1), (2, 1))},
        {"rhs_dilation": (2, 3), "padding": ((2, 1), (0, 4))},
        {"lhs_dilation": (3, 2), "strides": (2, 2), "padding": ((3, 2), (0, -1))},
        {"feature_group_count": 2},
        {"batch_group_count": 2},
    ],
)
def test_convolutions_agree_with_the_compiler(options: dict[str, Any]) -> None:
    channels = 4 // options.get("feature_group_count", 1)
    x, kernel = _array(4, 9, 10, 4), _array(3, 2, channels, 6)

    def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _conv(x, kernel, **dict(options))

    analysis = jax.jit(conv).lower(x, kernel).cost_analysis()
    assert count_flops(conv, x, kernel).total == analysis["flops"]


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 3)])
def test_a_gradient_costs_as_much_as_the_pass_itself(strides: tuple[int, int]) -> None:
    x, kernel = _array(2, 12, 11, 4), _array(3, 3, 4, 6)

    def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(_conv(x, kernel, strides=strides)))

    once = count_flops(loss, x, kernel).total
    assert count_flops(jax.grad(loss), x, kernel).total == 2 * once
    assert count_flops(jax.grad(loss, argnums=(0, 1)), x, kernel).total == 3 * once


def test_through_what_holds_other_functions() -> None:
    w = _array(8, 8)
    once = 2 * 8**3

    def square(x: jax.Array) -> jax.Array:
        return x @ x

    def scanned(x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda c, _: (square(c), None), x, length=5)[0]

    def branched(x: jax.Array) -> jax.Array:
        return jax.lax.cond(x[0, 0] > 0, square, lambda x: square(square(x)), x)

    @jax.custom_vjp
    def custom(x: jax.Array) -> jax.Array:
        return square(x)

    custom.defvjp(lambda x: (square(x), x), lambda x, g: (g @ x @ x,))

    assert count_flops(jax.jit(square), w).total == once
    assert count_flops(scanned, w).total == 5 * once
    assert count_flops(branched, w).total == 2 * once
    assert count_flops(custom, w).total == once
    assert count_flops(lambda x: jax.vjp(custom, x)[1](x), w).total == 2 * once
    assert count_flops(lambda x: (square(x), x)[1], w).total == 0  # nobody uses the product
    assert not count_flops(scanned, w).notes


def test_what_is_computed_again_is_counted_again() -> None:
    w = _array(8, 8)

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w))

    plain = count_flops(jax.value_and_grad(loss), w, w).total
    again = count_flops(jax.value_and_grad(jax.checkpoint(loss)), w, w).total
    assert plain == 5 * 2 * 8**3  # two forward, two for the weights, one for the input between
    assert again == 7 * 2 * 8**3


def test_a_loop_of_unknown_length_is_said() -> None:
    def doubled(x: jax.Array, n: int) -> jax.Array:
        return jax.lax.while_loop(lambda c: c[1] < n, lambda c: (c[0] @ c[0], c[1] + 1), (x, 0))[0]

    flops = count_flops(doubled, _array(4, 4), 3)
    assert flops.total == 2 * 4**3
    assert len(flops.notes) == 1 and "unknown length" in flops.notes[0]


def test_a_sharded_body_counts_for_all_devices() -> None:
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("x")

    def parallel(a: jax.Array, b: jax.Array) -> jax.Array:
        inside = jax.shard_map(
            jnp.matmul, mesh=mesh, in_specs=(spec, jax.sharding.PartitionSpec()), out_specs=spec
        )
        return inside(a, b)

    assert count_flops(parallel, _array(8, 5), _array(5, 7)).total == 2 * 8 * 5 * 7


def test_a_small_unet_layer_by_layer() -> None:
    size, levels, wide, time = 8, 2, 16, 32
    module = UNet(
        out_channels=4,
        channels=(8, wide),
        layers=1,
        heads=(0, 2),
        middle_heads=2,
        context_features=12,
        context_tokens=7,
        time_features=time,
        norm="group",
        groups=4,
        scale_shift=False,
    )
    inputs = (
        _array(1, size, size, 4),
        _array(1, levels),
        jax.ShapeDtypeStruct((1, size, size), jnp.int32),
    )
    params = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    flops = count_flops(module.apply, params, *inputs)

    def conv(side: int, features_in: int, features_out: int, taps: int = 3) -> int:
        along = 3 * side - 2 if taps == 3 else side
        return 2 * along**2 * features_in * features_out

    def resnet(side: int, features_in: int, features_out: int) -> int:
        shortcut = conv(side, features_in, features_out, 1) if features_in != features_out else 0
        both = conv(side, features_in, features_out) + conv(side, features_out, features_out)
        return both + shortcut

    convs = (
        conv(8, 4, 8) + resnet(8, 8, 8)
        + 2 * (3 * 4 - 1) ** 2 * 8 * 8  # stride 2
        + resnet(4, 8, 16) + 2 * resnet(4, 16, 16)
        + resnet(4, 32, 16) + resnet(4, 24, 16) + conv(8, 16, 16)
        + resnet(8, 24, 8) + resnet(8, 16, 8) + conv(8, 8, 4)
    )  # fmt: skip
    assert flops.conv == convs

    def projection(side: int, features: int) -> int:
        return 2 * levels * (time * features + side**2 * features)  # rows, then their mixing

    cells, tokens = 4 * 4, 7
    self_attention = 2 * (4 * cells * wide**2 + 2 * cells**2 * wide)
    cross = 2 * (2 * cells * wide**2 + 2 * tokens * 12 * wide + 2 * cells * tokens * wide)
    feed_forward = 2 * (cells * wide * 8 * wide + cells * 4 * wide * wide)
    transformer = 2 * 2 * cells * wide**2 + self_attention + cross + feed_forward
    assert flops.matmul == (
        2 * levels * (8 * time + time * time)
        + 3 * projection(8, 8) + 5 * projection(4, 16)
        + 4 * transformer
    )  # fmt: skip
