"""A full disk or a folder that went away: one line, and what was saved before stays whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.checkpoint import Checkpoints
from rcodec_jax.errors import RcodecError, StorageError

_FULL = """
import resource, sys
import numpy as np
from rcodec_jax.checkpoint import Checkpoints
from rcodec_jax.errors import RcodecError
state = {"w": np.random.default_rng(0).normal(size=(256, 512)).astype(np.float32)}
try:
    with Checkpoints(sys.argv[1]) as checkpoints:
        checkpoints.save(1, state, {"n": 1}, wait=True)
        # A file that may not grow further: a full disk as far as the writer can tell.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        checkpoints.save(2, state, {"n": 2})
        checkpoints.save(3, state, {"n": 3}, wait=True)
except RcodecError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of the process")
def test_a_full_disk_takes_one_line_and_no_earlier_step(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(directory)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "failed: File too large; step 1 is whole" in done.stdout
    assert done.stdout.count("\n") == 1 and "Traceback" not in done.stderr
    expected = np.random.default_rng(0).normal(size=(256, 512)).astype(np.float32)
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.all_steps() == (1,)
        state, data_state = checkpoints.restore(None, {"w": jnp.zeros((256, 512))})
        assert np.array_equal(np.asarray(state["w"]), expected) and data_state == {"n": 1}
        checkpoints.save(2, state, {"n": 2}, wait=True)
        # what the failed saves left behind is gone
        assert sorted(path.name for path in directory.iterdir()) == ["1", "2"]


def test_a_folder_that_went_away_is_named(tmp_path: Path) -> None:
    state = {"w": jnp.zeros(4)}
    with (
        pytest.raises(StorageError, match="saving step 2 in .* failed: No such file"),
        Checkpoints(tmp_path / "run") as checkpoints,
    ):
        checkpoints.save(1, state, {}, wait=True)
        shutil.rmtree(tmp_path / "run")
        checkpoints.save(2, state, {})


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RcodecError, match="opening checkpoints in .* failed: Not a directory"):
        Checkpoints(tmp_path / "file" / "run")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_refuses_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(RcodecError, match="failed: Permission denied"):
        Checkpoints(tmp_path)


def test_a_fault_of_another_kind_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    with pytest.raises(TypeError), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.zeros(4)}, {"n": object()}, wait=True)  # type: ignore


def test_a_step_keeps_what_it_was_told_of_itself(tmp_path: Path) -> None:
    about = {"config": {"steps": 3, "names": ["a", None]}, "started": "2026-01-01"}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.zeros(4)}, {}, about=about)
        checkpoints.save(2, {"w": jnp.zeros(4)}, {}, wait=True)
    kept = [
        json.loads((tmp_path / step / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]
        for step in ("1", "2")
    ]
    assert kept == [about, {}]
