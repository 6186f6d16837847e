"""What a run leaves that is refused at its start, and what it says of the code it ran."""

from __future__ import annotations

import dataclasses
import subprocess

import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.train import run
from rcodec_jax.train.loop.manifest import git_commit
from rcodec_jax.train.loop.workdir import open_workdir


def test_refused_tries_leave_no_folder(tools, pictures, tmp_path) -> None:
    config = tools.config("joint")
    stage = config.train.stages[0]
    lossy = dataclasses.replace(stage, loss=dataclasses.replace(stage.loss, lpips=1.0))
    without = dataclasses.replace(config, train=dataclasses.replace(config.train, stages=(lossy,)))
    with pytest.raises(UsageError):
        run(config, data=tmp_path / "missing", workdir=tmp_path / "a" / "run")
    with pytest.raises(UsageError, match="needs weights"):  # once the checkpoints are open
        run(without, data=pictures, workdir=tmp_path / "a" / "run")
    assert not (tmp_path / "a").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError):
        run(config, data=tmp_path / "missing", workdir=tmp_path / "there")
    assert (tmp_path / "there").exists()


def test_a_fault_takes_nothing_away_that_holds_something(tmp_path) -> None:
    def fail(*names: str) -> None:
        with pytest.raises(KeyboardInterrupt), open_workdir(tmp_path / "a" / "run") as folder:
            for name in names:
                (folder / name).mkdir(parents=True)
            raise KeyboardInterrupt

    fail("checkpoints", "checkpoints/5")
    assert (tmp_path / "a" / "run" / "checkpoints" / "5").is_dir()
    fail()
    assert (tmp_path / "a" / "run").is_dir()
    with open_workdir(tmp_path / "b") as folder:
        assert folder.is_dir()
    assert folder.is_dir()


def test_the_commit_of_a_checkout_is_told(tmp_path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("a = 1\n")
    assert git_commit(package) is None

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("add", "package")
    git("commit", "-q", "-m", "first")
    assert git_commit(package) == git("rev-parse", "HEAD")
    (tmp_path / "notes").write_text("beside the package")
    assert git_commit(package) == git("rev-parse", "HEAD")
    (package / "a.py").write_text("a = 2\n")
    assert git_commit(package) == git("rev-parse", "HEAD") + "+"
