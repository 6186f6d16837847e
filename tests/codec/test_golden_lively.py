"""Golden files of a model whose prior varies: what the integer network says is seen in them."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from rcodec_jax.cli.main import main
from rcodec_jax.codec.symbols import read_symbols
from rcodec_jax.entropy import IntegerPart


@pytest.fixture(scope="module")
def lively(golden) -> ModuleType:
    """The module tests/golden/lively.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(golden.HERE))
        return importlib.import_module("lively")


@pytest.fixture(scope="module")
def part(lively) -> IntegerPart:
    return lively.load_part()


@pytest.fixture(scope="module")
def record(lively) -> dict:
    return json.loads(lively.RECORD.read_text(encoding="utf-8"))


def test_files_hold_the_recorded_symbols(lively, part, golden, record) -> None:
    assert part.digest.hex() == record["integer_digest"]
    assert golden.hashes(part, lively.FOLDER) == record["files"]
    assert {f"{name}.rdc" for name in lively.CASES} == set(record["files"])


def test_bytes_follow_from_integer_symbols(lively, part, golden) -> None:
    for name, case in lively.CASES.items():
        made = golden.make(part, lively.NO_NETWORKS, case)
        assert made == (lively.FOLDER / f"{name}.rdc").read_bytes(), name


def test_the_prior_varies(lively, part) -> None:
    """From cell to cell, from channel to channel, with z and with the node; and one is in lanes."""
    data = (lively.FOLDER / "gradient.rdc").read_bytes()
    container, levels, symbols = read_symbols(data, part)
    for array in (symbols.prior.mean, symbols.prior.log2_sigma):
        assert array.std(axis=(0, 1)).min() > 1024 and array.std(axis=2).min() > 1024
    index = part.sigma_index(symbols.prior, levels.nodes, levels.level_map)
    assert np.unique(index).size > 50
    flat = part.predict(0 * symbols.z, levels.nodes, levels.level_map)
    assert (np.abs(flat.log2_sigma - symbols.prior.log2_sigma) > 1024).mean() > 0.3
    for level in range(1, container.header.level_count):
        here, before = (part.predict(symbols.z, levels.nodes[[i]], 0 * levels.level_map)
                        for i in (level, level - 1))  # fmt: skip
        assert (here.log2_sigma != before.log2_sigma).mean() > 0.9
    large = read_symbols((lively.FOLDER / "lanes_box.rdc").read_bytes(), part)[0]
    assert large.payload[0] > 0


CORES = ["Haswell", "Nehalem"] if platform.machine() in ("x86_64", "AMD64") else []


@pytest.mark.parametrize(
    "variables",
    [{"OPENBLAS_NUM_THREADS": "1"}, *({"OPENBLAS_CORETYPE": core} for core in CORES)],
    ids=lambda variables: "-".join(variables.values()),
)
def test_symbols_do_not_depend_on_threads_or_blas_kernel(lively, record, variables) -> None:
    """In a process of its own, which imports no JAX (the script sees to that)."""
    command = [sys.executable, str(lively.HERE / "lively.py"), "hashes"]
    found = subprocess.run(
        command, env=os.environ | variables, check=True, capture_output=True, text=True
    )
    assert json.loads(found.stdout) == record["files"]


def test_rcodec_verify_checks_them(lively, part, tmp_path, capsys) -> None:
    (tmp_path / "integer.safetensors").write_bytes(part.to_bytes())
    command = ["verify", str(lively.FOLDER), "--symbols-only", "--model", str(tmp_path), "--json"]
    assert main(command) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["agrees"] and len(figures["files"]) == len(lively.CASES)
