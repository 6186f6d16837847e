"""Pictures in one small file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.cli.main import main
from rcodec_jax.data import ImageFolder, open_source
from rcodec_jax.data.sources.made import MadePictures
from rcodec_jax.data.sources.photos import PhotoFile, write_photos
from rcodec_jax.errors import UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    row, column = np.mgrid[:400, :520]
    for index in range(3):
        waves = np.sin(row / (9 + index))[..., None] * [60, 40, 20] + 128
        pixels = waves + np.random.default_rng(index).normal(0, 9, (400, 520, 1))
        side = 400 - 80 * index
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)[:side]).save(root / f"{index}.png")
    return root


def test_pictures_come_back_as_they_were_where_there_is_room(folder, tmp_path) -> None:
    source, made = ImageFolder(folder), MadePictures(4, size=64)
    out = tmp_path / "all.npz"
    assert write_photos([source, made], out, max_bytes=10**7) == 1.0
    found = open_source(out, min_side=16)
    assert isinstance(found, PhotoFile) and found.picture_count == 7
    assert found.pixel_count == source.pixel_count + made.pixel_count
    for index in range(3):
        error = found.read(index).astype(int) - source.read(index)
        assert np.sqrt(np.mean(error**2)) < 6
    first = found.digest
    write_photos([source, made], out, max_bytes=10**7)
    assert open_source(out).digest == first
    np.testing.assert_allclose(found.shares.sum(), 1)


def test_pictures_are_made_smaller_until_they_fit(folder, tmp_path, capsys) -> None:
    out = tmp_path / "small.npz"
    whole = write_photos([ImageFolder(folder)], tmp_path / "whole.npz", max_bytes=10**7)
    size = (tmp_path / "whole.npz").stat().st_size
    command = ["data", "photos", str(folder), "--out", str(out), "--json"]
    assert main([*command, "--max-mb", str(size / 2e6)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["bytes"] == out.stat().st_size <= size / 2
    assert figures["bytes"] > size / 4 and 0.4 < figures["scale"] < whole == 1
    first = PhotoFile(out).read(0)
    assert first.shape[0] == pytest.approx(400 * figures["scale"], abs=1)
    assert main(["data", "info", str(out)]) == 0
    assert main(command) == 2
    assert "exists already (--force overwrites it)" in capsys.readouterr().err
    with pytest.raises(UsageError, match="a bound that the pictures fit into"):
        write_photos([ImageFolder(folder)], out, max_bytes=9000)


def test_other_files_are_refused(folder, tmp_path) -> None:
    with pytest.raises(UsageError, match="ending in .npz"):
        write_photos([ImageFolder(folder)], tmp_path / "a.bin", max_bytes=10**7)
    other = tmp_path / "other.npz"
    np.savez(other, values=np.zeros(3))
    with pytest.raises(UsageError, match="expected what 'rcodec data photos' wrote"):
        open_source(other)
    for damaged in (b"not even that", other.read_bytes()[:100]):
        other.write_bytes(damaged)
        with pytest.raises(UsageError, match="expected what 'rcodec data photos' wrote"):
            open_source(other)
