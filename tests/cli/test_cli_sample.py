"""Pictures that `rcodec fit` and `rcodec realism` draw."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.cli.main import main
from rcodec_jax.cli.sample import draw_crops
from rcodec_jax.errors import UsageError


@pytest.fixture
def folder(tmp_path) -> str:
    """Four pictures whose values say where a pixel is, and a small one."""
    row, column = np.mgrid[:80, :200].astype(np.uint8)
    for number in range(4):
        pixels = np.stack([row, column, np.full_like(row, number)], axis=-1)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    return str(tmp_path)


def test_crops_come_from_anywhere_in_different_pictures(folder) -> None:
    crops = draw_crops([folder], side=40, most=64, count=9, seed=3)
    assert [crop.shape for crop in crops] == [(64, 64, 3)] * 4
    assert {int(crop[0, 0, 2]) for crop in crops} == set(range(4))
    corners = {(int(crop[0, 0, 0]), int(crop[0, 0, 1])) for crop in crops}
    assert len(corners) == 4 and max(left for _, left in corners) > 40
    for crop in crops:
        assert crop[-1, -1, 0] - crop[0, 0, 0] == 63 == crop[-1, -1, 1] - crop[0, 0, 1]
        assert crop.base is None  # the whole picture is not kept
    again = draw_crops([folder], side=40, most=64, count=9, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(crops, again, strict=True))


def test_no_more_than_were_asked_for(folder) -> None:
    assert len(draw_crops([folder, folder], side=40, most=300, count=3, seed=0)) == 3
    with pytest.raises(UsageError, match="sides of at least 90 px"):
        draw_crops([folder], side=90, most=99, count=3, seed=0)


def test_a_seed_below_0_is_refused(folder, tmp_path, capsys) -> None:
    words = ["fit", "bundle", "--out", str(tmp_path / "out"), "--data", folder, "--seed", "-1"]
    assert main(words) == 2
    assert "a whole number in 0..2^32 - 1" in capsys.readouterr().err
