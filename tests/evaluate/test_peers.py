"""Peers through ffmpeg and OpenJPEG, masks as rectangles, and rivals at the bytes of ours."""

from __future__ import annotations

import dataclasses
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate import command, peers, roi, roipage, roirivals
from rcodec_jax.evaluate.coders import MissingPeerError
from rcodec_jax.evaluate.composite import Composite, region_cells
from rcodec_jax.evaluate.peers import ffmpeg, pillow, regions, stills


def waves(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    parts = [128 + 50 * np.sin(x / a + y / b) for a, b in ((5.0, 9.0), (11.0, 4.0), (7.0, 7.0))]
    return np.stack(parts, axis=-1).astype(np.uint8)


def mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a.astype(float) - b) ** 2))


def test_jpeg2000_keeps_to_its_rates() -> None:
    coder, pixels = pillow.jpeg2000((0.5, 2.0)), waves(96, 128)
    errors = []
    for setting in coder.settings:
        data = coder.encode(pixels, setting)
        assert len(data) <= setting.value * 96 * 128 / 8 * 1.02
        errors.append(mse(coder.decode(data), pixels))
    assert errors[1] < errors[0] / 4
    with pytest.raises(UsageError, match="positive"):
        pillow.jpeg2000((0.0,))


@pytest.mark.parametrize(("make", "worst"), [(stills.hevc, 51), (stills.av1, 63)])
def test_video_codecs_take_any_size_and_more_bytes_are_better(make, worst: int) -> None:
    coder, pixels = make((40, 20)), waves(65, 67)
    assert [setting.label for setting in coder.settings] == ["crf=40", "crf=20"]
    files = [coder.encode(pixels, setting) for setting in coder.settings]
    assert 0 < len(files[0]) < len(files[1])
    for name in (b"x265", b"SVT"):
        assert name not in files[0], "the encoder's name is no part of the picture"
    decoded = [coder.decode(data) for data in files]
    assert all(d.shape == pixels.shape and d.dtype == np.uint8 for d in decoded)
    assert mse(decoded[1], pixels) < 30 and mse(decoded[1], pixels) < mse(decoded[0], pixels)
    with pytest.raises(UsageError, match=f"0 to {worst}"):
        make((worst + 1,))
    with pytest.raises(UsageError, match="ffmpeg: "):
        coder.decode(b"no stream")


def test_x265_spends_on_the_region() -> None:
    pixels, mask = waves(64, 96), np.zeros((64, 96), np.float32)
    mask[16:48, 32:80] = 1
    x265 = regions.ENCODERS["x265"]
    regions.check_regions(x265)
    inside = mask > 0
    plain, favoured = (x265.decode(x265.encode(pixels, mask, o, 40)) for o in (0.0, -0.3))
    assert mse(favoured[inside], pixels[inside]) < mse(plain[inside], pixels[inside]) / 2


def test_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    ffmpeg.find.cache_clear()
    made, missing = peers.make_peers(["jpeg", "hevc"])
    assert [coder.name for coder in made] == ["jpeg"]
    assert missing == [
        "peer hevc left out: it needs the package imageio-ffmpeg: pip install 'rcodec-jax[peers]'"
    ]
    assert len(regions.make_encoders(["x265", "svtav1"], {})[1]) == 2
    monkeypatch.undo()
    ffmpeg.find.cache_clear()
    with pytest.raises(MissingPeerError, match="without libnothing"):
        ffmpeg.find("libnothing")
    with pytest.raises(UsageError, match="peers for masks are x265, svtav1, got jpeg"):
        regions.make_encoders(["jpeg"], {})


def test_an_encoder_that_ignores_regions_is_no_rival() -> None:
    class Deaf(regions.RegionEncoder):
        def encode(self, *_: Any) -> bytes:
            return b"the same"

    deaf = Deaf(**dataclasses.asdict(regions.ENCODERS["x265"]))
    with pytest.raises(MissingPeerError, match="libx265 takes no notice of regions"):
        regions.check_regions(deaf)


def test_rectangles_cover_the_region_once() -> None:
    rng = np.random.default_rng(5)
    for height, width in ((64, 96), (70, 50), (16, 16), (5, 7)):
        blocks = rng.random((-(-height // 16), -(-width // 16))) < 0.5
        mask = np.kron(blocks, np.ones((16, 16)))[:height, :width].astype(np.float32)
        painted = np.zeros(mask.shape, int)
        for top, bottom, left, right in regions.rectangles(mask):
            assert 0 <= top < bottom <= height and 0 <= left < right <= width
            painted[top:bottom, left:right] += 1
        np.testing.assert_array_equal(painted, mask)
    whole = np.ones((50, 70), np.float32)
    assert regions.rectangles(whole) == [(0, 50, 0, 70)]
    assert regions.rectangles(0 * whole) == []
    faint = np.zeros((16, 32), np.float32)
    faint[:4, :16], faint[:5, 16:] = 1, 1  # a quarter and five sixteenths of a block
    assert regions.rectangles(faint) == [(0, 16, 16, 32)]
    assert regions.roi_filters(faint, -0.2) == ["addroi=x=16:y=0:w=16:h=16:qoffset=-0.200"]


class JpegRegions(regions.RegionEncoder):
    """JPEG of a picture whose background is flattened the more, the stronger the offset."""

    def encode(self, pixels: np.ndarray, mask: np.ndarray, offset: float, factor: float) -> bytes:
        weight = np.maximum(mask, 1 + 3 * offset)[..., None]
        buffer = io.BytesIO()
        mixed = (weight * pixels + (1 - weight) * 128).astype(np.uint8)
        Image.fromarray(mixed).save(buffer, "JPEG", quality=int(factor))
        return buffer.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))


@pytest.fixture
def jpeg_regions(monkeypatch: pytest.MonkeyPatch) -> JpegRegions:
    made = JpegRegions("fake", "none", "jpg", ".jpg", "rgb24", lambda _: [], 95, 1)
    monkeypatch.setitem(regions.ENCODERS, "fake", made)
    monkeypatch.setattr(regions, "check_regions", lambda encoder: None)
    return made


def test_the_search_spends_what_it_may(jpeg_regions: JpegRegions) -> None:
    pixels, mask = waves(64, 96), np.zeros((64, 96), np.float32)
    sizes = [len(jpeg_regions.encode(pixels, mask, -0.1, q)) for q in range(1, 96)]
    budget = 2000
    best = max(size for size in sizes if size <= budget)
    assert best <= len(jpeg_regions.fit(pixels, mask, -0.1, budget)) <= budget
    with pytest.raises(UsageError, match=f"fake needs {sizes[0]} bytes at least, got 10"):
        jpeg_regions.fit(pixels, mask, -0.1, 10)


def test_rivals_have_our_bytes_and_the_best_strength_is_chosen(
    picture_folder: Path, fake_codec: Any, jpeg_regions: JpegRegions, tmp_path: Path
) -> None:
    arguments = (fake_codec, picture_folder, tmp_path, command.Settings())
    result = command.evaluate_roi(*arguments, target_bpp=0.8, peer_names=["fake"])
    rows = [roi.RoiRow(**row) for row in result.content["rows"]]
    kinds = [f"fake {offset:g}" for offset in regions.OFFSETS]
    assert [row.kind for row in rows] == ["uniform", "roi", *kinds]
    uniform, own, *rivals = rows
    for row in rivals:
        assert row.size_bytes <= uniform.size_bytes
        assert row.bytes_ratio == row.size_bytes / uniform.size_bytes
    best = max(rivals, key=lambda row: row.roi_psnr_db)
    found = {(gain.rival, gain.figure): gain for gain in result.gains}
    gain = found["fake", "roi_psnr_db"]
    assert gain.mean == pytest.approx(own.roi_psnr_db - best.roi_psnr_db)
    assert gain.strengths == {best.kind.removeprefix("fake "): 1} and gain.pictures == 1
    assert found["uniform", "roi_psnr_db"].mean == pytest.approx(result.summary.roi_psnr_gain_db)
    assert result.summary.pictures == 1, "rivals are no pair of ours"
    page = (tmp_path / "report.html").read_text()
    assert "Regions of interest at equal bytes against uniform files, fake" in page
    labels = [f'data-label="{kind}"' for kind in ("original", "uniform", "roi", best.kind)]
    assert all(label in page for label in labels)
    # The same again measures nothing and says the same.
    fake_codec.decode_options.clear()
    again = command.evaluate_roi(*arguments, target_bpp=0.8, peer_names=["fake"])
    assert again.gains == result.gains


def test_two_files_cut_by_the_mask(fake_codec: Any) -> None:
    noisy = waves(101, 94) + np.random.default_rng(0).normal(0, 15, (101, 94, 3))
    pixels, mask = np.clip(noisy, 0, 255).astype(np.uint8), np.zeros((101, 94), np.float32)
    mask[21:, 38:61] = 1  # down to the edge, and no whole cells
    both = Composite(fake_codec, fake_codec.decode)
    budget = 4500
    files = {share: both.fit(pixels, mask, share, budget) for share in both.strengths}
    cells = region_cells(mask)
    assert cells.shape == (13, 12) and cells[3:, 5:7].all() and cells[2:].sum() == cells.sum()
    inside = cells.repeat(8, 0).repeat(8, 1)[:101, :94]
    errors = []
    for data in files.values():
        assert len(data) == budget  # everything counts, and is spent
        back = both.decode(data)
        assert back.shape == pixels.shape
        errors.append((mse(back[inside], pixels[inside]), mse(back[~inside], pixels[~inside])))
    (low_in, low_out), _, (high_in, high_out) = errors
    assert high_in < low_in and high_out > low_out
    uniform = fake_codec.decode(fake_codec.encode(pixels, size_bytes=budget))
    assert high_in < mse(uniform[inside], pixels[inside])
    with pytest.raises(UsageError, match="covers no cell"):
        both.fit(pixels, 0 * mask, 0.5, budget)


def test_gains_are_over_the_pictures_that_both_have() -> None:
    row = roi.RoiRow(
        "a", "uniform", 0.2, 100, 0.1, 1.0, 20.0, 0.5, 20.0, 20.0, None, 0.3, None, None, None
    )
    rows = [
        row,
        dataclasses.replace(row, kind="roi", roi_psnr_db=25.0, roi_lpips_composite=0.1),
        dataclasses.replace(row, kind="x265 -0.1", roi_psnr_db=23.0, roi_lpips_composite=0.2),
        # Better by LPIPS, which judges where it was measured, and worse by PSNR.
        dataclasses.replace(row, kind="x265 -0.2", roi_psnr_db=22.0, roi_lpips_composite=0.15),
        dataclasses.replace(row, picture="b"),
        dataclasses.replace(row, picture="b", kind="roi", roi_psnr_db=99.0),
    ]
    found = {gain.figure: gain for gain in roirivals.gains(rows, ["x265"]) if gain.rival == "x265"}
    assert found["roi_psnr_db"].mean == 3.0 and found["roi_psnr_db"].pictures == 1
    assert found["roi_lpips_composite"].mean == pytest.approx(-0.05)
    assert "roi_lpips" not in found
    assert found["roi_psnr_db"].strengths == {"-0.2": 1}


def test_windows_lie_around_the_region_and_inside_the_picture() -> None:
    mask = np.zeros((100, 200), np.float32)
    mask[70:90, 20:40] = 1
    rows, columns = roipage.around(mask, 50)
    assert (rows.start, rows.stop) == (50, 100) and (columns.start, columns.stop) == (4, 54)
    rows, columns = roipage.around(mask, 150)
    assert rows.start == 0 and mask[rows, columns].sum() == 400
