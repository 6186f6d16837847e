"""launch/local.sh with a stand-in for `rcodec`: what it starts, and what it makes of exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOCAL = Path(__file__).parents[2] / "launch" / "local.sh"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script")

# Counts its starts by process, then does what the text for this start says.
STAND_IN = """
n=$(cat "count-$JAX_PROCESS_ID" 2>/dev/null || echo 0)
echo $((n + 1)) >"count-$JAX_PROCESS_ID"
echo "$* | $JAX_COORDINATOR_ADDRESS $JAX_NUM_PROCESSES $JAX_NUM_CPU_DEVICES $JAX_PLATFORMS"
trap 'exit 75' TERM
case $n-$JAX_PROCESS_ID in
%s
esac
exit 0
"""

# Whoever starts the tests in the background makes all their children deaf to Ctrl-C, and a shell
# cannot undo that for itself.
LISTEN = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)"
LISTENING = [sys.executable, "-c", f"{LISTEN}; os.execvp(sys.argv[1], sys.argv[1:])"]


@pytest.fixture
def start(tmp_path: Path):
    """Starts the launcher with a stand-in that does something by `start-process`."""

    def started(cases: str, *options: str) -> subprocess.Popen:
        (tmp_path / "stand_in.sh").write_text(STAND_IN % cases)
        return subprocess.Popen(
            [*LISTENING, "bash", str(LOCAL), *options, "recipe.py", "--data", "a b"],
            cwd=tmp_path,
            env={**os.environ, "RCODEC": "bash stand_in.sh"},
            stderr=subprocess.PIPE,
            text=True,
        )

    return started


def starts(folder: Path, process: int = 0) -> int:
    return int((folder / f"count-{process}").read_text())


def test_every_process_gets_its_place_and_the_arguments(start, tmp_path: Path) -> None:
    launcher = start("", "-n", "3", "-d", "2", "-l", "out/logs")
    said = launcher.communicate(timeout=60)[1]
    assert launcher.returncode == 0
    lines = {(tmp_path / "out/logs" / f"process-{i}.log").read_text() for i in range(3)}
    assert len(lines) == 1  # the same address for all
    command, place = lines.pop().split(" | ")
    assert command == "train recipe.py --data a b"
    assert place.startswith("localhost:") and place.endswith(" 3 2 cpu\n")
    assert said.count("is pid") == 3


def test_a_failure_starts_all_again_up_to_the_bound(start, tmp_path: Path) -> None:
    launcher = start("[0-9]-1) echo why; exit 9 ;; *-0) sleep 60 ;;", "-r", "1")
    said = launcher.communicate(timeout=60)[1]
    assert launcher.returncode == 9
    assert (starts(tmp_path, 0), starts(tmp_path, 1)) == (2, 2)
    assert "process 1 ended with code 9" in said and "\nwhy\n" in said


def test_a_killed_process_takes_the_others_along_and_the_run_goes_on(start, tmp_path: Path) -> None:
    launcher = start("0-0) kill -KILL $$ ;; 0-1) sleep 60 ;;")
    launcher.communicate(timeout=60)
    assert launcher.returncode == 0
    assert (starts(tmp_path, 0), starts(tmp_path, 1)) == (2, 2)


def test_saved_and_stopped_is_no_failure(start, tmp_path: Path) -> None:
    launcher = start("[012]-*) exit 75 ;;", "-r", "0")
    launcher.communicate(timeout=60)
    assert launcher.returncode == 0 and starts(tmp_path) == 4


@pytest.mark.parametrize("code", [2, 127])
def test_what_cannot_get_better_is_not_tried_again(start, tmp_path: Path, code: int) -> None:
    launcher = start(f"*-1) echo 'rcodec: error: no such recipe'; exit {code} ;;")
    said = launcher.communicate(timeout=60)[1]
    assert launcher.returncode == code and starts(tmp_path) == 1
    assert "no such recipe" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_is_passed_on_and_ends_it(start, tmp_path: Path, number, code: int) -> None:
    launcher = start("*) touch up-$JAX_PROCESS_ID; while :; do sleep 0.1; done ;;")
    deadline = time.monotonic() + 60
    while not all((tmp_path / f"up-{i}").exists() for i in range(2)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    launcher.send_signal(number)
    launcher.communicate(timeout=60)
    assert launcher.returncode == code
    assert (starts(tmp_path, 0), starts(tmp_path, 1)) == (1, 1)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_before_anything_runs_ends_it(start, tmp_path, monkeypatch, number, code) -> None:
    slow = tmp_path / "slow-python"
    slow.write_text("#!/bin/sh\ntouch asked; sleep 1; echo 12345\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(slow))
    launcher = start("", "-n", "2")
    while not (tmp_path / "asked").exists():
        time.sleep(0.02)
    launcher.send_signal(number)
    launcher.communicate(timeout=60)
    assert launcher.returncode == code
    assert not list(tmp_path.glob("count-*"))


@pytest.mark.parametrize("options", [["-n", "0"], ["-d", "x"], ["-q"]])
def test_bad_options_print_the_help(start, options: list[str]) -> None:
    launcher = start("", *options)
    said = launcher.communicate(timeout=60)[1]
    assert launcher.returncode == 2 and "launch/local.sh -n 2 -d 4" in said
