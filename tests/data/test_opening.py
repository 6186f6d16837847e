"""What a path or a name stands for; packed sets through TFDS and grain."""

import json
import socket

import grain
import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from rcodec_jax.data.packing import pack_folder
from rcodec_jax.data.sources.records import ArrayRecordImages, PackedImages, TfdsImages
from rcodec_jax.data.sources.resolve import open_source
from rcodec_jax.data.sources.sources import ImageFolder
from rcodec_jax.data.storage.examples import decode_example, encode_example
from rcodec_jax.errors import UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate([(16, 16), (16, 32), (64, 64), (24, 24), (8, 40)]):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{index}.{('png', 'jpg')[index % 2]}")
    return root


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed")
    pack_folder(folder, out, shard_count=2)
    return out


@pytest.fixture(scope="module")
def foreign(folder, tmp_path_factory):
    """The same pictures as somebody else's data set: no manifest of ours, other features."""
    root = tmp_path_factory.mktemp("tfds") / "things" / "1.2.0"
    root.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {"label": tfds.features.ClassLabel(num_classes=9), "photo": tfds.features.Image()}
    )
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())
    writer = ArrayRecordWriter(
        str(root / "things-train.array_record-00000-of-00001"), "group_size:1"
    )
    for index, path in enumerate(sorted(folder.iterdir())):
        example = features.encode_example({"label": index, "photo": str(path)})
        writer.write(serializer.serialize_example(example))
    writer.close()
    split = tfds.core.SplitInfo(
        name="train",
        shard_lengths=[5],
        num_bytes=1000,
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=root, template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        ),
    )
    tfds.folder_dataset.write_metadata(
        data_dir=str(root), features=features, split_infos=[split], check_data=False
    )
    return root


def pixels_of(source):
    return [source.read(index) for index in range(source.picture_count)]


def assert_same(ours, others):
    assert len(ours) == len(others)
    for one, other in zip(ours, others, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tfds_reads_a_packed_set_pixel_by_pixel(folder, packed):
    builder = tfds.builder_from_directory(str(packed))
    assert builder.info.splits["train"].num_examples == 5
    source = builder.as_data_source(split="train")
    assert_same([row["image"] for row in source], pixels_of(ImageFolder(folder)))
    names = [row["name"].decode() for row in builder.as_data_source(split="train[1:3]")]
    assert names == ["1.jpg", "2.png"]
    sizes = [(row["height"], row["width"]) for row in source]
    assert sizes == ImageFolder(folder).sizes_px


def test_its_description_is_what_tfds_itself_would_write(packed, tmp_path):
    builder = tfds.builder_from_directory(str(packed))
    builder.info.write_to_directory(str(tmp_path))
    for name in ("dataset_info.json", "features.json"):
        ours, theirs = (json.loads((root / name).read_text()) for root in (packed, tmp_path))
        # Where a builder's code is and what may be redistributed: there is nothing to say of these.
        extra = {"moduleName", "redistributionInfo"}
        assert ours == {key: theirs[key] for key in theirs.keys() - extra}


def test_grain_reads_a_packed_set(folder, packed):
    files = sorted(str(path) for path in packed.glob("images-train*"))
    source = grain.sources.ArrayRecordDataSource(files)
    rows = list(grain.MapDataset.source(source).map(decode_example))
    assert [row["name"][0].decode() for row in rows] == sorted(p.name for p in folder.iterdir())


def test_every_kind_is_recognised_and_gives_the_same_pictures(folder, packed, foreign, monkeypatch):
    expected = pixels_of(ImageFolder(folder))
    monkeypatch.setenv("TFDS_DATA_DIR", str(foreign.parents[1]))
    for path, kind in [
        (folder, ImageFolder),
        (packed, PackedImages),
        (packed / "images-train*", ArrayRecordImages),
        (foreign, TfdsImages),
        (foreign.parent, TfdsImages),
        ("things", TfdsImages),
        ("things:1.2.0", TfdsImages),
        (foreign / "things-train.array_record-00000-of-00001", None),
    ]:
        if kind is None:
            with pytest.raises(UsageError, match="under 'image', got label, photo"):
                open_source(path)
            continue
        source = open_source(path)
        assert type(source) is kind
        assert_same(pixels_of(source), expected)
        assert (source.kind, source.picture_count) == ("images", 5)
        assert len(source.digest) == 64 and source.digest == open_source(path).digest
    part = open_source("things", split="train[60%:]")
    assert_same(pixels_of(part), expected[3:])
    assert part.digest != open_source("things").digest


def test_packed_pictures_are_listed_by_area_like_those_of_a_folder(folder, packed):
    for min_side in (1, 16, 20):
        ours, others = (open_source(path, min_side=min_side) for path in (packed, folder))
        assert len(ours) == len(others) and ours.pixel_count == others.pixel_count
        assert_same([ours[i] for i in range(len(ours))], [others[i] for i in range(len(others))])
    with pytest.raises(UsageError, match="at least 100 px, found none"):
        open_source(packed, min_side=100)


def test_records_may_be_bare_pictures(folder, tmp_path):
    writer = ArrayRecordWriter(str(tmp_path / "a.array_record"), "group_size:1")
    for path in sorted(folder.iterdir()):
        writer.write(path.read_bytes())
    writer.close()
    source = open_source(tmp_path / "a.array_record")
    assert_same(pixels_of(source), pixels_of(ImageFolder(folder)))


def test_errors_take_one_line_and_no_network(folder, packed, foreign, tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    other = tmp_path / "tfrecord"
    other.mkdir()
    info = json.loads((packed / "dataset_info.json").read_text())
    (other / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "dataset_info.json").write_text("{")
    (tmp_path / "junk").write_bytes(b"junk" * 100)
    writer = ArrayRecordWriter(str(tmp_path / "text"), "group_size:1")
    writer.write(encode_example({"text": b"no picture"}))
    writer.close()
    incomplete = tmp_path / "incomplete"
    incomplete.mkdir()
    for path in packed.iterdir():
        if not path.name.endswith("00001-of-00002"):
            (incomplete / path.name).write_bytes(path.read_bytes())
    (tmp_path / "begun" / ".unfinished").mkdir(parents=True)
    for path, split, words in [
        ("imagenet2012", "train", "prepared under .*none .*found none"),
        ("cifar10:3.0.2", "train", "found none"),
        ("no/such/place", "train", "got nothing there"),
        (tmp_path / "*.array_record", "train", "found none that match"),
        (other, "train", "expected ArrayRecord files, got tfrecord"),
        (tmp_path / "damaged", "train", "not what TFDS writes"),
        (foreign, "test", "a split out of train, got 'test'"),
        (foreign, "train[:x]", r"cannot read split 'train\[:x\]'"),
        (tmp_path / "junk", "train", "not ArrayRecord"),
        (tmp_path / "text", "train", "under 'image', got text"),
        (incomplete, "train", "00001-of-00002: missing"),
        (packed, "test", "which has splits, for 'test'"),
        (tmp_path / "begun", "train", "packing was cut short"),
        (folder, "train[:2]", "which has splits"),
    ]:
        with pytest.raises(UsageError, match=words) as caught:
            open_source(path, split=split)
        assert "\n" not in str(caught.value)


def test_several_configurations_have_to_be_chosen_from(foreign, tmp_path, monkeypatch):
    for name in ("large", "small"):
        target = tmp_path / "sets" / name / "1.0.0"
        target.mkdir(parents=True)
        for path in foreign.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="one of sets/large, sets/small"):
        open_source("sets")
    assert open_source("sets/small").picture_count == 5
