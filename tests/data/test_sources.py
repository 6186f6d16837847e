"""Image folders: what is listed, how often, and what the cache may hold."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.data.sources.sources import ImageFolder
from rcodec_jax.errors import StorageError, UsageError


def save(path, height, width, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "b.png", 16, 16, 2)
    save(tmp_path / "a" / "z.webp", 16, 32, 1)
    save(tmp_path / "c.JPG", 64, 64, 3)
    save(tmp_path / "skip" / "d.png", 16, 16, 9)
    save(tmp_path / ".hidden" / "e.png", 16, 16, 9)
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "notes.txt").write_text("not listed")
    return tmp_path


def test_listing_is_recursive_sorted_and_by_suffix(folder):
    source = ImageFolder(folder, exclude=("skip",))
    assert [p.relative_to(folder).as_posix() for p in source.paths] == [
        "a/z.webp",
        "b.png",
        "c.JPG",
    ]
    assert source.sizes_px == [(16, 32), (16, 16), (64, 64)]
    assert [path.name for path, _ in source.skipped] == ["text.png"]
    assert source.other_kinds == {".txt": 1} and source.small_count == 0


def test_small_pictures_are_left_out_and_counted(folder):
    source = ImageFolder(folder, min_side=17)
    assert [path.name for path in source.paths] == ["c.JPG"]
    assert len(source.skipped) == 4 and source.small_count == 3


def test_entries_are_in_proportion_to_area(folder):
    source = ImageFolder(folder, exclude=("skip",))
    shapes = [source[index].shape[:2] for index in range(len(source))]
    counts = {shape: shapes.count(shape) for shape in set(shapes)}
    unit = counts[16, 16]
    assert counts == {(16, 16): unit, (16, 32): 2 * unit, (64, 64): 16 * unit}


def held_in_memory(source):
    """Bytes of the pictures, each of another size, that a source gives without reading them."""
    source.read = lambda picture: np.zeros((0, 0, 3), np.uint8)
    images = [source[index] for index in range(len(source))]
    return sum({image.shape: image.nbytes for image in images}.values())


@pytest.mark.parametrize("cache_bytes", [0, 16 * 32 * 3, 2000, 10**6])
def test_cache_is_bounded_and_changes_nothing(folder, cache_bytes):
    source = ImageFolder(folder, exclude=("skip",), cache_bytes=cache_bytes)
    plain = ImageFolder(folder, exclude=("skip",))
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(source.__getitem__, list(range(len(source))) * 3))
    for index, image in enumerate(images):
        np.testing.assert_array_equal(image, plain[index % len(source)])
    held = held_in_memory(source)
    assert held <= cache_bytes
    assert held_in_memory(plain) == 0
    if cache_bytes == 10**6:
        assert held == (16 * 32 + 16 * 16 + 64 * 64) * 3


def test_cached_pixels_cannot_be_changed_by_a_reader(folder):
    with pytest.raises(ValueError, match="read-only"):
        ImageFolder(folder, cache_bytes=10**6)[0][0, 0] = 1


def test_pickling_leaves_the_cache_behind(folder):
    source = ImageFolder(folder, cache_bytes=10**6)
    first = source[0]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[0], first)
    assert held_in_memory(pickle.loads(pickle.dumps(source))) == 0
    assert held_in_memory(source) > 0


def test_clear_errors(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(UsageError, match="found none"):
        ImageFolder(empty)
    with pytest.raises(UsageError, match="no such folder"):
        ImageFolder(empty / "absent")
    with pytest.raises(UsageError, match="at least 4096 px, found none"):
        ImageFolder(folder, min_side=4096)


def test_a_file_that_breaks_later_is_named(folder):
    source = ImageFolder(folder, exclude=("skip",))
    path = source.paths[-1]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=path.name):
        source[len(source) - 1]


def break_picture(path):
    path.write_bytes(path.read_bytes()[:-30])


def test_the_next_picture_stands_in_for_one_that_breaks_later(tmp_path):
    for index in range(301):
        save(tmp_path / f"{index:03d}.png", 16, 16, index % 256)
    source = ImageFolder(tmp_path)
    assert len(source) % 301 == 0
    repeats = len(source) // 301
    for index in (5, 300):
        break_picture(source.paths[index])
    with pytest.warns(UserWarning, match=r"005\.png: damaged.*rcodec data pack"):
        assert source[5 * repeats][0, 0, 0] == 6
    with pytest.warns(UserWarning, match=r"300\.png"):
        assert source[300 * repeats][0, 0, 0] == 0
    assert source[5 * repeats][0, 0, 0] == 6  # and no second warning
    copy = pickle.loads(pickle.dumps(ImageFolder(tmp_path)))
    with pytest.warns(UserWarning, match=r"005\.png"):
        assert copy[5 * repeats][0, 0, 0] == 6


def test_a_folder_with_many_damaged_pictures_is_an_error(tmp_path):
    for index in range(150):
        save(tmp_path / f"{index:03d}.png", 16, 16, index)
    source = ImageFolder(tmp_path)
    repeats = len(source) // 150
    for path in source.paths[3:5]:
        break_picture(path)
    with (
        pytest.warns(UserWarning, match=r"003\.png"),
        pytest.raises(
            UsageError, match=r"004\.png: damaged.*2 of 150 .*at most 1 \(train.data.max"
        ),
    ):
        source[3 * repeats]
    with pytest.raises(UsageError):  # nor is it given later
        source[3 * repeats]
    for path in source.paths:
        break_picture(path)
    with pytest.warns(UserWarning), pytest.raises(UsageError):
        ImageFolder(tmp_path)[0]


@pytest.mark.parametrize(
    ("max_damaged", "broken", "fine"),
    [(0.01, 1, True), (0.01, 2, False), (0.5, 3, True), (0.0, 1, False), (1.0, 6, False)],
)
def test_the_bound_is_an_option_and_one_of_few_may_be_damaged(tmp_path, max_damaged, broken, fine):
    for index in range(6):
        save(tmp_path / f"{index}.png", 16, 16, index)
    source = ImageFolder(tmp_path, max_damaged=max_damaged)
    for path in source.paths[:broken]:
        break_picture(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if fine:
            assert source.picture(0)[0, 0, 0] == broken
            assert [path for path, _ in source.damaged] == source.paths[:broken]
        else:
            with pytest.raises(UsageError, match=r"0\.png|1\.png|5\.png"):
                source.picture(0)


def test_memory_that_runs_out_does_not_leave_a_picture_out(folder, monkeypatch):
    source = ImageFolder(folder, exclude=("skip",))

    def load(image):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "load", load)
        with pytest.raises(StorageError, match="not enough memory"):
            source[0]
    assert source[0][0, 0, 0] == 1
