"""Checkpoints on disk: asynchronous, atomic, the latest and the best kept, resharded on restore."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from rcodec_jax.checkpoint import faults
from rcodec_jax.errors import RcodecError, UsageError

_STATE, _DATA = "state", "data"
_JSON = "json"
"""The one key of the stored data state."""


class Checkpoints:
    """The checkpoints of one run in one directory.

    A save copies the arrays and writes them in the background; a step that was cut off while
    being written is never seen as a checkpoint. With several processes every process makes the
    same calls on a shared directory; the data state of process 0 is the one that is stored, so it
    has to be the same everywhere (it is when maps and augmentation come before the shard slice).

    Args:
      directory: made if it is missing.
      keep_latest: how many of the newest steps to keep, at least 1.
      keep_best: how many of the best steps to keep besides: of those with the highest "stage"
        among their metrics (0 where there is none), the ones with the least "validation", or
        without any the least "loss". Losses of different stages are not alike.
      read_only: refuse to save or to delete anything; the directory must exist.

    Raises:
      UsageError: settings out of range, or a read-only directory that does not exist.
      RcodecError: the directory cannot be made or written.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep_latest: int = 2,
        keep_best: int = 1,
        read_only: bool = False,
    ) -> None:
        if keep_latest < 1 or keep_best < 0:
            raise UsageError(
                f"expected keep_latest >= 1 and keep_best >= 0, got {keep_latest} and {keep_best}"
            )
        self._directory = Path(directory).absolute()
        if read_only and not self._directory.is_dir():
            raise UsageError(f"expected a checkpoint directory, got {str(directory)!r}")
        self._read_only = read_only
        # Best-of alone may delete the latest step, and then a run could not go on from it.
        keep: list[policies.PreservationPolicy] = [policies.LatestN(keep_latest)]
        if keep_best:
            best = policies.BestN(
                get_metric_fn=_merit, n=keep_best, keep_checkpoints_without_metrics=False
            )
            keep.append(best)
        faults.silence_repeated_tracebacks()
        if not read_only:
            with self._storage_faults("opening checkpoints"):
                self._directory.mkdir(parents=True, exist_ok=True)
                faults.check_writable(self._directory)
        # Orbax's own read-only mode does no more than this and warns at every turn.
        self._manager = ocp.CheckpointManager(
            self._directory,
            item_names=(_STATE, _DATA),
            options=ocp.CheckpointManagerOptions(
                best_fn=_merit,
                best_mode="max",
                preservation_policy=policies.AnyPreservationPolicy(keep),
                cleanup_tmp_directories=not read_only,
                create=not read_only,
            ),
        )

    def save(
        self,
        step: int,
        state: Any,
        data_state: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        *,
        about: Mapping[str, Any] | None = None,
        wait: bool = False,
    ) -> None:
        """Saves a step; returns as soon as the arrays are copied, so they may be donated after.

        A step that is there already stays as it is.

        Errors of the background write are raised by the next call of `save`, `wait` or `close`.

        Args:
          step: number of finished training steps.
          state: any pytree of arrays.
          data_state: JSON values that the data iterator needs to go on.
          metrics: figures of this step; "validation" or "loss" among them makes it a candidate for
            best.
          about: JSON values that say where the step comes from, kept with it for readers.
          wait: return only when the step is on disk.

        Raises:
          RcodecError: the checkpoints were opened read-only, or the disk is full or unwritable, now
            or during the save before this one. What was saved before stays whole.
        """
        if self._read_only:
            raise RcodecError(
                f"{self._directory} was opened read-only, so step {step} is not saved"
            )
        if step not in self.all_steps():
            with self._storage_faults(f"saving step {step}"):
                faults.check_writable(self._directory)
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(state),
                        data=ocp.args.JsonSave({_JSON: dict(data_state)}),
                    ),
                    metrics={key: float(value) for key, value in (metrics or {}).items()},
                    custom_metadata=dict(about or {}),
                    force=True,
                )
        if wait:
            self.wait()

    def latest_step(self) -> int | None:
        """The newest step; None when nothing was saved yet."""
        return self._manager.latest_step()

    def all_steps(self) -> tuple[int, ...]:
        """The steps that are there, ascending."""
        return tuple(sorted(self._manager.all_steps()))

    def restore(self, step: int | None, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
        """Restores a step, bit by bit, onto the shardings asked for (any mesh, any topology).

        Args:
          step: the step; None for the latest.
          abstract_state: pytree of `jax.ShapeDtypeStruct` with shardings, or of arrays to take
            these from. A leaf without a sharding goes to the first device.

        Returns:
          The state, a pytree like `abstract_state`, and the data state.

        Raises:
          UsageError: no such step.
          RcodecError: the saved state has other paths, shapes or dtypes.
        """
        step = self._existing(step)
        target = jax.tree.map(_abstract_leaf, abstract_state)
        self._check_fit(step, target)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore()
            ),
        )
        return restored[_STATE], restored[_DATA][_JSON]

    def restore_params(self, keys: Iterable[str], *, step: int | None = None) -> dict[str, Any]:
        """Restores some top-level parts of a state as NumPy arrays, whatever devices it came from.

        Args:
          keys: names of dictionary keys or dataclass fields at the top of the saved state.
          step: the step; None for the latest.

        Returns:
          For each key its part, as nested dictionaries (and lists) of arrays.

        Raises:
          UsageError: no such step, or a key that the state does not have.
        """
        step = self._existing(step)
        saved = self._saved_tree(step)
        missing = [key for key in keys if key not in saved]
        if missing:
            raise UsageError(
                f"checkpoint of step {step}: expected some of {', '.join(sorted(saved))}, "
                f"got {', '.join(missing)}"
            )
        target = {
            key: jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), saved[key])
            for key in keys
        }
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
        with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
            return reader.restore(
                self._state_path(step),
                args=ocp.args.PyTreeRestore(target, restore_args=as_numpy, partial_restore=True),
            )

    def wait(self) -> None:
        """Blocks until everything saved so far is on disk.

        Raises:
          RcodecError: the disk is full or unwritable.
        """
        with self._storage_faults("saving"):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Waits for saves in flight and frees the background threads; raises as `wait` does."""
        with self._storage_faults("saving"):
            self._manager.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(Exception):  # what went wrong first is what to tell of
            self.close()

    def _storage_faults(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return faults.told_in_one_line(doing, self._directory)

    def _existing(self, step: int | None) -> int:
        steps = self.all_steps()
        if not steps:
            raise UsageError(f"no checkpoint in {self._directory}")
        if step is None:
            return steps[-1]
        if step not in steps:
            raise UsageError(f"expected a step of {list(steps)} in {self._directory}, got {step}")
        return step

    def _state_path(self, step: int) -> Any:
        # The manager's kind of path: orbax's handlers ask more of one than pathlib gives.
        return self._manager.directory / str(step) / _STATE

    def _saved_tree(self, step: int) -> Any:
        """Shapes and dtypes of a saved state, as nested dictionaries."""
        with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
            return reader.metadata(self._state_path(step)).tree

    def _check_fit(self, step: int, target: Any) -> None:
        # Left to itself, orbax casts other dtypes without a word.
        saved, wanted = _signature(self._saved_tree(step)), _signature(target)
        wrong = [path for path in sorted({*saved, *wanted}) if saved.get(path) != wanted.get(path)]
        if wrong:
            lines = [
                f"{path}: expected {wanted.get(path, 'nothing')}, got {saved.get(path, 'nothing')}"
                for path in wrong[:5]
            ]
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise RcodecError(
                f"checkpoint of step {step} does not fit the state: {'; '.join(lines)}{more}"
            )


def _merit(metrics: Mapping[str, float]) -> Any:
    """What the best steps have most of; orbax only sorts by it."""
    stage = metrics.get("stage", 0.0)
    for rank, name in ((1, "validation"), (0, "loss")):
        if not math.isnan(loss := float(metrics.get(name, math.nan))):
            return stage, rank, -loss
    return -math.inf, -math.inf, -math.inf


def _abstract_leaf(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=sharding)


def _signature(tree: Any) -> dict[str, str]:
    """Path -> dtype and shape. Attributes, keys and list positions look alike, as on disk."""

    def described(leaf: Any) -> str:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # on disk its words
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        return f"{leaf.dtype}{list(leaf.shape)}"

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): described(leaf)
        for path, leaf in leaves
    }
