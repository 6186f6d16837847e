"""Mixtures and every kind of source in the loader: shares, determinism, shards, exact resume."""

import pickle
import shutil
from pathlib import Path

import grain  # noqa: F401  (its first import draws a random number, which a test may not)
import numpy as np
import pytest
import tensorflow_datasets  # noqa: F401
from PIL import Image

from rcodec_jax.data.loading.loader import make_dataset
from rcodec_jax.data.packing import pack_folder
from rcodec_jax.data.sources.latents import LatentSet, encode_latent, latent_features
from rcodec_jax.data.sources.mixture import Mixture, select
from rcodec_jax.data.sources.records import TfdsImages
from rcodec_jax.data.sources.resolve import open_source
from rcodec_jax.data.storage.shards import Packing, Record
from rcodec_jax.errors import StorageError, UsageError
from rcodec_jax.regions.sampler import MapSampler

KINDS = ("folder", "packed", "files", "tfds", "latents", "mixture", "latent mixture")


def write_latents(folder, *, count=7, shape=(6, 5, 3), encoder="e" * 16, seed=0, shards=2):
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(count, *shape)).astype(np.float16)
    latents[..., 0] = np.arange(count)[:, None, None]
    packing = Packing(Path(folder), "latents", {"encoder": encoder, "shape": list(shape)}, shards)
    packing.begin()
    for index in range(shards):
        rows = range(count * index // shards, count * (index + 1) // shards)
        size_px = 8 * shape[0], 8 * shape[1]
        records = [Record(encode_latent(latents[row], encoder), size_px) for row in rows]
        packing.write(index, records)
    packing.finish(latent_features(shape), {})
    return latents


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folders a and b of pictures whose first channel tells which they are, packed, and latents."""
    root = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    for name, count, first in (("a", 5, 0), ("b", 3, 100)):
        (root / name).mkdir()
        for index in range(count):
            pixels = rng.integers(0, 256, (24, 40, 3), np.uint8)
            pixels[..., 0] = first + index
            Image.fromarray(pixels).save(root / name / f"{index}.png")
        pack_folder(root / name, root / f"packed_{name}", shard_count=2)
    write_latents(root / "latents")
    write_latents(root / "more_latents", count=4, seed=1)
    return root


def mixture_of(root, kind):
    def one(*paths):
        weights = (3.0, 1.0)[: len(paths)]
        return Mixture(tuple(open_source(root / path) for path in paths), weights)

    if kind == "tfds":
        return Mixture((TfdsImages(root / "packed_a"),), (1.0,))
    return {
        "folder": lambda: one("a"),
        "packed": lambda: one("packed_a"),
        "files": lambda: one("packed_a/images-*"),
        "latents": lambda: one("latents"),
        "mixture": lambda: one("a", "packed_b"),
        "latent mixture": lambda: one("latents", "more_latents"),
    }[kind]()


def loader(mixture, **changes):
    options = dict(crop_px=16, batch_size=4, seed=5, sample_maps=MapSampler((0, 1000)))
    return make_dataset(mixture, **{**options, **changes})


def take(iterator, count):
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def assert_same(batches, others):
    for one, other in zip(batches, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("kind", KINDS)
def test_the_global_batch_is_the_same_for_any_number_of_processes(root, kind):
    reference = take(loader(mixture_of(root, kind)), 6)
    assert_same(take(loader(mixture_of(root, kind), thread_count=1), 6), reference)
    for count in (2, 4):
        parts = [
            take(loader(mixture_of(root, kind), rows=range(first, first + 4 // count)), 6)
            for first in range(0, 4, 4 // count)
        ]
        joined = [
            {key: np.concatenate([part[key] for part in row]) for key in row[0]}
            for row in zip(*parts, strict=True)
        ]
        assert_same(joined, reference)


@pytest.mark.parametrize("kind", KINDS)
def test_resume_is_exact_onto_any_number_of_processes(root, kind):
    reference = take(loader(mixture_of(root, kind)), 8)
    first = loader(mixture_of(root, kind))
    for _ in range(3):
        next(first)
    state = first.get_state()
    first.close()
    assert state == {"next_index": 3}
    again = loader(mixture_of(root, kind))
    again.set_state(state)
    assert_same(take(again, 5), reference[3:])
    half = loader(mixture_of(root, kind), rows=(2, 3))
    half.set_state(state)
    rows = [{key: value[2:] for key, value in batch.items()} for batch in reference[3:]]
    assert_same(take(half, 5), rows)


def test_packed_pictures_give_the_batches_of_their_folder(root):
    ours, others = (take(loader(open_source(root / name)), 6) for name in ("packed_a", "a"))
    assert_same(ours, others)


def test_a_source_alone_gives_what_it_gives_without_a_mixture(root):
    source = open_source(root / "a")
    assert_same(take(loader(Mixture((source,), (7.0,))), 5), take(loader(source), 5))


def test_shares_hold_in_every_run_of_rows(root):
    batches = take(loader(mixture_of(root, "mixture"), batch_size=8), 50)
    from_b = np.concatenate([batch["image"][:, 0, 0, 0] >= 100 for batch in batches])
    assert from_b.sum() == 100
    counts = np.convolve(from_b, np.ones(40), "valid")
    assert counts.min() >= 9 and counts.max() <= 11


def test_every_source_is_gone_through_in_epochs_of_its_own(root):
    mixture = mixture_of(root, "latent mixture")
    shown = np.concatenate(
        [batch["latent"][:, 0, 0, 0] for batch in take(loader(mixture, batch_size=28), 3)]
    )
    # 7 latents with weight 3, 4 with weight 1: of 28 rows 21 and 7 are theirs.
    values, counts = np.unique(shown, return_counts=True)
    assert values.tolist() == list(range(7))
    expected = np.full(7, 9) + np.array([6, 5, 5, 5, 0, 0, 0])
    assert abs(counts - expected).max() <= 1 and counts.sum() == 84


def test_alike_sources_do_not_go_in_step(root):
    twice = Mixture((open_source(root / "a"), open_source(root / "a")), (1.0, 1.0))
    shown = np.concatenate([b["image"][:, 0, 0, 0] for b in take(loader(twice), 10)])
    assert (shown[0::2] != shown[1::2]).any()


def test_latents_are_whole_cells_of_what_is_stored(root):
    stored = np.stack([LatentSet(root / "latents")[i] for i in range(7)])
    windows = np.lib.stride_tricks.sliding_window_view(stored, (3, 3), axis=(1, 2))
    (batch,) = take(loader(mixture_of(root, "latents"), crop_px=24, batch_size=16), 1)
    assert batch["latent"].shape == (16, 3, 3, 3) and batch["latent"].dtype == np.float16
    assert set(batch) == {"latent", "level_map", "nodes"}
    places = set()
    for row in batch["latent"]:
        found = (windows == row.transpose(2, 0, 1)).all(axis=(3, 4, 5))
        (place,) = np.argwhere(found).tolist()
        places.add(tuple(place))
    assert len(places) > 8


def test_latents_round_trip_and_tell_another_encoder(tmp_path):
    latents = write_latents(tmp_path / "set")
    source = open_source(tmp_path / "set")
    assert isinstance(source, LatentSet)
    assert source.kind == "latents" and source.shape == (6, 5, 3)
    np.testing.assert_array_equal(np.stack([source[i] for i in range(7)]), latents)
    source.encoder_digest = "f" * 16
    with pytest.raises(UsageError, match=r"record 0: .*encoder f{16}, got one of e{16}"):
        source[0]
    import tensorflow_datasets as tfds

    rows = tfds.builder_from_directory(str(tmp_path / "set")).as_data_source(split="train")
    np.testing.assert_array_equal(np.stack([row["latent"] for row in rows]), latents)
    assert rows[0]["encoder"] == b"e" * 16 and rows[0]["shape"].tolist() == [6, 5, 3]


def test_clear_errors(root, tmp_path):
    pictures, latents = open_source(root / "a"), open_source(root / "latents")
    write_latents(tmp_path / "other", encoder="f" * 16)
    for sources, weights, words in [
        ((pictures,), (0.0,), "weight above 0, got 0"),
        ((pictures,), (float("inf"),), "weight above 0, got inf"),
        ((pictures,), (1.0, 1.0), "weight for each of 1 sources, got 2"),
        ((), (), "each of 0 sources"),
        ((pictures, latents), (1.0, 1.0), "one kind"),
        ((latents, open_source(tmp_path / "other")), (1.0, 1.0), "one autoencoder"),
    ]:
        with pytest.raises(UsageError, match=words):
            Mixture(sources, weights)
    with pytest.raises(UsageError, match="cached latents .*got ImageFolder"):
        select([(pictures, 1.0)], "latents")
    assert select([(pictures, 1.0), (latents, 2.0)], "latents").weights == (2.0,)
    with pytest.raises(UsageError, match="at least 48 px for crops of that size, got 40x48"):
        loader(latents, crop_px=48)


@pytest.mark.parametrize("kind", KINDS)
def test_sources_travel_to_worker_processes(root, kind):
    mixture = mixture_of(root, kind)
    mixture.sources[0][0]  # opens its file, which must not travel
    copy = pickle.loads(pickle.dumps(mixture))
    assert_same(take(loader(copy), 2), take(loader(mixture), 2))


@pytest.mark.parametrize(
    ("kind", "workers"), [("folder", 0), ("packed", 0), ("packed", 1), ("tfds", 0), ("latents", 0)]
)
def test_files_that_go_away_during_a_run_are_storage(root, tmp_path, kind, workers):
    """The same again may go well, so this must not look like bad data."""
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    batches = loader(mixture_of(copy, kind), worker_count=workers)
    for path in copy.rglob("*-of-*"):
        path.unlink()
    for path in (copy / "a").iterdir():
        path.unlink()
        path.mkdir()  # the error is then one of reading
    with pytest.raises(StorageError, match="cannot be read: .*(No such file|Is a directory)"):
        next(batches)
    batches.close()
