"""Which change of bytes takes a new format version: every one, from version 1 on.

`BYTES` is kept by hand on purpose. tests/golden/make.py writes golden.json together with the files,
so golden.json alone would agree with any bytes; this list agrees only with those somebody meant.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import rcodec_jax.bitstream
from rcodec_jax.bitstream import FORMAT_VERSION

GOLDEN = Path(__file__).parents[1] / "golden"

BYTES: dict[int, dict[str, str]] = {
    0: {
        "centroids/gradient.rdc": "6b5055766097c300",
        "centroids/odd_box.rdc": "92eafa98a2dcb705",
        "centroids/pixel.rdc": "6c4db031a34ad047",
        "ends.rdc": "c61d67b8790188f1",
        "halved_box.rdc": "2c4581382e446b80",
        "halves/gradient.rdc": "67b4c13e4d2a5344",
        "halves/lanes_box.rdc": "09da0ab655397a15",
        "halves/odd_box.rdc": "edca8a1f5231c8a0",
        "halves/pixel.rdc": "00b4bed36603a972",
        "line.rdc": "9dd21a77ab6b2cd0",
        "skipping/gradient.rdc": "b526d19840171986",
        "skipping/lanes_box.rdc": "75136dd3a6c15d30",
        "skipping/pixel.rdc": "c119b8665f6230ff",
        "varying/cell.rdc": "12e4df30c772eaf0",
        "varying/gradient.rdc": "640b8847e03b9b0a",
        "varying/lanes_box.rdc": "a63c9e60329c6e8e",
        "varying/odd_box.rdc": "b8b78cd91c12d271",
        "varying/tall_fine.rdc": "7b7c52e649a1694b",
        "varying/wide_coarse.rdc": "dce9ad15334f9bcc",
        "odd_box.rdc": "aecacf43f59e500b",
        "odd_fine.rdc": "ab8932e5ae108251",
        "photo.rdc": "53adb98489af9e69",
        "pixel.rdc": "d91ee91e6c533cf5",
        "tall_gradient.rdc": "a656ab2b99f5bbf6",
        "wide_box.rdc": "1a5a7f3d536c68fe",
        "wide_coarse.rdc": "da1436c4fa3103dc",
        "wide_gradient.rdc": "13244da89cae68b5",
        "wide_middle.rdc": "9c12bca6b1e91da7",
    },
}
"""By format version and golden file, the first 16 digits of the SHA-256 of its bytes."""

ADVICE = """
The bytes of {names} are not those that format version {version} has had.
  If that was not meant: undo it, for files that people keep no longer decode.
  If it was meant and the version is 1 or above: raise FORMAT_VERSION in bitstream/container.py,
    keep reading the old version, give the new one its own golden files and its own entry in BYTES,
    and leave the old entries alone.
  If it was meant and the version is still 0, which promises nothing: put the new digests into
    BYTES, and say so under "Format" in CHANGELOG.md.
"""


def found() -> dict[str, str]:
    return {
        path.relative_to(GOLDEN).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(GOLDEN.rglob("*.rdc"))
    }


def changed(files: dict[str, str], version: int) -> list[str]:
    """Golden files whose bytes the version has never had, or that are gone."""
    known = BYTES.get(version, {})
    return sorted(
        name for name in files.keys() | known.keys() if files.get(name) != known.get(name)
    )


def test_golden_bytes_change_only_with_the_version() -> None:
    names = changed(found(), FORMAT_VERSION)
    assert not names, ADVICE.format(names=", ".join(names), version=FORMAT_VERSION)


def test_a_changed_byte_would_be_noticed() -> None:
    files = found()
    name = next(iter(files))
    assert changed({**files, name: "0" * 16}, FORMAT_VERSION) == [name]
    assert changed({n: d for n, d in files.items() if n != name}, FORMAT_VERSION) == [name]
    assert set(changed(files, FORMAT_VERSION + 1)) == set(files)


def test_no_two_versions_share_bytes() -> None:
    """A raised version changes every file, for the header says it."""
    seen: set[str] = set()
    for digests in BYTES.values():
        assert not seen & set(digests.values())
        seen |= set(digests.values())


@pytest.mark.parametrize("name", sorted(BYTES[FORMAT_VERSION]))
def test_golden_files_say_their_version(name: str) -> None:
    assert (GOLDEN / name).read_bytes()[3] >> 4 == FORMAT_VERSION


def test_record_and_specification_name_the_version() -> None:
    record = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))
    assert record["format_version"] == FORMAT_VERSION
    page = Path(rcodec_jax.bitstream.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")
    title = re.match(r"# The rcodec file format, version (\d+)", page)
    assert title and int(title[1]) == FORMAT_VERSION
