"""Sample pictures: all processes have the program before one of them runs it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from rcodec_jax import scale
from rcodec_jax.data import read_image
from rcodec_jax.train.loop import samples
from rcodec_jax.train.step.state import TrainState
from rcodec_jax.train.step.statistics import Stats


@dataclasses.dataclass(frozen=True, eq=False)
class OnlyConfig:
    """Stands in for networks."""

    config: SimpleNamespace


def test_processes_meet_between_compiling_and_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def sheet(networks, whole, params, stats, image, nodes):
        events.append("traced")
        jax.debug.callback(lambda: events.append("run"))
        return image[0] + params["a"]

    monkeypatch.setattr(samples, "_sheet", jax.jit(sheet, static_argnums=(0, 1)))
    monkeypatch.setattr(samples, "wait_for_all", lambda name: events.append("met"))
    networks = OnlyConfig(SimpleNamespace(node_range=(0, 1000)))
    mesh = scale.make_mesh()
    params = {"a": jnp.ones((), jnp.uint8)}
    state = TrainState(jnp.zeros((), jnp.int32), params, None, (), Stats(jnp.zeros(3), 1.0, {}))
    image = jnp.zeros((8, 16, 16, 3), jnp.uint8)
    state = jax.tree.map(jnp.asarray, state)
    for step in (1, 2):
        samples.write_samples(tmp_path, step, networks, state, image, mesh)
        jax.effects_barrier()
    assert events == ["traced", "met", "run", "run"]
    assert (read_image(tmp_path / "samples" / "0000002.png").pixels == 1).all()
    samples.write_samples(tmp_path, 3, networks, state, image[:, :8], mesh)
    jax.effects_barrier()
    assert events[4:] == ["traced", "met", "run"]
