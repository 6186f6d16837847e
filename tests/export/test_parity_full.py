"""Stable Diffusion 2.1 and 1.5 at their size: outputs, bits and memory of the way in and out.

Slow, and large: 12 GB on disk, 8 GB of memory. `make parity` runs it; add -s to see the figures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import peers
import pytest

from rcodec_jax.export.repository import Repository

pytestmark = pytest.mark.large

TOLERANCE = 1e-4
MEASURED = """
import json, resource, sys
from rcodec_jax.cli.main import main
code = main(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
open(sys.argv[1], "w").write(json.dumps(peak))
sys.exit(code)
"""
SCRIPT = Path(__file__).with_name("full_size.py")


def _python(*arguments: object) -> None:
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": root}
    subprocess.run([sys.executable, *map(str, arguments)], check=True, env=environment)


def _command(peak: Path, *arguments: object) -> int:
    """Runs a command of ours; returns its peak memory in bytes."""
    _python("-c", MEASURED, peak, *arguments)
    return json.loads(peak.read_text())


@pytest.fixture(scope="module", params=["sd21", "sd15"])
def folder(request, tmp_path_factory) -> Iterator[Path]:
    """theirs/, ours/ imported from it, back/ exported again, and the figures of each."""
    peers.installed("diffusers")
    root = tmp_path_factory.mktemp(request.param)
    _python(SCRIPT, "theirs", request.param, root)
    source, weights = root / "theirs", root / "ours"
    _command(root / "import.json", "import", source, "--out", weights, "--context",
             root / "context.npy")  # fmt: skip
    _command(root / "export.json", "export", weights, "--format", "diffusers", "--out",
             root / "back")  # fmt: skip
    _python(SCRIPT, "ours", request.param, root)
    yield root
    shutil.rmtree(root)  # one shape's disk is enough


def test_outputs_agree(folder: Path) -> None:
    theirs, ours = (np.load(folder / f"{which}.npz") for which in ("theirs", "ours"))
    errors = {name: peers.relative_error(ours[name], theirs[name]) for name in theirs.files}
    for which in ("theirs", "ours"):
        print(which, (folder / f"{which}.json").read_text())
    print("relative errors", errors)
    assert set(errors) == {"encoder", "decoder", "unet"}
    assert max(errors.values()) < TOLERANCE


def test_import_and_export_are_the_identity(folder: Path) -> None:
    before, after = Repository(str(folder / "theirs")), Repository(str(folder / "back"))
    for part in ("unet", "vae"):
        first, second = before.tensors(part), after.tensors(part)
        assert first.shapes == second.shapes
        for name in first.shapes:
            assert np.array_equal(first.read(name), second.read(name)), name


@pytest.mark.parametrize("what", ["import", "export"])
def test_memory_stays_under_that_of_the_weights(folder: Path, what: str) -> None:
    size = sum(path.stat().st_size for path in (folder / "theirs").rglob("*.safetensors"))
    peak = json.loads((folder / f"{what}.json").read_text())
    print(what, f"peak {peak / 2**30:.2f} GiB, weights {size / 2**30:.2f} GiB")
    assert peak < 1.3 * size
