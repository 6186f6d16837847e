"""Pictures held out: the same ones whatever comes or goes, read through the whole."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.data import ImageFolder, open_source
from rcodec_jax.data.sources.parts import hold_out
from rcodec_jax.data.sources.photos import PhotoFile, write_photos
from rcodec_jax.errors import UsageError


def save(path, value: int, side: int = 16) -> None:
    Image.fromarray(np.full((side, 16, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    for index in range(60):
        save(tmp_path / "a" / f"{index:02d}.png", index)
    return tmp_path / "a"


def names(part) -> list[str]:
    return [part.name(picture) for picture in range(part.picture_count)]


def test_a_share_is_held_out_by_name(folder, tmp_path) -> None:
    train, held = hold_out(ImageFolder(folder), 0.25)
    assert sorted(names(train) + names(held)) == [f"{index:02d}.png" for index in range(60)]
    assert 8 <= held.picture_count <= 22
    values = [int(held.picture(picture)[0, 0, 0]) for picture in range(held.picture_count)]
    assert [f"{value:02d}.png" for value in values] == names(held)
    # other pictures that come and go, and another place, change nothing for those that stay
    folder = folder.rename(tmp_path / "b")
    for index in range(0, 60, 2):
        (folder / f"{index:02d}.png").unlink()
    save(folder / "more.png", 0)
    _, again = hold_out(ImageFolder(folder), 0.25)
    odd = [name for name in names(held) if int(name[:2]) % 2]
    assert [name for name in names(again) if name != "more.png"] == odd
    smaller = names(hold_out(ImageFolder(folder), 0.1)[1])
    assert set(smaller) <= set(names(again))


def test_chances_follow_areas_and_digests_the_choice(folder) -> None:
    save(folder / "big.png", 7, side=64)
    whole = ImageFolder(folder)
    parts = hold_out(whole, 0.3)
    part = next(part for part in parts if "big.png" in names(part))
    at, count = names(part).index("big.png"), part.picture_count
    assert part.shares[at] == pytest.approx(4 / (count + 3), rel=0.05)
    assert part.pixel_count == 256 * (count + 3)
    digests = {
        whole.digest,
        *(part.digest for share in (0.3, 0.5) for part in hold_out(whole, share)),
    }
    assert len(digests) == 5
    assert pickle.loads(pickle.dumps(part)).picture(at).shape == (64, 16, 3)


def test_what_stands_in_for_a_damaged_picture_is_of_the_same_part(folder) -> None:
    source = ImageFolder(folder, max_damaged=1.0)
    for part in hold_out(source, 0.4):
        path = folder / part.name(0)
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.warns(UserWarning, match=path.name):
            assert f"{part.picture(0)[0, 0, 0]:02d}.png" == part.name(1)
    _, held = hold_out(source, 1e-9)
    assert held.picture_count == 1
    path = folder / held.name(0)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.warns(UserWarning), pytest.raises(UsageError, match="all that may stand in"):
        held.picture(0)


def test_small_sources_and_those_without_names(folder, tmp_path) -> None:
    save(tmp_path / "one.png", 1)
    (tmp_path / "few").mkdir()
    save(tmp_path / "few" / "0.png", 0)
    with pytest.raises(UsageError, match=r"expected two pictures or more .*, got one"):
        hold_out(ImageFolder(tmp_path / "few"), 0.5)
    save(tmp_path / "few" / "1.png", 1)
    for share in (1e-9, 1 - 1e-9):
        assert [p.picture_count for p in hold_out(ImageFolder(tmp_path / "few"), share)] == [1, 1]
    write_photos([ImageFolder(folder)], tmp_path / "p.npz", max_bytes=10**6)
    photos = open_source(tmp_path / "p.npz")
    assert isinstance(photos, PhotoFile) and len({photos.name(n) for n in range(60)}) > 50
    train, held = hold_out(photos, 0.25)
    assert train.picture_count + held.picture_count == 60 and held.picture_count > 5
