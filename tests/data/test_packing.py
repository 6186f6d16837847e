"""Packed pictures: what is kept, what is encoded anew, resuming, checksums."""

import errno
import io
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import rcodec_jax
from rcodec_jax.data import packing
from rcodec_jax.data.packed_picture import plain_picture
from rcodec_jax.data.packing import pack_folder
from rcodec_jax.data.pictures.images import read_image
from rcodec_jax.data.sources.records import PackedImages, packed_records
from rcodec_jax.data.storage.examples import decode_example
from rcodec_jax.data.storage.manifest import check, read_manifest, read_sizes
from rcodec_jax.errors import StorageError, UsageError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def smooth(height, width, seed=0):
    coarse = Image.fromarray(noise(4, 4, 3, seed=seed))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    (root / "below").mkdir()
    smooth(40, 56, 1).save(root / "a.jpg", quality=90)
    smooth(64, 48, 2).save(root / "below" / "b.png")
    smooth(32, 80, 3).save(root / "below" / "c.webp", lossless=True)
    smooth(48, 48, 4).convert("L").save(root / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth(40, 72, 5).save(root / "turned.jpg", exif=exif)
    smooth(24, 24, 6).convert("RGBA").save(root / "alpha.png")
    (root / "broken.jpg").write_bytes(encoded(smooth(40, 40), format="JPEG")[:-200])
    (root / "text.png").write_text("not an image")
    (root / "notes.txt").write_text("not listed")
    return root


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed")
    pack_folder(folder, out, shard_count=3)
    return out


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def plain_pixels(data):
    """What a program gets that only decodes."""
    values = np.asarray(Image.open(io.BytesIO(data)))
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values


def features(folder):
    records = packed_records(folder, read_manifest(folder))
    return [decode_example(records[i]) for i in range(len(records))]


def test_records_are_in_the_order_of_names_and_keep_the_bytes_of_plain_files(folder, packed):
    records = {r["name"][0].decode(): r for r in features(packed)}
    expected = ["a.jpg", "alpha.png", "below/b.png", "below/c.webp", "grey.png", "turned.jpg"]
    assert list(records) == expected
    for name in ("a.jpg", "below/b.png", "below/c.webp", "grey.png"):
        assert records[name]["image"] == [(folder / name).read_bytes()]
    for name, record in records.items():
        pixels = read_image(folder / name).pixels
        assert (record["height"], record["width"]) == ([pixels.shape[0]], [pixels.shape[1]])
        if name == "turned.jpg":  # a JPEG of a JPEG: close
            error = np.abs(plain_pixels(record["image"][0]).astype(int) - pixels).mean()
            assert error < 2
        else:
            np.testing.assert_array_equal(plain_pixels(record["image"][0]), pixels)


def test_what_cannot_be_read_is_left_out_and_listed(packed):
    lines = (packed / "skipped.txt").read_text().splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["broken.jpg", "text.png"]
    assert "damaged JPEG" in lines[0] and "not an image" in lines[1]
    facts = read_manifest(packed).facts
    assert (facts["skipped"], facts["encoded_anew"]) == (2, 2)


def test_odd_pictures_become_plain_ones():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgb = smooth(24, 40)
    transparent = rgb.convert("RGBA")
    transparent.putalpha(128)
    kept = [
        encoded(rgb, format="JPEG"),
        encoded(rgb, format="PNG", icc_profile=profile),
        encoded(rgb, format="WEBP"),
        encoded(rgb.convert("L"), format="JPEG"),
    ]
    for data in kept:
        assert plain_picture(data).data == data and not plain_picture(data).changed
    changed = [
        encoded(rgb.convert("CMYK"), format="JPEG"),
        encoded(rgb.convert("P"), format="PNG"),
        encoded(transparent, format="WEBP"),
        encoded(Image.fromarray(noise(24, 40).astype(np.uint16) * 257), format="PNG"),
        encoded(rgb, format="TIFF"),
    ]
    for data in changed:
        plain = plain_picture(data)
        assert plain.changed and (plain.height_px, plain.width_px) == (24, 40)
        expected = read_image(data).pixels
        error = np.abs(plain_pixels(plain.data).astype(int) - expected)
        assert error.mean() < 2 if plain.data.startswith(b"\xff\xd8") else not error.any()
        again = plain_picture(plain.data)
        assert not again.changed and again.data == plain.data


def test_larger_pictures_are_scaled_down_where_asked():
    plain = plain_picture(encoded(smooth(100, 40), format="PNG"), max_side=50)
    assert (plain.height_px, plain.width_px, plain.changed) == (50, 20, True)
    assert plain_pixels(plain.data).shape == (50, 20, 3)
    assert not plain_picture(encoded(smooth(50, 50), format="PNG"), max_side=50).changed


def test_bytes_do_not_depend_on_workers_or_the_place(folder, packed, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in folder.rglob("*"):
        if path.is_file():
            (moved / path.relative_to(folder)).parent.mkdir(exist_ok=True)
            (moved / path.relative_to(folder)).write_bytes(path.read_bytes())
    pack_folder(moved, tmp_path / "out", shard_count=3, workers=2)
    assert contents(tmp_path / "out") == contents(packed)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("done, kept", [(0, 0), (2, 2), (5, 5), (7, 5)])
def test_work_that_was_cut_short_goes_on_with_the_same_bytes(
    folder, packed, tmp_path, monkeypatch, done, kept
):
    seen = []

    def interrupted(data, **options):
        if len(seen) == done:
            raise KeyboardInterrupt
        seen.append(data)
        return plain_picture(data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "plain_picture", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pack_folder(folder, tmp_path / "out", shard_count=3)
    assert not (tmp_path / "out" / "pack.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(packing, "plain_picture", lambda *a, **k: seen.append(0) or plain_picture(*a))
        before = len(seen)
        pack_folder(folder, tmp_path / "out", shard_count=3)
    assert contents(tmp_path / "out") == contents(packed)
    assert len(seen) - before == 8 - kept  # shards that are whole are not done again


def test_a_killed_command_leaves_no_process_and_goes_on(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    data = encoded(smooth(800, 1000), format="PNG")
    for index in range(24):
        (source / f"{index:02d}.png").write_bytes(data)
    words = [sys.executable, "-m", "rcodec_jax.cli.main", "data", "pack", str(source), str(out)]
    root = str(Path(rcodec_jax.__file__).parents[1])
    process = subprocess.Popen(
        [*words, "--workers", "2", "--shards", "24"], env={**os.environ, "PYTHONPATH": root}
    )
    reports = out / ".unfinished"
    while not list(reports.glob("0*.json")):
        assert process.poll() is None
        time.sleep(0.01)
    workers = _children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "pack.json").exists()
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("images-*")}
    end = time.monotonic() + 20
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < end, "workers outlive their parent"
        time.sleep(0.02)
    pack_folder(source, out, shard_count=24)
    pack_folder(source, tmp_path / "undisturbed", shard_count=24)
    assert contents(out) == contents(tmp_path / "undisturbed")
    for name, when in done.items():
        assert (out / name).stat().st_mtime_ns == when


def _children(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_finished_set_is_left_alone_and_another_is_not_overwritten(folder, packed, tmp_path):
    pack_folder(folder, tmp_path / "out", shard_count=3)
    before = (tmp_path / "out" / "pack.json").stat().st_mtime_ns
    pack_folder(folder, tmp_path / "out", shard_count=3)
    assert (tmp_path / "out" / "pack.json").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="other options"):
        pack_folder(folder, tmp_path / "out", shard_count=2)
    pack_folder(folder, tmp_path / "out", shard_count=2, force=True)
    assert len(read_manifest(tmp_path / "out").shards) == 2
    assert not check(tmp_path / "out")
    (tmp_path / "out" / "pack.json").write_text("{")
    with pytest.raises(UsageError, match="not the manifest"):
        pack_folder(folder, tmp_path / "out", shard_count=2)
    pack_folder(folder, tmp_path / "out", shard_count=2, force=True)
    assert not check(tmp_path / "out")


@pytest.mark.parametrize("left", [["pack.json"], ["pack.json", "sizes.npy", "skipped.txt"]])
def test_a_data_set_of_somebody_else_is_not_overwritten(folder, packed, tmp_path, left):
    # Also one of TFDS that is called "images", or ours without its manifest.
    for name, data in contents(packed).items():
        if name not in left:
            (tmp_path / name).write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"dataset_info\.json.*--force"):
        pack_folder(folder, tmp_path, shard_count=2)
    assert contents(tmp_path) == before
    pack_folder(folder, tmp_path, shard_count=3, force=True)
    assert contents(tmp_path) == contents(packed)


def test_a_full_disk_is_a_storage_error_and_work_goes_on(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for index in range(6):
        Image.fromarray(noise(64, 64, 3, seed=index)).save(source / f"{index}.png")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            pack_folder(source, out, shard_count=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(out.rglob("*.part"))
    (out / ".unfinished" / "00000.1.part").write_bytes(b"of a killed process")
    pack_folder(source, out, shard_count=2)
    assert read_manifest(out).records == 6 and not list(out.rglob("*.part"))


def test_names_that_lead_nowhere_are_left_out_and_listed(folder, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "a.jpg").symlink_to(folder / "a.jpg")
    (source / "dangling.jpg").symlink_to(tmp_path / "absent.jpg")
    (source / "loop.jpg").symlink_to(source / "loop.jpg")
    (source / "parent").symlink_to(source)
    (source / "below").symlink_to(folder / "below")
    (source / "below2").symlink_to(folder / "below")  # a second name is no loop
    manifest = pack_folder(source, out)
    lines = (out / "skipped.txt").read_text().splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["dangling.jpg", "loop.jpg"]
    assert "no such file" in lines[0] and manifest.records == 5


@pytest.mark.parametrize(
    "fault",
    [OSError(errno.EIO, "Input/output error"), OSError(errno.EMFILE, "Too many open files")],
)
def test_a_fault_that_may_pass_leaves_nothing_out(folder, packed, tmp_path, monkeypatch, fault):
    read = Path.read_bytes

    def failing(path):
        if path.name == "b.png":
            raise fault
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        with pytest.raises(StorageError, match=r"b\.png"):
            pack_folder(folder, tmp_path / "out", shard_count=3)
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "load", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(StorageError, match="not enough memory"):
            pack_folder(folder, tmp_path / "out", shard_count=3)
    pack_folder(folder, tmp_path / "out", shard_count=3)
    assert contents(tmp_path / "out") == contents(packed)


def test_shards_that_come_out_empty_leave_no_gap(folder, tmp_path):
    manifest = pack_folder(folder, tmp_path / "out", shard_count=8)
    names = [shard.file for shard in manifest.shards]
    assert names == [f"images-train.array_record-{i:05d}-of-00006" for i in range(6)]
    assert not check(tmp_path / "out")


def test_every_flipped_byte_is_found(packed, tmp_path):
    rng = np.random.default_rng(0)
    for name, data in contents(packed).items():
        (tmp_path / name).write_bytes(data)
    assert check(tmp_path) == []
    for name, data in contents(packed).items():
        if name == "pack.json" or not data:
            continue
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        (tmp_path / name).write_bytes(flipped)
        (line,) = check(tmp_path)
        assert line.startswith(f"{name}: expected SHA-256")
        (tmp_path / name).write_bytes(data[:-1])
        assert len(check(tmp_path)) == 1
        (tmp_path / name).unlink()
        (line,) = check(tmp_path)
        assert line == f"{name}: No such file or directory"
        (tmp_path / name).write_bytes(data)
    manifest = (packed / "pack.json").read_text()
    sums = [shard.sha256 for shard in read_manifest(packed).shards]
    (tmp_path / "pack.json").write_text(manifest.replace(sums[0], sums[1]))
    with pytest.raises(UsageError, match="expected digest"):
        check(tmp_path)


def test_a_damaged_record_is_an_error_on_reading_too(packed, tmp_path):
    for name, data in contents(packed).items():
        (tmp_path / name).write_bytes(data)
    shard = read_manifest(packed).shards[0].file
    data = bytearray((tmp_path / shard).read_bytes())
    at = data.index(b"\xff\xd8\xff")
    data[at + 300] ^= 1
    (tmp_path / shard).write_bytes(data)
    source = PackedImages(tmp_path)
    with pytest.raises(UsageError, match=r"record 0 cannot be read"):
        source.read(0)
    source.read(1)


def test_sizes_that_are_no_array_are_named(packed, tmp_path):
    np.savez(tmp_path / "many.npz", np.zeros((6, 2), np.uint32))
    archive = (tmp_path / "many.npz").read_bytes()
    for data in (b"", archive, archive[:-9]):
        (tmp_path / "sizes.npy").write_bytes(data)
        with pytest.raises(UsageError, match=r"sizes\.npy: cannot be read"):
            read_sizes(tmp_path, read_manifest(packed))


def test_clear_errors(folder, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("keep")
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.png").write_text("no")
    for source, out, words in [
        (tmp_path / "absent", tmp_path / "out", "no such folder"),
        (tmp_path / "empty", tmp_path / "out", "found none"),
        (folder, tmp_path / "file", "got a file"),
        (folder, folder / "out", "outside"),
        (folder, tmp_path / "used", r"mine\.txt"),
        (bad, tmp_path / "out", r"all 1 pictures were left out; the first: a\.png: not an image"),
    ]:
        with pytest.raises(UsageError, match=words):
            pack_folder(source, out)
    with pytest.raises(UsageError, match=r"mine\.txt"):
        pack_folder(folder, tmp_path / "used", force=True)
    assert (tmp_path / "used" / "mine.txt").read_text() == "keep"
