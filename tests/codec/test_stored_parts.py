"""Integer parts kept by digest: symbols of files of models that no longer ship still decode."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rcodec_jax.bitstream import Header, read_container
from rcodec_jax.cli.main import main
from rcodec_jax.codec.symbols import find_integer_part, read_symbols
from rcodec_jax.errors import BundleError, DigestError
from rcodec_jax.model import bundle as bundles


@pytest.fixture
def file(golden) -> bytes:
    return (golden.HERE / "odd_box.rdc").read_bytes()


@pytest.fixture
def header(file) -> Header:
    return read_container(file).header


@pytest.fixture
def store(bundle, golden, tmp_path) -> Path:
    """A store with the nano model's part only."""
    folder = tmp_path / "integer"
    folder.mkdir()
    name = f"{bundle.integers.digest.hex()}.safetensors"
    shutil.copyfile(golden.BUNDLE / "integer.safetensors", folder / name)
    return folder


def test_a_part_is_found_by_its_digest(bundle, file, header, store) -> None:
    part = find_integer_part(header, store=store)
    assert part.digest == bundle.integers.digest
    _, _, symbols = read_symbols(file, part)
    _, _, expected = read_symbols(file, bundle.integers)
    np.testing.assert_array_equal(symbols.j, expected.j)


def test_a_store_helps_where_another_model_is_given(bundle, header, store) -> None:
    shipped = bundles.shipped_bundle()
    assert find_integer_part(header, shipped, store=store).digest == bundle.integers.digest
    with pytest.raises(DigestError, match=bundle.integers.digest.hex()):
        find_integer_part(header, shipped, store=store / "nothing")
    with pytest.raises(DigestError, match="does not ship"):
        find_integer_part(header, store=store / "nothing")


def test_the_name_alone_is_not_believed(bundle, header, store) -> None:
    path = store / f"{bundle.integers.digest.hex()}.safetensors"
    shutil.copyfile(bundles.shipped_bundle() / "integer.safetensors", path)
    with pytest.raises(BundleError, match=f"expected digest {bundle.integers.digest.hex()}"):
        find_integer_part(header, store=store)
    path.write_bytes(b"")
    with pytest.raises(BundleError):
        find_integer_part(header, store=store)


def test_other_parts_of_the_store_are_not_read(bundle, header, store) -> None:
    (store / f"{'00' * 8}.safetensors").write_bytes(b"not a part")
    assert find_integer_part(header, store=store).digest == bundle.integers.digest


def test_every_part_that_ships_is_what_its_name_says() -> None:
    """Also the shipped model's own, so that a release that replaces it cannot forget it."""
    for path in bundles.integer_store().glob("*.safetensors"):
        part = bundles.find_stored_integers(bytes.fromhex(path.stem))
        assert part is not None and part.digest.hex() == path.stem
    manifest = json.loads((bundles.shipped_bundle() / "bundle.json").read_text(encoding="utf-8"))
    assert bundles.find_stored_integers(bytes.fromhex(manifest["integer_digest"])) is not None


def test_info_reads_symbols_and_decoding_says_what_it_needs(
    bundle, golden, file, store, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(bundles, "integer_store", lambda: store)
    name = str(golden.HERE / "odd_box.rdc")
    assert main(["info", name, "--model", str(bundles.shipped_bundle()), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bits"]["latent"] > 0
    other = bundles.load_integers("shipped")
    with pytest.raises(DigestError, match=f"its symbols.*{bundle.float_digest.hex()}") as caught:
        read_symbols(file, other)
    assert other.digest.hex() in str(caught.value)
