"""The training loader: determinism, exact resume, shards that make up the global batch."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import grain  # noqa: F401  (the tests' guard against unseeded randomness minds its first import)
import numpy as np
import pytest
from PIL import Image

import rcodec_jax
from rcodec_jax.data import ImageFolder
from rcodec_jax.data.loading.loader import make_dataset
from rcodec_jax.errors import UsageError


class Noise:
    """Pictures of various sizes; the first pixel value tells which one it is."""

    def __init__(self, count=10):
        rng = np.random.default_rng(0)
        self.images = []
        for index in range(count):
            shape = rng.integers(20, 50, 2)
            image = rng.integers(0, 256, (*shape, 3), np.uint8)
            image[..., 0] = index
            self.images.append(image)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def draw_maps(rng, h, w):
    return rng.integers(0, 16, (h, w)).astype(np.uint8), np.sort(rng.integers(0, 1024, 16)).astype(
        np.int32
    )


def loader(**changes):
    options = dict(crop_px=16, batch_size=4, seed=5, sample_maps=draw_maps)
    source = changes.pop("source", Noise())
    return make_dataset(source, **{**options, **changes})


def take(iterator, count):
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def assert_same(batches, others):
    assert len(batches) == len(others)
    for one, other in zip(batches, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_shapes_and_types():
    (batch,) = take(loader(crop_px=24), 1)
    kinds = {key: (value.shape, value.dtype.name) for key, value in batch.items()}
    assert kinds == {
        "image": ((4, 24, 24, 3), "uint8"),
        "level_map": ((4, 3, 3), "uint8"),
        "nodes": ((4, 16), "int32"),
    }
    (batch,) = take(make_dataset(Noise(), crop_px=16, batch_size=2, seed=0), 1)
    assert set(batch) == {"image"} and batch["image"].shape == (2, 16, 16, 3)


@pytest.mark.parametrize("thread_count", [0, 1, 4])
def test_the_seed_decides_everything_but_threads(thread_count):
    reference = take(loader(), 12)
    assert_same(take(loader(thread_count=thread_count), 12), reference)


def test_another_seed_is_another_order_and_other_crops():
    ours, others = take(loader(), 3), take(loader(seed=6), 3)
    assert any((a["image"] != b["image"]).any() for a, b in zip(ours, others, strict=True))


@pytest.mark.parametrize("done", [0, 1, 7])
def test_resume_is_exact(done):
    reference = take(loader(), 15)
    first = loader()
    for _ in range(done):
        next(first)
    state = first.get_state()
    assert state == {"next_index": done}
    ahead = [next(first) for _ in range(3)]
    first.set_state(state)  # backwards, in the same iterator
    assert_same([next(first) for _ in range(3)], ahead)
    first.close()
    second = loader()
    second.set_state(state)
    assert_same(take(second, 15 - done), reference[done:])


@pytest.mark.parametrize("rows", [(0, 1), (2, 3), (1,), (0, 3), (0, 1, 2, 3)])
def test_rows_are_those_of_the_global_batch(rows):
    reference = take(loader(), 8)
    expected = [{key: value[list(rows)] for key, value in batch.items()} for batch in reference]
    assert_same(take(loader(rows=rows), 8), expected)


def test_resume_onto_another_number_of_processes():
    reference = take(loader(), 6)
    iterator = loader(rows=(2, 3))
    iterator.set_state({"next_index": 3})
    halves = [{key: value[2:] for key, value in batch.items()} for batch in reference[3:]]
    assert_same(take(iterator, 3), halves)


def test_every_epoch_shows_every_picture_once_in_a_new_order():
    batches = take(loader(source=Noise(12)), 6)
    shown = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches])
    first, second = shown[:12], shown[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_single_picture_is_enough(batch_size):
    batches = take(loader(source=Noise(1), batch_size=batch_size), 3)
    assert (batches[0]["image"] != batches[1]["image"]).any()


def test_bad_arguments_name_expected_and_given():
    for changes, words in [
        ({"crop_px": 20}, "multiple of 8, got 20"),
        ({"crop_px": 0}, "multiple of 8, got 0"),
        ({"batch_size": 0}, "got 0"),
        ({"rows": ()}, r"0\.\.3, got \(\)"),
        ({"rows": (3, 4)}, r"0\.\.3, got \(3, 4\)"),
        ({"rows": (1, 0)}, "ascending"),
        ({"seed": -1}, "got -1"),
        ({"source": []}, "at least one image"),
    ]:
        with pytest.raises(UsageError, match=words):
            loader(**changes)


def test_an_unreadable_picture_stops_with_its_own_error():
    class Broken(Noise):
        def __getitem__(self, index):
            raise UsageError("picture.jpg: damaged JPEG")

    iterator = loader(source=Broken())
    with pytest.raises(UsageError, match=r"picture\.jpg"):
        next(iterator)
    iterator.close()


def test_worker_processes_give_the_same_batches_and_a_quiet_resume(tmp_path):
    script = tmp_path / "workers.py"
    script.write_text(
        textwrap.dedent(
            """
            import os
            import numpy as np
            from PIL import Image
            from rcodec_jax.data import Mixture, make_dataset, open_source
            from rcodec_jax.data.packing import pack_folder
            from rcodec_jax.regions.sampler import MapSampler

            def loader(worker_count):
                names = ("pictures", "packed", "packed/images-*")
                sources = tuple(open_source(name) for name in names)
                return make_dataset(
                    Mixture(sources, (1, 2, 1)), crop_px=16, batch_size=2, seed=1,
                    sample_maps=MapSampler((0, 1000)), worker_count=worker_count,
                )

            if __name__ == "__main__":
                rng = np.random.default_rng(0)
                os.mkdir("pictures")
                for index in range(3):
                    noise = rng.integers(0, 256, (24, 40, 3), np.uint8)
                    Image.fromarray(noise).save(f"pictures/{index}.png")
                pack_folder("pictures", "packed")
                plain = loader(0)
                expected = [next(plain) for _ in range(6)]
                plain.close()
                workers = loader(2)
                got = [next(workers) for _ in range(2)]
                state = workers.get_state()
                got += [next(workers) for _ in range(4)]
                assert state == {"next_index": 2}
                workers.close()
                other = loader(1)
                other.set_state(state)
                again = [next(other) for _ in range(4)]
                other.close()
                for ours, others in ((got, expected), (again, expected[2:])):
                    for one, other in zip(ours, others, strict=True):
                        assert all((one[key] == other[key]).all() for key in other)
                print("same")
            """
        )
    )
    root = str(Path(rcodec_jax.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "same\n"


def test_maps_may_be_made_of_the_pictures(tmp_path) -> None:
    """For some rows; all else stays as it is."""

    def sample(rng, height, width):
        return np.zeros((height, width), np.uint8), rng.integers(0, 9, 16).astype(np.int32)

    def redraw(rng, pixels):
        made = np.full((4, 4), pixels[0, 0, 0] % 16, np.uint8), np.arange(16, dtype=np.int32)
        return made if rng.random() < 0.5 else None

    for value in range(4):
        pixels = np.full((48, 48, 3), 40 + value, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{value}.png")
    settings = {"crop_px": 32, "batch_size": 16, "seed": 1, "sample_maps": sample}
    plain = next(make_dataset(ImageFolder(tmp_path), **settings))
    made = next(make_dataset(ImageFolder(tmp_path), **settings, redraw_maps=redraw))
    np.testing.assert_array_equal(plain["image"], made["image"])
    redrawn = (made["nodes"] == np.arange(16)).all(axis=1)
    assert 2 < redrawn.sum() < 14
    np.testing.assert_array_equal(made["nodes"][~redrawn], plain["nodes"][~redrawn])
    for row in np.flatnonzero(redrawn):
        assert (made["level_map"][row] == made["image"][row, 0, 0, 0] % 16).all()
