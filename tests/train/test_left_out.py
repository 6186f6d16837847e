"""What a run says of files that it does without, and that a damaged one does not end it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.data import ImageFolder
from rcodec_jax.train import train
from rcodec_jax.train.loop.leftout import tell_damaged, tell_skipped


@pytest.fixture
def folder(pictures: Path, tmp_path: Path) -> Path:
    """Five good pictures, one cut off, and files that are none or too small."""
    folder = tmp_path / "data"
    shutil.copytree(pictures, folder)
    whole = (folder / "0.png").read_bytes()
    (folder / "5.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "icon.png")
    (folder / "text.png").write_text("not a picture")
    (folder / "list.csv").write_text("a,b")
    (folder / "scan.TIF").write_bytes(b"II*\0")
    return folder


def test_a_run_leaves_out_counts_and_lists(
    folder: Path, tmp_path: Path, tools, capsys: pytest.CaptureFixture
) -> None:
    workdir = tmp_path / "run"
    with pytest.warns(UserWarning, match=r"5\.png: damaged"):
        # a batch of 4 a step: every picture is read in the first steps
        done = train(tools.config("autoencoder", steps=4), data=folder, workdir=workdir)
    assert done == (4, True)
    said = capsys.readouterr().err
    assert (
        f"{folder}: 6 pictures; left out 1 below 16 px a side and 1 that cannot be opened "
        "(icon.png, text.png); no kind of picture that is read: 1 .csv, 1 .tif\n"
    ) in said
    assert f"{folder}: 1 of 6 pictures were damaged, others stood in (5.png)\n" in said
    lines = (workdir / "skipped.txt").read_text().splitlines()
    assert [Path(line.partition(": ")[0]).name for line in lines] == [
        "icon.png",
        "text.png",
        "5.png",
    ]
    assert lines[0].endswith("icon.png: 8x8 is below 16 px")


def test_many_are_named_in_part(folder: Path, tmp_path: Path) -> None:
    for index in range(4):
        shutil.copy(folder / "text.png", folder / f"text{index}.png")
    said: list[str] = []
    source = ImageFolder(folder, min_side=16)
    tell_skipped([source], tmp_path, said.append)
    (line,) = said
    assert "5 that cannot be opened (icon.png, text.png, text0.png and 3 more, all in skipp" in line
    assert (tmp_path / "skipped.txt").read_text().count("\n") == 6


def test_nothing_left_out_says_nothing(pictures: Path, tmp_path: Path) -> None:
    said: list[str] = []
    for tell in (tell_skipped, tell_damaged):
        tell([ImageFolder(pictures)], tmp_path, said.append)
    assert said == [] and not (tmp_path / "skipped.txt").exists()
