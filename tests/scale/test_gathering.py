"""Parameters are whole while they are used, and nothing else is gathered."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rcodec_jax import scale
from rcodec_jax.scale.collectives import collectives


def _gradient(shardings: list[NamedSharding], dtype: Any, gather: bool) -> Any:
    def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for weight, sharding in zip(weights, shardings, strict=True):
            if gather:
                weight = scale.gathered(weight, sharding, "fsdp", dtype)
            x = jnp.tanh(x.astype(dtype) @ weight.astype(dtype))
        return jnp.mean(jnp.square(x.astype(jnp.float32)))

    return jax.value_and_grad(loss)


def test_only_kernels_are_gathered_and_each_once_in_the_dtype_of_the_computation() -> None:
    mesh = scale.make_mesh(2, 4)
    own = [NamedSharding(mesh, P(None, "fsdp")), NamedSharding(mesh, P("fsdp"))]
    weights = [jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=s) for s in own]
    batch = NamedSharding(mesh, scale.BATCH_SPEC)
    x = jax.ShapeDtypeStruct((512, 64), jnp.float32, sharding=batch)
    step = jax.jit(_gradient(own, jnp.float16, True), out_shardings=(None, own))
    found = collectives(step.lower(weights, x).compile().as_text())
    gathers = [row for row in found if row.kind == "all-gather"]
    assert {row.group for row in gathers} == {4}
    assert sum(row.count for row in gathers) == 2
    assert sum(row.array_bytes for row in gathers) in (2 * 64 * 64 * 2, 2 * 64 * 64 * 4)
    # CPUs may widen float16; what matters is that no array of the batch's size travels
    assert all(row.array_bytes < 512 * 64 * 2 * row.count for row in found)


def test_values_and_gradients_are_the_same() -> None:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(64, 64)).astype(np.float32) / 8 for _ in range(2)]
    x = rng.normal(size=(16, 64)).astype(np.float32)
    mesh = scale.make_mesh(2, 2, 2)
    own = [NamedSharding(mesh, P("tensor", "fsdp")), NamedSharding(mesh, P(("fsdp", "tensor")))]
    expected, gradients = _gradient(own, jnp.float32, False)(weights, x)
    step = jax.jit(_gradient(own, jnp.float32, True), out_shardings=(None, own))
    loss, got = step(scale.place(weights, own), scale.global_batch(x, mesh))
    np.testing.assert_allclose(float(loss), float(expected), rtol=1e-6)
    for one, other, sharding in zip(got, gradients, own, strict=True):
        assert one.sharding.is_equivalent_to(sharding, 2)
        np.testing.assert_allclose(scale.fetch(one), other, rtol=1e-5, atol=1e-8)


def test_what_is_not_split_stays_as_it_is() -> None:
    x = jnp.ones((8, 8))
    for mesh, spec in ((scale.make_mesh(8), P("fsdp")), (scale.make_mesh(2, 4), P(None, "tensor"))):
        assert scale.gathered(x, NamedSharding(mesh, spec), "fsdp", jnp.bfloat16) is x
