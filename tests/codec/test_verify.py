"""Sets of files with hashes: what they record, what checking finds, what a manifest may not say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rcodec_jax.codec import verify
from rcodec_jax.codec.symbols import find_integer_part
from rcodec_jax.data.pictures.writing import write_image
from rcodec_jax.errors import UsageError


def picture(seed: int = 0) -> np.ndarray:
    """As large as `odd_box.rdc` says."""
    return np.random.default_rng(seed).integers(0, 256, (37, 53, 3), np.uint8)


@pytest.fixture
def stub(bundle, golden) -> SimpleNamespace:
    """A codec that makes the same golden file of everything: no network has to run."""
    data = (golden.HERE / "odd_box.rdc").read_bytes()
    return SimpleNamespace(bundle=bundle, encode=lambda *_, **__: data, decode=lambda _: picture())


@pytest.fixture
def written(stub, tmp_path) -> verify.Manifest:
    cases = verify.make_cases({"a": picture(1)})
    return verify.write_set(tmp_path / "set", stub, cases, {"device": "a stub"})


def check(manifest: verify.Manifest, bundle) -> dict[str, tuple[str, ...]]:
    """Problems by file; symbols only."""
    return {
        name: verify.check_symbols(manifest, name, lambda _: bundle.integers).problems
        for name in manifest.files
    }


def test_golden_files_are_a_set(bundle, golden) -> None:
    manifest = verify.read_manifest(golden.HERE)
    assert set(manifest.files) == {path.name for path in golden.HERE.glob("*.rdc")}
    assert manifest.integer_digest == bundle.integers.digest.hex()

    def find_part(header):
        return find_integer_part(header, golden.BUNDLE)

    for name in manifest.files:
        assert verify.check_symbols(manifest, name, find_part) == verify.Check(name, ())


def test_the_golden_photo_is_within_the_tolerance(codec, golden) -> None:
    manifest = verify.read_manifest(golden.RECORD)
    found = verify.check_picture(manifest, golden.PHOTO, codec.decode)
    assert found.problems == () and found.picture is not None
    assert found.picture.within_tolerance


def test_what_is_written_is_found_again(written, stub, bundle) -> None:
    assert [name[2:-4] for name in sorted(written.files)] == ["box", "coarse", "halved", "slope"]
    assert written.made_with == {"device": "a stub"}
    assert verify.read_manifest(written.folder) == written
    assert set(check(written, bundle).values()) == {()}
    found = verify.check_picture(written, "a-box.rdc", stub.decode)
    assert found.picture == verify.Difference(0, 0.0, 0.0, 37 * 53 * 3)


def test_cases_cover_maps_and_rates() -> None:
    cases = verify.make_cases({"a": np.zeros((1, 1, 3), np.uint8), "b": picture()})
    assert len({case.name for case in cases}) == len(cases) == 8
    assert len({case.quality for case in cases}) == 4
    assert {case.resampling for case in cases} == {1, 2}
    for case in cases:
        if case.importance is not None:
            assert case.importance.shape == case.pixels.shape[:2]
            assert case.importance.min() >= 0 and case.importance.max() <= 1
    box, slope = cases[5].importance, cases[6].importance
    assert box is not None and slope is not None
    assert set(np.unique(box)) == {0, 1} and np.unique(slope).size > 16


@pytest.mark.parametrize("key", ["file", "size", *verify.SYMBOLS])
def test_every_hash_counts(written, bundle, key) -> None:
    entry = written.files["a-box.rdc"]
    entry[key] = [1, 2] if key == "size" else "0" * 64
    problems = check(written, bundle)
    assert [p.partition(":")[0] for p in problems["a-box.rdc"]] == [key]
    assert problems["a-slope.rdc"] == ()


def test_damaged_and_missing_files_are_named(written, bundle) -> None:
    path = written.folder / "a-box.rdc"
    path.write_bytes(path.read_bytes()[:-1])
    (written.folder / "a-slope.rdc").unlink()
    problems = check(written, bundle)
    assert problems["a-box.rdc"][0].startswith("does not decode: ")
    assert problems["a-slope.rdc"][0].startswith("cannot be read: ")
    assert problems["a-coarse.rdc"] == ()


def test_pictures_beyond_the_tolerance_are_named(written, stub) -> None:
    def problems(change: np.ndarray) -> tuple[str, ...]:
        def decode(_: bytes) -> np.ndarray:
            return np.clip(picture().astype(int) + change, 0, 255).astype(np.uint8)

        return verify.check_picture(written, "a-box.rdc", decode).problems

    few = np.zeros((37, 53, 3), int)
    few[0, :3] = verify.MAX_DIFFERENCE
    assert problems(few) == ()
    assert "beyond the tolerance" in problems(few * 10)[0]
    assert "beyond the tolerance" in problems(np.ones_like(few))[0]


def test_a_stored_picture_that_was_changed_is_named(written, stub) -> None:
    write_image(written.folder / "a-box.png", picture(5))
    found = verify.check_picture(written, "a-box.rdc", stub.decode)
    assert "not the file that was recorded" in found.problems[0]
    (written.folder / "a-box.png").unlink()
    assert "cannot be read" in verify.check_picture(written, "a-box.rdc", stub.decode).problems[0]


def test_tolerance() -> None:
    """A share means little in a picture of few values, the largest difference always counts."""
    assert verify.Difference(verify.MAX_DIFFERENCE, 0.1, verify.MAX_SHARE, 10**6).within_tolerance
    assert not verify.Difference(verify.MAX_DIFFERENCE + 1, 0, 1e-6, 10**6).within_tolerance
    assert not verify.Difference(1, 0.1, 2 * verify.MAX_SHARE, 10**6).within_tolerance
    assert verify.Difference(1, 1.0, 1.0, 3).within_tolerance
    a, b = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert verify.compare_pictures(a, b) == verify.Difference(255, 255.0, 1.0, 12)


def test_a_manifest_may_be_named_or_found(golden, tmp_path) -> None:
    shutil.copyfile(golden.RECORD, tmp_path / "other.json")
    assert verify.read_manifest(tmp_path).files == verify.read_manifest(golden.RECORD).files
    (tmp_path / "second.json").write_text("{}")
    with pytest.raises(UsageError, match=verify.MANIFEST):
        verify.read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 100_000, '{"integer_digest": "", "float_digest": "", "files": {}}',
     '{"integer_digest": "", "float_digest": "", "files": {"a.rdc": 3}}',
     '{"integer_digest": "", "float_digest": "", "files": {"a.rdc": {"file": 3}}}'],
    ids=["empty", "list", "object", "deep", "no-files", "number", "no-hash"],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(tmp_path, text) -> None:
    (tmp_path / verify.MANIFEST).write_text(text)
    with pytest.raises(UsageError, match="expected"):
        verify.read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../a.rdc", "/a.rdc", "b/a.rdc", "..", "b\\a.rdc", ""])
@pytest.mark.parametrize("of_picture", [False, True])
def test_a_manifest_names_no_files_elsewhere(golden, tmp_path, name, of_picture) -> None:
    record = json.loads(golden.RECORD.read_text(encoding="utf-8"))
    entry = record["files"]["pixel.rdc"]
    record["files"] = {name: entry}
    if of_picture:
        record["files"] = {"pixel.rdc": entry | {"picture": {"name": name, "file": ""}}}
    (tmp_path / verify.MANIFEST).write_text(json.dumps(record))
    with pytest.raises(UsageError, match="names of files without folders"):
        verify.read_manifest(tmp_path)


def test_symbol_hashes_are_those_of_the_golden_files(bundle, golden) -> None:
    recorded = json.loads(golden.RECORD.read_text(encoding="utf-8"))["files"]
    for name in ("pixel.rdc", "odd_box.rdc"):
        data = Path(golden.HERE / name).read_bytes()
        assert verify.symbol_hashes(data, lambda _: bundle.integers) == recorded[name]
