"""2,000 damaged files: an error with its offset or symbols, within bounds; `make fuzz` has more."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from rcodec_jax.bitstream import crc32c
from rcodec_jax.codec.symbols import read_symbols
from rcodec_jax.entropy import IntegerPart, Limits
from rcodec_jax.errors import BitstreamError, LimitError


@pytest.fixture(scope="module")
def part(fuzz) -> IntegerPart:
    return IntegerPart.from_bytes(fuzz.PART.read_bytes())


def test_two_thousand_damaged_files(fuzz) -> None:
    outcomes = fuzz.run(2000, seed=1)
    assert outcomes.total() == 2000
    # the damage gets everywhere: past the checksums into header, map and payload, and to the end
    expected = {
        "ChecksumError",
        "TruncatedError",
        "UnsupportedVersionError",
        "LimitError",
        "DigestError",
        "CorruptPayloadError",
        "BitstreamError",
        "symbols",
    }
    assert set(outcomes) == expected
    assert all(outcomes[name] >= 5 for name in expected), outcomes
    assert outcomes["CorruptPayloadError"] > 200


def test_damage_repeats(fuzz, damages) -> None:
    files = list(fuzz.golden_files().values())
    for number in range(50):
        first, again = (
            damages.damage(files[0], np.random.default_rng([7, number]), files) for _ in range(2)
        )
        assert first == again


def test_offsets_point_at_the_fault(fuzz, part) -> None:
    """Offsets count from the start of the file, whichever section the fault lies in."""
    data = fuzz.golden_files()["odd_box.rdc"]
    box = read_symbols(data, part)[0]
    start = box.payload_offset
    assert data[start : start + len(box.payload)] == box.payload
    place = box.level_map_offset
    assert data[place : place + len(box.level_map)] == box.level_map

    def sealed(payload: bytes) -> bytes:
        return data[:start] + payload + crc32c(payload).to_bytes(4, "little")

    for payload, low in ((b"", start), (box.payload + b"\1", start + len(box.payload))):
        with pytest.raises(BitstreamError, match=r"\(at byte \d+\)$") as error:
            read_symbols(sealed(payload), part)
        assert error.value.offset is not None
        assert low <= error.value.offset <= start + len(box.payload) + 1
    where = box.header.digest_offset
    assert data[where : where + 8] == part.digest


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_pixels=37 * 53 - 1),
        Limits(max_side=52),
        Limits(max_payload_bytes=9),
        Limits(max_file_bytes=70),
    ],
)
def test_the_caller_sets_the_limits(fuzz, part, limits) -> None:
    with pytest.raises(LimitError) as error:
        read_symbols(fuzz.golden_files()["odd_box.rdc"], part, limits=limits)
    assert error.value.offset is not None


def test_slow_large_and_strange_inputs_are_reported(fuzz, monkeypatch) -> None:
    """The harness itself: what it is there to find, it finds."""
    with pytest.raises(fuzz.BrokenPromiseError, match="MemoryError"), fuzz.bounded(b"", 1000):
        bytes(10_000)
    with pytest.raises(fuzz.BrokenPromiseError, match="KeyError"), fuzz.bounded(b"", None):
        raise KeyError("x")
    monkeypatch.setattr(fuzz, "SECONDS", 0.01)
    with pytest.raises(fuzz.BrokenPromiseError, match="CPU time"), fuzz.bounded(b"", None):
        while True:
            pass


def test_the_harness_runs_as_a_command_without_atheris(fuzz, tmp_path) -> None:
    """And it imports no JAX, so that fuzzing starts at once."""
    script = (
        "import sys; sys.modules['atheris'] = None; sys.path.insert(0, sys.argv[1])\n"
        "import fuzz_decoder\n"
        "code = fuzz_decoder.main(sys.argv[2:])\n"
        "assert 'jax' not in sys.modules\n"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", script, str(fuzz.HERE), str(tmp_path / "corpus")]
    found = subprocess.run([*command, "--seed", "3"], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert "2000 damaged files" in found.stdout and "atheris is not installed" in found.stderr
    assert len(list((tmp_path / "corpus").iterdir())) >= len(fuzz.golden_files())
