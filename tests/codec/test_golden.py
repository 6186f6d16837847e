"""Golden files: the format's bytes and symbols, today, on any machine, under any BLAS.

A failure here means that old files no longer decode, or that new ones differ: that takes a new
format version, not a new golden file.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.codec.symbols import read_symbols


@pytest.fixture(scope="module")
def record(golden) -> dict:
    return json.loads(golden.RECORD.read_text(encoding="utf-8"))


def test_the_nano_bundle_is_the_one_they_were_made_with(bundle, record) -> None:
    assert bundle.integers.digest.hex() == record["integer_digest"]
    assert bundle.float_digest.hex() == record["float_digest"]


def test_files_hold_the_recorded_symbols(bundle, golden, record) -> None:
    assert golden.hashes(bundle.integers) == record["files"]
    assert {f"{name}.rdc" for name in golden.CASES} | {golden.PHOTO} == set(record["files"])


def test_bytes_follow_from_integer_symbols(bundle, golden) -> None:
    for name, case in golden.CASES.items():
        made = golden.make(bundle.integers, bundle.float_digest, case)
        assert made == (golden.HERE / f"{name}.rdc").read_bytes(), name


def test_a_real_file_is_written_again_byte_for_byte(bundle, golden) -> None:
    data = (golden.HERE / golden.PHOTO).read_bytes()
    container, levels, symbols = read_symbols(data, bundle.integers)
    size = (container.header.height_px, container.header.width_px)
    again = golden.assemble(
        bundle.integers, container.header.float_digest, size, levels, symbols.z, symbols.j
    )
    assert again == data


def test_cases_cover_the_corners(bundle, golden, record) -> None:
    sizes = {tuple(entry["size"]) for entry in record["files"].values()}
    assert {(1, 1), (1, 17), (37, 53), (129, 64), (200, 300)} <= sizes
    counts, far = set(), 0
    for path in golden.HERE.glob("*.rdc"):
        container, _, symbols = read_symbols(path.read_bytes(), bundle.integers)
        counts.add(container.header.level_count)
        far = max(far, int(np.abs(symbols.j).max()))
    assert {1, 2, 16} <= counts and far == 32767
    assert sum(path.stat().st_size for path in golden.HERE.glob("*.rdc")) < 200_000


def test_the_decoded_photo_is_the_recorded_one(codec, golden) -> None:
    """Pixels come from floats: within 2 of 255 on any device."""
    expected = np.asarray(Image.open(golden.HERE / "photo.png")).astype(int)
    found = codec.decode((golden.HERE / golden.PHOTO).read_bytes()).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 2


CORES = ["Haswell", "Nehalem"] if platform.machine() in ("x86_64", "AMD64") else []


@pytest.mark.parametrize(
    "variables",
    [{"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
     {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
     *({"OPENBLAS_CORETYPE": core} for core in CORES)],
    ids=lambda variables: "-".join(variables.values()),
)  # fmt: skip
def test_symbols_do_not_depend_on_threads_or_blas_kernel(golden, record, variables) -> None:
    """In a process of its own, which imports no JAX (make.py sees to that)."""
    command = [sys.executable, str(golden.HERE / "make.py"), "hashes"]
    found = subprocess.run(
        command, env=os.environ | variables, check=True, capture_output=True, text=True
    )
    assert json.loads(found.stdout) == record["files"]
