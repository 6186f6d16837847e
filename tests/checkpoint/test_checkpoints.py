"""Promises of checkpoints: bit by bit, any mesh, latest and best kept, broken steps invisible."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rcodec_jax.checkpoint import Checkpoints, SignalGuard
from rcodec_jax.errors import RcodecError, UsageError


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    ema: dict
    opt: optax.OptState
    key: jax.Array


_OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))


def _state(seed: int = 0) -> State:
    rng = np.random.default_rng(seed)
    params = {
        "conv": {"kernel": jnp.asarray(rng.normal(size=(8, 16)), jnp.float32)},
        "half": jnp.asarray(rng.normal(size=(8,)), jnp.bfloat16),
        "odd": jnp.asarray([np.nan, -0.0, np.inf, 1e-42], jnp.float32),
    }
    return State(
        step=jnp.asarray(seed, jnp.int32),
        params=params,
        ema=jax.tree.map(lambda leaf: leaf * 2, params),
        opt=_OPTIMISER.init(params),
        key=jax.random.PRNGKey(seed),
    )


def _bits(tree) -> list[tuple[str, tuple[int, ...], bytes]]:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [(str(leaf.dtype), leaf.shape, leaf.tobytes()) for leaf in leaves]


def test_a_state_comes_back_bit_by_bit(tmp_path: Path) -> None:
    state, data_state = _state(3), {"next_index": 7, "a": [1, "b"]}
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.latest_step() is None
        checkpoints.save(3, state, data_state)
    with Checkpoints(tmp_path / "run") as checkpoints:
        restored, restored_data = checkpoints.restore(None, jax.eval_shape(lambda: state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert _bits(restored) == _bits(state)
    assert restored_data == data_state


def test_a_state_goes_to_another_mesh(tmp_path: Path) -> None:
    def on(axes: tuple[int, int], *spec: str | None):
        mesh = jax.make_mesh(axes, ("a", "b"), (jax.sharding.AxisType.Auto,) * 2)
        return NamedSharding(mesh, PartitionSpec(*spec))

    values = np.arange(8 * 16, dtype=np.float32).reshape(8, 16)
    state = {"w": jax.device_put(values, on((4, 2), "a", "b"))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {}, wait=True)
        for sharding in (on((2, 4), "b"), on((8, 1), None, "a"), on((1, 1))):
            target = {"w": jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=sharding)}
            restored, _ = checkpoints.restore(1, target)
            assert restored["w"].sharding == sharding
            assert np.array_equal(np.asarray(restored["w"]), values)


def test_a_save_in_flight_does_not_see_later_steps(tmp_path: Path) -> None:
    """Training donates the buffers that the background write was given."""

    def train(state):
        return jax.tree.map(lambda leaf: leaf + 1, state)

    step = jax.jit(train, donate_argnums=0)
    state = {"w": jnp.zeros((512, 1024)), "n": jnp.zeros((), jnp.int32)}
    with Checkpoints(tmp_path, keep_latest=4) as checkpoints:
        for count in range(1, 4):
            state = step(state)
            checkpoints.save(count, state, {"n": count})
            for _ in range(3):
                state = step(state)
            state = jax.tree.map(lambda leaf: leaf - 3, state)
        for count in range(1, 4):
            restored, _ = checkpoints.restore(count, state)
            assert np.all(np.asarray(restored["w"]) == count)


def test_the_latest_and_the_best_steps_are_kept(tmp_path: Path) -> None:
    losses = {1: 5.0, 2: 1.0, 3: float("nan"), 4: 3.0, 5: 4.0, 6: 2.0}
    with Checkpoints(tmp_path, keep_latest=2, keep_best=1) as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(step, {"w": jnp.full(4, step)}, {}, {"loss": loss}, wait=True)
            assert checkpoints.latest_step() == step
        assert checkpoints.all_steps() == (2, 5, 6)
    with Checkpoints(tmp_path, keep_latest=1) as checkpoints:
        checkpoints.save(7, {"w": jnp.zeros(4)}, {}, wait=True)
        assert checkpoints.all_steps() == (2, 7)


def test_the_best_step_is_one_of_the_latest_stage(tmp_path: Path) -> None:
    """Losses of different stages are not alike."""
    figures = {1: (0, 0.1), 2: (1, 2.0), 3: (1, 1.2), 4: (1, 1.5), 5: (1, 1.6), 6: (1, 1.7)}
    with Checkpoints(tmp_path, keep_latest=2, keep_best=1) as checkpoints:
        for step, (stage, loss) in figures.items():
            metrics = {"loss": loss, "stage": stage}
            checkpoints.save(step, {"w": jnp.zeros(4)}, {}, metrics, wait=True)
        assert checkpoints.all_steps() == (3, 5, 6)


def test_steps_without_metrics_are_not_kept_for_ever(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep_latest=2, keep_best=1) as checkpoints:
        for step in range(1, 6):
            checkpoints.save(step, {"w": jnp.zeros(4)}, {}, wait=True)
        assert checkpoints.all_steps() == (4, 5)


def test_saving_a_step_twice_keeps_the_first(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.zeros(4)}, {"n": 1})
        checkpoints.save(1, {"w": jnp.ones(4)}, {"n": 2}, wait=True)
        restored, data_state = checkpoints.restore(1, {"w": jnp.ones(4)})
    assert data_state == {"n": 1}
    assert not np.any(np.asarray(restored["w"]))


def test_parts_of_a_state_come_back_alone_as_numpy(tmp_path: Path) -> None:
    state = _state(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        checkpoints.wait()
        parts = checkpoints.restore_params(("ema", "step"))
        with pytest.raises(UsageError, match="expected some of .*ema.*got emma"):
            checkpoints.restore_params(("emma",))
    assert _bits(parts["ema"]) == _bits(state.ema)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(parts))
    assert parts["step"] == 1


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": {"w": jnp.zeros(4)}}, {}, wait=True)
        for other in (
            {"a": {"w": jnp.zeros(5)}},
            {"a": {"w": jnp.zeros(4, jnp.bfloat16)}},
            {"a": {"v": jnp.zeros(4)}},
            {"a": {"w": jnp.zeros(4), "v": jnp.zeros(1)}},
        ):
            with pytest.raises(RcodecError, match=r"step 1 does not fit the state: a/[vw]: expect"):
                checkpoints.restore(1, other)


def test_missing_steps_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checkpoint directory"):
        Checkpoints(tmp_path / "missing", read_only=True)
    assert not (tmp_path / "missing").exists()
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UsageError, match="no checkpoint"):
            checkpoints.restore(None, {})
        checkpoints.save(4, {"w": jnp.zeros(4)}, {}, wait=True)
        with pytest.raises(UsageError, match=r"expected a step of \[4\].*got 5"):
            checkpoints.restore(5, {})
    with (
        Checkpoints(tmp_path, read_only=True) as checkpoints,
        pytest.raises(RcodecError, match="read-only"),
    ):
        checkpoints.save(5, {"w": jnp.zeros(4)}, {})
    with pytest.raises(UsageError, match="keep_latest"):
        Checkpoints(tmp_path, keep_latest=0)


_SAVES_UNTIL_KILLED = """
import sys
import jax.numpy as jnp
from rcodec_jax.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1])
for step in range(1, 10_000):
    checkpoints.save(step, {"w": jnp.full((1024, 1024), float(step))}, {"step": step})
    print(step, flush=True)
"""


def test_a_kill_in_the_middle_leaves_a_whole_step(tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", _SAVES_UNTIL_KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert worker.stdout is not None
    for line in worker.stdout:
        if int(line) == 4:
            break
    worker.kill()
    worker.communicate()
    with Checkpoints(tmp_path) as checkpoints:
        step = checkpoints.latest_step()
        assert step is not None and step >= 3
        restored, data_state = checkpoints.restore(None, {"w": jnp.zeros((1024, 1024))})
        assert data_state == {"step": step}
        assert np.all(np.asarray(restored["w"]) == step)
        checkpoints.save(step + 1, restored, {"step": step + 1}, wait=True)
        assert checkpoints.latest_step() == step + 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_second_acts(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    acted = []
    signal.signal(number, lambda *_: acted.append(number))
    try:
        with SignalGuard() as guard:
            assert not guard.should_stop()
            os.kill(os.getpid(), number)
            assert guard.should_stop()
            assert guard.received == number.name
            assert not acted
            os.kill(os.getpid(), number)
            assert acted == [number]
        with SignalGuard() as guard:
            assert not guard.should_stop()
        os.kill(os.getpid(), number)
        assert acted == [number] * 2
    finally:
        signal.signal(number, before)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_signal_is_said_while_something_cannot_be_interrupted() -> None:
    """By a thread: while a program is compiled the main one hears of nothing."""
    said, heard = [], threading.Event()

    def say(line: str) -> None:
        said.append((line, threading.current_thread() is threading.main_thread()))
        heard.set()

    before = signal.getsignal(signal.SIGTERM)
    with SignalGuard(say) as guard:
        with guard.during("compiling"):
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard.wait(5)
        assert guard.should_stop()
    assert said == [("SIGTERM: the run stops when it is done with compiling", False)]
    with SignalGuard(say) as guard:  # at any other time the loop says it
        os.kill(os.getpid(), signal.SIGTERM)
        assert guard.should_stop()
    assert len(said) == 1
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_guard_outside_the_main_thread_only_answers() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def ask() -> bool:
        with SignalGuard() as guard:
            return guard.should_stop()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ask).result() is False


_TRAINS = """
import sys
import jax, jax.numpy as jnp
from rcodec_jax.checkpoint import Checkpoints, SignalGuard
state, start = {"w": jnp.arange(16.0)}, 0
step = jax.jit(lambda s, i: {"w": s["w"] * 1.01 + jnp.sin(s["w"] + i)}, donate_argnums=0)
with SignalGuard() as guard, Checkpoints(sys.argv[1]) as checkpoints:
    if checkpoints.latest_step() is not None:
        state, data = checkpoints.restore(None, state)
        start = data["next"]
    for i in range(start, 40):
        state = step(state, float(i))
        print(i, flush=True)
        if len(sys.argv) > 2:
            sys.stdin.readline()
        if guard.should_stop():
            break
    checkpoints.save(i + 1, state, {"next": i + 1})
"""


def test_a_run_stopped_and_started_again_ends_the_same(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    subprocess.run([sys.executable, "-c", _TRAINS, str(whole)], check=True, capture_output=True)
    worker = subprocess.Popen(
        [sys.executable, "-c", _TRAINS, str(parts), "stepwise"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stdin is not None and worker.stdout is not None
    for line in worker.stdout:
        if int(line) == 10:
            worker.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            break
        worker.stdin.write("\n")
        worker.stdin.flush()
    _, errors = worker.communicate("\n" * 40, timeout=60)
    assert worker.returncode == 0, errors
    with Checkpoints(parts, read_only=True) as checkpoints:
        assert checkpoints.latest_step() == 11
    subprocess.run([sys.executable, "-c", _TRAINS, str(parts)], check=True, capture_output=True)
    ends = []
    for directory in (whole, parts):
        with Checkpoints(directory, read_only=True) as checkpoints:
            assert checkpoints.latest_step() == 40
            ends.append(checkpoints.restore_params(("w",))["w"].tobytes())
    assert ends[0] == ends[1]
