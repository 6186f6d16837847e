"""launch/accelerator.sh with a stand-in for `rcodec`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "accelerator.sh"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script")

STAND_IN = """
echo "$*" >>calls
[[ $1 == export ]] && mkdir -p out/weights && exit 0
mkdir -p out-run && touch out-run/config.json out-run/metrics.jsonl
trap 'exit 75' TERM
%s
"""


@pytest.fixture
def start(tmp_path: Path):
    """Starts the script with a stand-in whose training is some shell."""

    def started(training: str) -> subprocess.Popen:
        (tmp_path / "stand_in.sh").write_text(STAND_IN % training)
        return subprocess.Popen(
            ["bash", str(SCRIPT), "-m", "3", "-o", "out", "recipe.py", "--data", "a b"],
            cwd=tmp_path,
            env={**os.environ, "RCODEC": "bash stand_in.sh"},
        )

    return started


def _calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_a_run_ends_with_weights(start, tmp_path) -> None:
    assert start("exit 0").wait(30) == 0
    training, export = _calls(tmp_path)
    assert training.startswith("train recipe.py --resident --minutes 3 --workdir out-run ")
    assert "--set train.dtype=bfloat16" in training and training.endswith("--data a b")
    assert export.startswith("export out-run --format safetensors --half")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "weights",
        "config.json",
        "metrics.jsonl",
    }


def test_what_is_stopped_early_leaves_weights_too(start, tmp_path) -> None:
    script = start("touch ready; while :; do sleep .05; done")
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    script.send_signal(signal.SIGTERM)
    assert script.wait(30) == 75
    assert len(_calls(tmp_path)) == 2 and (tmp_path / "out" / "weights").is_dir()


def test_a_run_that_fails_leaves_none(start, tmp_path) -> None:
    assert start("exit 2").wait(30) == 2
    assert len(_calls(tmp_path)) == 1
