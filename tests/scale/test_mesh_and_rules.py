"""Promises of the mesh, the rules and placement, on eight CPU devices in one process."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from rcodec_jax import scale
from rcodec_jax.errors import UsageError


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ({}, (8, 1, 1)),
        ({"fsdp": 4}, (2, 4, 1)),
        ({"fsdp": 2, "tensor": 2}, (2, 2, 2)),
        ({"data": 1, "fsdp": -1}, (1, 8, 1)),
        ({"data": 1}, (1, 1, 1)),
        ({"data": 2, "tensor": 3}, (2, 1, 3)),
    ],
)
def test_mesh_sizes(sizes: dict[str, int], shape: tuple[int, ...]) -> None:
    mesh = scale.make_mesh(**sizes)
    assert mesh.axis_names == ("data", "fsdp", "tensor")
    assert tuple(mesh.shape.values()) == shape


@pytest.mark.parametrize(
    "sizes",
    [{"data": 16}, {"fsdp": 3}, {"fsdp": 16}, {"data": 0}, {"data": -2}, {"fsdp": -1}],
)
def test_mesh_refuses_what_does_not_fit(sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(sizes))}={next(iter(sizes.values()))}"):
        scale.make_mesh(**sizes)


def _shapes() -> dict[str, object]:
    kernel = jax.ShapeDtypeStruct((3, 3, 64, 128), jnp.float32)
    return {
        "params": {"conv": {"kernel": kernel, "bias": jax.ShapeDtypeStruct((128,), jnp.float32)}},
        "opt": ({"mu": {"conv": {"kernel": kernel}}}, np.zeros((), np.int32)),
    }


def test_first_matching_rule_counts_and_serves_the_moments_too() -> None:
    mesh = scale.make_mesh(2, 2, 2)
    rules = [
        (r"conv/kernel$", PartitionSpec(None, None, "fsdp", "tensor")),
        (r"bias", PartitionSpec(("fsdp", "tensor"))),
        (r"kernel", PartitionSpec("data")),
    ]
    shardings = scale.shardings_for(_shapes(), mesh, rules)
    assert jax.tree.structure(shardings) == jax.tree.structure(_shapes())
    kernel = PartitionSpec(None, None, "fsdp", "tensor")
    assert shardings["params"]["conv"]["kernel"].spec == kernel
    assert shardings["opt"][0]["mu"]["conv"]["kernel"].spec == kernel
    assert shardings["params"]["conv"]["bias"].spec == PartitionSpec(("fsdp", "tensor"))
    assert shardings["opt"][1].spec == PartitionSpec()


FSDP = ((".*", scale.Largest("fsdp")),)


@pytest.mark.parametrize(
    ("shape", "spec", "expected"),
    [
        ((8, 7), ("fsdp",), ("fsdp",)),
        ((8,), (("fsdp", "tensor"),), (("fsdp", "tensor"),)),
        ((7,), ("data",), ()),  # an axis of one device splits nothing
        ((8, 5), (None, "data"), ()),
    ],
)
def test_a_spec_is_kept(shape, spec, expected) -> None:
    rules = [(".*", PartitionSpec(*spec))]
    sharding = scale.shardings_for(np.zeros(shape), scale.make_mesh(1, 4, 2), rules)
    assert sharding.spec == PartitionSpec(*expected)


@pytest.mark.parametrize(
    ("shape", "split", "words"),
    [
        ((6, 8), PartitionSpec("fsdp"), "dimension 0 to divide over fsdp=4, got 6"),
        ((8, 6), PartitionSpec(None, ("fsdp", "tensor")), "dimension 1 .* fsdp=4 x tensor=2"),
        ((8, 7), scale.Largest("fsdp", PartitionSpec(None, "tensor")), "tensor=2, got 7"),
        ((8,), PartitionSpec(None, "fsdp"), "at least 2 dimensions"),
        ((8, 8), PartitionSpec("fsdp", "fsdp"), "'fsdp' for dimensions 0 and 1"),
        ((8, 8), PartitionSpec(("fsdp", "fsdp")), "'fsdp' for dimensions 0 and 0"),
        ((8, 8), PartitionSpec("data", "data"), "'data' for dimensions 0 and 1"),
        ((8, 8), scale.Largest("fsdp", PartitionSpec("fsdp")), "'fsdp' for dimensions 0 and 1"),
    ],
)
def test_a_spec_that_cannot_be_kept_is_an_error_that_names_the_parameter(
    shape, split, words
) -> None:
    tree = {"unet": {"kernel": np.zeros(shape)}}
    with pytest.raises(UsageError, match=f"^unet/kernel: sharding rule 'ker'.*{words}"):
        scale.shardings_for(tree, scale.make_mesh(1, 4, 2), [("ker", split)])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 3, 64, 128), (None, None, None, "fsdp")),
        ((128, 64, 9, 9), ("fsdp",)),
        ((128, 128), (None, "fsdp")),
        ((129, 128), (None, "fsdp")),
        ((127, 129), ()),
        ((4, 4), ()),
    ],
)
def test_fsdp_takes_the_largest_dimension_of_large_arrays(shape, expected) -> None:
    mesh = scale.make_mesh(fsdp=4)
    assert scale.shardings_for(np.zeros(shape), mesh, FSDP).spec == PartitionSpec(*expected)
    whole = scale.shardings_for(np.zeros(shape), scale.make_mesh(), FSDP)
    assert whole.is_fully_replicated


@pytest.mark.parametrize(
    ("sizes", "shape", "expected"),
    [
        ((1, 4, 2), (64, 512), ("fsdp", "tensor")),  # the largest is taken
        ((8, 1, 1), (64, 512), ()),
        ((4, 1, 2), (64, 512), (None, "tensor")),
        ((2, 4, 1), (64, 512), ("fsdp",)),
        ((1, 4, 2), (4, 8), (None, "tensor")),  # small, but the tensor split is a demand
    ],
)
def test_fsdp_beside_tensor_parallelism(sizes, shape, expected) -> None:
    rules = [(".*", scale.Largest("fsdp", beside=PartitionSpec(None, "tensor")))]
    sharding = scale.shardings_for(np.zeros(shape), scale.make_mesh(*sizes), rules)
    assert sharding.spec == PartitionSpec(*expected)


@pytest.mark.parametrize("split", [PartitionSpec("model"), scale.Largest("model")])
def test_rules_name_axes_that_exist(split) -> None:
    with pytest.raises(UsageError, match="'model'"):
        scale.shardings_for(np.zeros(8), scale.make_mesh(), [("never", split)])


def test_a_rule_is_a_regular_expression() -> None:
    with pytest.raises(UsageError, match="regular expression"):
        scale.shardings_for(np.zeros(8), scale.make_mesh(), [("(", PartitionSpec())])


def test_batches_are_split_over_data_and_fsdp() -> None:
    mesh = scale.make_mesh(2, 2, 2)
    batch = {"image": np.arange(8 * 3, dtype=np.uint8).reshape(8, 3), "n": np.arange(4)}
    with jax.transfer_guard("disallow"):
        placed = scale.global_batch(batch, mesh)
    assert placed["image"].sharding.spec == scale.BATCH_SPEC
    assert placed["image"].addressable_shards[0].data.shape == (2, 3)
    fetched = scale.fetch(placed)
    assert all(np.array_equal(fetched[key], batch[key]) for key in batch)


@pytest.mark.parametrize("shape", [(6, 3), (0, 3), ()])
def test_batches_must_divide(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="divides over 8 devices"):
        scale.global_batch(np.zeros(shape), scale.make_mesh())


def test_placed_values_come_back_as_they_were() -> None:
    mesh = scale.make_mesh(fsdp=4)
    values = {"w": np.arange(128.0 * 256, dtype=np.float32).reshape(128, 256), "n": np.int32(3)}
    placed = scale.place(values, scale.shardings_for(values, mesh, FSDP))
    assert placed["w"].sharding.spec == PartitionSpec(None, "fsdp")
    assert placed["n"].is_fully_replicated
    assert np.array_equal(scale.fetch(placed)["w"], values["w"])
    assert scale.replicate(values, mesh)["w"].is_fully_replicated


def test_a_sharded_step_computes_what_a_single_device_does() -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(128, 256)).astype(np.float32)}
    batch = rng.normal(size=(8, 128)).astype(np.float32)

    def gradient(weights: dict[str, jax.Array], batch: jax.Array) -> dict[str, jax.Array]:
        return jax.grad(lambda w: jnp.mean(jnp.square(batch @ w["w"])))(weights)

    results = []
    for mesh in (scale.make_mesh(1), scale.make_mesh(2, 4), scale.make_mesh(2, 2, 2)):
        shardings = scale.shardings_for(weights, mesh, FSDP)
        step = jax.jit(gradient, out_shardings=shardings)
        placed = step(scale.place(weights, shardings), scale.global_batch(batch, mesh))
        results.append(scale.fetch(placed)["w"])
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-5, atol=1e-6)
