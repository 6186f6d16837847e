"""Start-up from the environment, and two real processes on one machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.scale import initialize_from_environment


def test_a_process_alone_starts_nothing() -> None:
    assert initialize_from_environment({}) is False
    assert initialize_from_environment({"JAX_COORDINATOR_ADDRESS": ""}) is False


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"JAX_COORDINATOR_ADDRESS": "localhost:1"}, "got only JAX_COORDINATOR_ADDRESS"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS"),
        ({"RCODEC_DISTRIBUTED": "yes"}, "'auto'"),
        (
            {
                "JAX_COORDINATOR_ADDRESS": "localhost:1",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": "2",
            },
            "got 2 of 2",
        ),
        (
            {
                "JAX_COORDINATOR_ADDRESS": "localhost:1",
                "JAX_NUM_PROCESSES": "two",
                "JAX_PROCESS_ID": "0",
            },
            "'two'",
        ),
    ],
)
def test_half_a_configuration_is_an_error(environ: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        initialize_from_environment(environ)


_WORKER = """
import sys
import numpy as np
from rcodec_jax import scale
from rcodec_jax.checkpoint import Checkpoints, SignalGuard

assert scale.initialize_from_environment()
assert not scale.initialize_from_environment()
import jax

mesh = scale.make_mesh(fsdp=2)
index = jax.process_index()
batch = scale.global_batch(np.full((4, 3), index, np.float32), mesh)
assert batch.shape == (8, 3)
assert float(jax.jit(lambda x: x.sum())(batch)) == 12.0
# Devices that work on the same rows may belong to two processes, in any order.
devices = np.array(jax.devices())
whole = np.arange(8 * 3.0).reshape(8, 3)
for layout, count in (
    (devices.reshape(1, 1, 4), 8),
    (devices.reshape(2, 2).T.reshape(2, 1, 2), 8),
    (devices.reshape(2, 1, 2), 4),
    (devices[[0, 2, 1, 3]].reshape(2, 2, 1), 4),
):
    crossed = jax.sharding.Mesh(layout, scale.AXES)
    rows = list(scale.local_rows(8, crossed))
    assert len(rows) == count, (layout, rows)
    found = scale.global_batch(whole[rows], crossed)
    everywhere = jax.sharding.NamedSharding(crossed, jax.sharding.PartitionSpec())
    gathered = jax.jit(lambda x: x, out_shardings=everywhere)(found)
    for shard in gathered.addressable_shards:
        assert np.array_equal(shard.data, whole), (layout, shard.data)
values = {"w": np.arange(256.0 * 64).reshape(256, 64).astype(np.float32)}
state = scale.place(values, scale.shardings_for(values, mesh, scale.RULES))
assert np.array_equal(scale.fetch(scale.replicate(values, mesh))["w"], values["w"])
with SignalGuard() as guard, Checkpoints(sys.argv[1]) as checkpoints:
    assert not guard.should_stop()
    checkpoints.save(1, state, {"next_index": 1}, wait=True)
print("done", index)
"""


def test_two_processes_share_a_batch_and_one_restores_what_they_saved(tmp_path) -> None:
    import jax
    import numpy as np

    from rcodec_jax import scale
    from rcodec_jax.checkpoint import Checkpoints

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(tmp_path / "run")],
            env={
                **os.environ,
                "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(index),
                "JAX_NUM_CPU_DEVICES": "2",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [worker.communicate(timeout=120) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for index, (worker, (out, err)) in enumerate(zip(workers, outputs, strict=True)):
        assert worker.returncode == 0, err
        assert f"done {index}" in out
    mesh = scale.make_mesh(fsdp=4, tensor=2)
    shape = {"w": jax.ShapeDtypeStruct((256, 64), np.float32)}
    target = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shape,
        scale.shardings_for(shape, mesh, scale.RULES),
    )
    with Checkpoints(tmp_path / "run", read_only=True) as checkpoints:
        state, data_state = checkpoints.restore(None, target)
    assert data_state == {"next_index": 1}
    assert np.array_equal(scale.fetch(state)["w"], np.arange(256.0 * 64).reshape(256, 64))
