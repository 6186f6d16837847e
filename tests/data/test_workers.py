"""Worker processes of the loader: signals to the whole group, and a parent that is killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rcodec_jax

SIGNALS = """
import multiprocessing, os, signal, sys, time
import numpy as np
from rcodec_jax.data import make_dataset

class Noise:
    def __len__(self):
        return 8

    def __getitem__(self, index):
        time.sleep(0.01)
        return np.full((16, 16, 3), index, np.uint8)

if __name__ == "__main__":
    batches = make_dataset(Noise(), crop_px=16, batch_size=2, seed=1, worker_count=1)
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    if sys.argv[1] == "killed":
        time.sleep(60)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
        os.killpg(0, number)
    for _ in range(20):
        next(batches)
    print("done", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("end", ["left open", "killed"])
def test_workers_outlive_signals_to_all_but_not_their_parent(tmp_path, end):
    (tmp_path / "signals.py").write_text(SIGNALS)
    root = str(Path(rcodec_jax.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "signals.py", end],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    workers = [int(word) for word in process.stdout.readline().split()]
    assert len(workers) == 1
    if end == "killed":
        process.kill()
    said, _ = process.communicate(timeout=60)
    if end != "killed":
        assert (process.returncode, said) == (0, "done\n")
    deadline = time.monotonic() + 20
    while any(_runs(worker) for worker in workers):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.02)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
