"""What is read from compiled programs, the arithmetic of bounds, and one plan where libtpu is."""

from __future__ import annotations

import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rcodec_jax import scale
from rcodec_jax.errors import UsageError
from rcodec_jax.scale.chips import CHIPS
from rcodec_jax.scale.collectives import Collective, collectives

PROGRAM = """\
HloModule jit_step, is_scheduled=true, num_partitions=16

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%all-reduce-scatter.1 (input: bf16[1280,640]) -> bf16[160,640] {
  %input = bf16[1280,640]{1,0} parameter(0)
  %all-reduce.2 = bf16[1280,640]{1,0:T(8,128)(2,1)} all-reduce(%input), channel_id=1, \
replica_groups={{0,1,2,3,4,5,6,7},{8,9,10,11,12,13,14,15}}, to_apply=%add
  ROOT %kept = bf16[160,640]{1,0} dynamic-slice(%all-reduce.2)
}

%body (state: (s32[], f32[64])) -> (s32[], f32[64]) {
  %part = f32[64]{0} get-tuple-element(%state), index=1
  %gather.1 = f32[128]{0} all-gather(%part), channel_id=2, \
replica_groups=[8,2]<=[2,8]T(1,0), dimensions={0}
  ROOT %next = (s32[], f32[64]) tuple(%i, %part)
}

%condition (state: (s32[], f32[64])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (x: bf16[1280,640]) -> bf16[160,640] {
  %x = bf16[1280,640]{1,0} parameter(0)
  %gather-start = (bf16[4,8]{1,0}, bf16[32,8]{1,0}) all-gather-start(%x), channel_id=3, \
replica_groups=mesh['a'=2,'b'=8], device_ids=([2,8]) {'b'}, dimensions={0}
  %gather-done = bf16[32,8]{1,0} all-gather-done(%gather-start)
  %scattered = f32[10,4]{1,0} reduce-scatter(%x), channel_id=4, \
replica_groups=mesh['a'=1,'b'=8,'c'=2], device_ids=([2,8]T(1,0)) {'b'}, to_apply=%add
  %both = (f32[4]{0}, bf16[2,2]{1,0}) all-reduce(%x, %x), channel_id=5, replica_groups={}, \
to_apply=%add
  %moved = u8[100]{0} collective-permute(%x), source_target_pairs={{0,1},{1,8}}
  %loop = (s32[], f32[64]) while(%state), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  ROOT %fused = bf16[160,640]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


def _found(slices: int = 1) -> dict[tuple[str, int], Collective]:
    return {(row.kind, row.group): row for row in collectives(PROGRAM, slices=slices)}


def test_collectives_are_read_from_the_text_of_a_program() -> None:
    assert _found() == {
        ("all-gather", 2): Collective("all-gather", 2, 1, 5, 5 * 128 * 4),  # in a loop of five
        ("all-gather", 8): Collective("all-gather", 8, 1, 1, 32 * 8 * 2),  # start and end are one
        # an all-reduce of which each keeps its part, and an honest one, of 8 parts of 10 x 4
        ("reduce-scatter", 8): Collective(
            "reduce-scatter", 8, 1, 2, 1280 * 640 * 2 + 8 * 10 * 4 * 4
        ),
        ("all-reduce", 16): Collective("all-reduce", 16, 1, 1, 4 * 4 + 2 * 2 * 2),
        ("collective-permute", 2): Collective("collective-permute", 2, 1, 1, 100),
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= u8[100]{0} collective-permute(", "u8[100]{0} collective-permute("),  # no result
        ("= u8[100]{0} collective-permute(", "= u8[100]{0} collective-broadcast("),
        ("= u8[100]{0} collective-permute(", "= x7[100]{0} collective-permute("),
        ("replica_groups=[8,2]<=[2,8]T(1,0)", "replica_groups=every(2)"),
        ("calls=%all-reduce-scatter.1", "runs=%all-reduce-scatter.1"),
    ],
)
def test_a_collective_that_cannot_be_read_is_named(old: str, new: str) -> None:
    assert PROGRAM.count(old) == 1
    with pytest.raises(RuntimeError, match="cannot read a collective .*: .*(all-|collective-)"):
        collectives(PROGRAM.replace(old, new))


def test_groups_that_cross_slices_are_told_apart() -> None:
    found = _found(slices=2)
    slices = {key: row.slices for key, row in found.items()}
    assert slices == {
        ("all-gather", 2): 2,  # device i and device i + 8
        ("all-gather", 8): 1,
        ("reduce-scatter", 8): 1,
        ("all-reduce", 16): 2,
        ("collective-permute", 2): 2,
    }


def test_what_is_sent_at_least() -> None:
    assert Collective("all-gather", 8, 1, 3, 800).sent_bytes() == 700
    assert Collective("all-reduce", 8, 1, 3, 800).sent_bytes() == 1400
    assert Collective("reduce-scatter", 1, 1, 3, 800).sent_bytes() == 0
    # two slices of 4: within each as among 4; between them a quarter each, half of it and back
    crossing = Collective("all-reduce", 8, 2, 1, 800)
    assert crossing.sent_bytes() == 2 * 800 * 3 / 4
    assert crossing.sent_between_slices_bytes() == 2 * 800 / 2 / 4
    assert Collective("all-reduce", 8, 1, 1, 800).sent_between_slices_bytes() == 0


def test_a_compiled_program_has_the_collectives_that_its_shardings_imply() -> None:
    mesh = scale.make_mesh(2, 4)
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=NamedSharding(mesh, P("fsdp")))
    whole = NamedSharding(mesh, P())
    step = jax.jit(lambda x: x * 2, out_shardings=whole)
    (row,) = collectives(step.lower(x).compile().as_text())
    assert row == Collective("all-gather", 4, 1, 1, 64 * 32 * 4)


def test_compiling_a_step_says_what_it_needs() -> None:
    mesh = scale.make_mesh(2, 4)
    sharding = NamedSharding(mesh, scale.BATCH_SPEC)
    x = jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=sharding)
    step = jax.jit(lambda x: jnp.sum(jnp.exp(x) @ jnp.exp(x).T), out_shardings=None)
    compiled = scale.compile_step(step, x)
    assert isinstance(compiled, scale.Compiled)
    assert compiled.argument_bytes == 8 * 128 * 4
    assert compiled.total_bytes >= compiled.argument_bytes + compiled.temporary_bytes
    assert compiled.collectives and compiled.seconds > 0


def test_the_bound_is_the_slowest_part() -> None:
    chip = CHIPS["v5e"]
    rows = [
        Collective("all-gather", 4, 1, 1, int(4e9)),
        Collective("all-reduce", 2, 2, 1, int(1e9)),
    ]
    bound = scale.roofline(chip, flops=197e12, traffic_bytes=81.9e9, collectives=rows)
    assert bound.compute == pytest.approx(1.0)
    assert bound.memory == pytest.approx(0.1)
    assert bound.links == pytest.approx(3e9 / chip.link_bandwidth)
    assert bound.network == pytest.approx(1e9 / chip.network_bandwidth)
    assert bound.step == max(bound.compute, bound.memory, bound.links, bound.network)
    assert (bound.limit, bound.step) == ("compute", bound.compute)
    assert bound.without_overlap == pytest.approx(1.0 + bound.links + bound.network)
    waiting = scale.roofline(chip, flops=1, traffic_bytes=1, collectives=rows[1:])
    assert waiting.limit == "network"


def test_traffic_of_micro_batches_is_not_that_of_one() -> None:
    from rcodec_jax.train.plan.planning import step_traffic

    def counted(parts: int) -> float:
        def step(kernel: jax.Array, x: jax.Array) -> jax.Array:
            gradient, _ = jax.lax.scan(lambda total, y: (total + y @ kernel, None), 0 * kernel, x)
            return kernel - gradient

        side = jax.ShapeDtypeStruct((64, 64), jnp.float32)
        rows = jax.ShapeDtypeStruct((parts, 64, 64), jnp.float32)
        analysis = jax.jit(step).lower(side, rows).compile().cost_analysis()
        return float(analysis["bytes accessed"])

    kernel = 64 * 64 * 4
    for parts in (1, 4, 16):
        body = 3 * kernel  # a micro-batch and the parameters read, and the sum written
        assert step_traffic(counted(parts), 0, parts) >= parts * body
    assert step_traffic(100.0, 20.0, 1) == 100.0
    assert step_traffic(100.0, 20.0, 3) == 40.0 + 3 * 60.0
    assert step_traffic(0.0, 20.0, 3) == 0.0


@pytest.mark.parametrize("name", ["v5e", "v4:2x2x1", "v5e:16", "16x16", "h100:9"])
def test_unknown_topologies(name: str) -> None:
    with pytest.raises(UsageError, match="v5e:16x16"):
        scale.topology(name)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_the_extra_is_named() -> None:
    with pytest.raises(UsageError, match="'tpu'"):
        scale.topology("v5e:2x2")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="plans need libtpu (the extra 'tpu')"
)
def test_attention_for_tpus_is_a_kernel_on_each_chip() -> None:
    from rcodec_jax.ops.attention import attention, rows_split
    from rcodec_jax.ops.platform import traced_for

    _, devices = scale.topology("v6e:2x2")
    mesh = scale.make_mesh(2, 2, devices=devices)
    place = NamedSharding(mesh, scale.BATCH_SPEC)
    given = jax.ShapeDtypeStruct((4, 256, 2, 64), jnp.bfloat16, sharding=place)

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        with rows_split(mesh, scale.BATCH_SPEC):
            return jnp.sum(attention(q, k, v).astype(jnp.float32) ** 2)

    with traced_for("tpu"):
        text = jax.jit(jax.grad(loss, (0, 1, 2))).lower(given, given, given).compile().as_text()
    assert text.count("tpu_custom_call") == 3  # forward, gradients by q and by k and v
    assert "all-gather" not in text and "all-to-all" not in text


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="plans need libtpu (the extra 'tpu')"
)
def test_a_plan_of_the_real_step(nano: Any) -> None:
    from rcodec_jax.config import apply_overrides
    from rcodec_jax.config.train import MeshConfig
    from rcodec_jax.train.plan.planning import make_plan

    sixteen = apply_overrides(nano, ["train.stages.0.batch_size=16"])
    plan = make_plan(sixteen, 0, topology="v5e:2x2", mesh=MeshConfig(2, 2))
    assert plan.fits and plan.chips == 4 and plan.input == "pixels"
    assert isinstance(plan.memory, scale.Compiled) and plan.bound is not None
    assert plan.memory.temporary_bytes > 0 and plan.memory.traffic_bytes > 0
    # nano's arrays are too small to be split: each chip has the whole state, sums the gradients
    assert plan.parameter_bytes == plan.average_bytes == plan.optimizer_bytes // 2
    reduced = [row for row in plan.memory.collectives if row.kind == "all-reduce"]
    assert sum(row.array_bytes for row in reduced) > plan.parameter_bytes / 2
    assert plan.images_per_second == pytest.approx(16 / plan.bound.step)
    assert np.isfinite(plan.images_per_second)
    with pytest.raises(UsageError, match="expected the 4 chips"):
        make_plan(nano, 0, topology="v5e:2x2", mesh=MeshConfig(2, 1))
