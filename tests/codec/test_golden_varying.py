"""Golden files of models whose prior varies: what the integer networks say is seen in them."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rcodec_jax.cli.main import main
from rcodec_jax.codec.symbols import read_symbols
from rcodec_jax.entropy import IntegerPart, LevelContext


@pytest.fixture(scope="module")
def models(golden) -> ModuleType:
    """The module tests/golden/models.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(golden.HERE))
        return importlib.import_module("models")


@pytest.fixture(scope="module", params=["varying", "halves", "centroids", "skipping"])
def model(models, request) -> Any:
    return models.MODELS[request.param]


@pytest.fixture(scope="module")
def part(model) -> IntegerPart:
    return model.load()


def test_files_hold_the_recorded_symbols(model, part) -> None:
    assert part.digest.hex() == model.record["integer_digest"]
    assert model.hashes() == model.record["files"]
    assert {f"{name}.rdc" for name in model.cases} == set(model.record["files"])


def test_bytes_follow_from_integer_symbols(model, part, golden) -> None:
    for name, case in model.cases.items():
        made = golden.make(part, bytes(4), case)
        assert made == (model.folder / f"{name}.rdc").read_bytes(), name


@pytest.mark.parametrize("model", ["varying"], indirect=True)
def test_the_prior_varies(model, part) -> None:
    """From cell to cell, from channel to channel, with z and with the node; and one is in lanes."""
    data = (model.folder / "gradient.rdc").read_bytes()
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
    large = read_symbols((model.folder / "lanes_box.rdc").read_bytes(), part)[0]
    assert large.payload[0] > 0


def test_the_second_half_knows_the_first(models) -> None:
    """The context network changes most of the second half's prior and none of the first's."""
    halves = models.MODELS["halves"]
    part = halves.make()
    assert part.digest.hex() == halves.record["integer_digest"]
    for name in ("gradient", "lanes_box"):
        data = (halves.folder / f"{name}.rdc").read_bytes()
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
def test_symbols_do_not_depend_on_threads_or_blas_kernel(models, model, variables) -> None:
    """In a process of its own, which imports no JAX (the script sees to that)."""
    command = [sys.executable, models.__file__, "hashes", model.make.__name__]
    found = subprocess.run(
        command, env=os.environ | variables, check=True, capture_output=True, text=True
    )
    assert json.loads(found.stdout) == model.record["files"]


def test_rcodec_verify_checks_them(model, part, tmp_path, capsys) -> None:
    (tmp_path / "integer.safetensors").write_bytes(part.to_bytes())
    command = ["verify", str(model.folder), "--symbols-only", "--model", str(tmp_path), "--json"]
    assert main(command) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["agrees"] and len(figures["files"]) == len(model.cases)
