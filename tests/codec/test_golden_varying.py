"""Golden files of models whose prior varies: what the integer networks say is seen in them."""

from __future__ import annotations

import importlib
import json
import lzma
import os
import platform
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from rcodec_jax.cli.main import main
from rcodec_jax.codec.symbols import read_symbols
from rcodec_jax.entropy import IntegerPart, LevelContext


@pytest.fixture(scope="module", params=["varying", "halves", "centroids", "skipping"])
def varying(golden, request) -> ModuleType:
    """The modules tests/golden/varying.py, halves.py, centroids.py and skipping.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(golden.HERE))
        return importlib.import_module(request.param)


@pytest.fixture(scope="module")
def part(varying) -> IntegerPart:
    return IntegerPart.from_bytes(lzma.decompress(varying.PART.read_bytes()))


@pytest.fixture(scope="module")
def record(varying) -> dict:
    return json.loads(varying.RECORD.read_text(encoding="utf-8"))


def test_files_hold_the_recorded_symbols(varying, part, golden, record) -> None:
    assert part.digest.hex() == record["integer_digest"]
    assert golden.hashes(part, varying.FOLDER) == record["files"]
    assert {f"{name}.rdc" for name in varying.CASES} == set(record["files"])


def test_bytes_follow_from_integer_symbols(varying, part, golden) -> None:
    for name, case in varying.CASES.items():
        made = golden.make(part, bytes(4), case)
        assert made == (varying.FOLDER / f"{name}.rdc").read_bytes(), name


@pytest.mark.parametrize("varying", ["varying"], indirect=True)
def test_the_prior_varies(varying, part) -> None:
    """From cell to cell, from channel to channel, with z and with the node; and one is in lanes."""
    data = (varying.FOLDER / "gradient.rdc").read_bytes()
    container, levels, symbols = read_symbols(data, part)
    for array in (symbols.prior.mean, symbols.prior.log2_sigma):
        assert array.std(axis=(0, 1)).min() > 1024 and array.std(axis=2).min() > 1024
    index = part.sigma_index(symbols.prior, levels)
    assert np.unique(index).size > 50
    flat = part.predict(0 * symbols.z, levels)
    change = flat.log2_sigma.astype(np.int32) - symbols.prior.log2_sigma
    assert (np.abs(change) > 1024).mean() > 0.3
    for level in range(1, container.header.level_count):
        here, before = (
            part.predict(symbols.z, LevelContext(levels.nodes[[i]], 0 * levels.level_map))
            for i in (level, level - 1)
        )
        assert (here.log2_sigma != before.log2_sigma).mean() > 0.9
    large = read_symbols((varying.FOLDER / "lanes_box.rdc").read_bytes(), part)[0]
    assert large.payload[0] > 0


def test_the_second_half_knows_the_first(golden) -> None:
    """The context network changes most of the second half's prior and none of the first's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(golden.HERE))
        halves = importlib.import_module("halves")
    part = halves.make_part()
    assert part.digest.hex() == json.loads(halves.RECORD.read_text())["integer_digest"]
    for name in ("gradient", "lanes_box"):
        data = (halves.FOLDER / f"{name}.rdc").read_bytes()
        _, levels, symbols = read_symbols(data, part)
        before = part.predict(symbols.z, levels)
        first, second = part.halves(*levels.level_map.shape)
        for old, new in (
            (before.mean, symbols.prior.mean),
            (before.log2_sigma, symbols.prior.log2_sigma),
        ):
            assert np.array_equal(old[first], new[first])
            assert (np.abs(old.astype(np.int32) - new)[second] > 100).mean() > 0.5
        again = part.refine(before, symbols.j, levels)
        assert np.array_equal(again.mean, symbols.prior.mean)
        changed = symbols.j.copy()
        changed[second] += 1  # what a half says of itself does not count
        same = part.refine(before, changed, levels)
        assert np.array_equal(again.log2_sigma, same.log2_sigma)


CORES = ["Haswell", "Nehalem"] if platform.machine() in ("x86_64", "AMD64") else []


@pytest.mark.parametrize(
    "variables",
    [{"OPENBLAS_NUM_THREADS": "1"}, *({"OPENBLAS_CORETYPE": core} for core in CORES)],
    ids=lambda variables: "-".join(variables.values()),
)
def test_symbols_do_not_depend_on_threads_or_blas_kernel(varying, record, variables) -> None:
    """In a process of its own, which imports no JAX (the script sees to that)."""
    command = [sys.executable, varying.__file__, "hashes"]
    found = subprocess.run(
        command, env=os.environ | variables, check=True, capture_output=True, text=True
    )
    assert json.loads(found.stdout) == record["files"]


def test_rcodec_verify_checks_them(varying, part, tmp_path, capsys) -> None:
    (tmp_path / "integer.safetensors").write_bytes(part.to_bytes())
    command = ["verify", str(varying.FOLDER), "--symbols-only", "--model", str(tmp_path), "--json"]
    assert main(command) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["agrees"] and len(figures["files"]) == len(varying.CASES)
