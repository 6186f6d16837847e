"""Runs: real bytes counted, the same pictures for all, curves and BD-rates as defined."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.evaluate import coders, command, curves, origin, peers, report
from rcodec_jax.evaluate.meter import Meter
from rcodec_jax.evaluate.peers import pillow
from rcodec_jax.evaluate.run import Row, list_pictures, run
from rcodec_jax.metrics import frechet, perceptual
from rcodec_jax.metrics.bdrate import bd_rate
from rcodec_jax.metrics.ssimulacra2 import ssimulacra2

RATES = (0.4, 0.8, 1.2)


def random_lpips(net: str = "alex") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        name: np.abs(rng.normal(0, 0.05, shape)).astype(np.float32)
        if name.startswith("lin")
        else rng.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in perceptual.expected_shapes(net).items()
    }


def row(codec: str, setting: str, picture: str, bpp: float, psnr: float, **more: Any) -> Row:
    figures = {"psnr_db": psnr}
    return Row(picture, codec, setting, 8, 8, int(8 * bpp), bpp, figures, 0.1, 0.2, **more)


def test_pictures_are_listed_without_masks(picture_folder: Path) -> None:
    names = [p.relative_to(picture_folder).as_posix() for p in list_pictures(picture_folder)]
    assert names == ["a.png", "b.png", "sub/c.png"]
    assert len(list_pictures(picture_folder, every=2)) == 2
    assert len(list_pictures(picture_folder, limit=1)) == 1
    with pytest.raises(UsageError, match="expected a folder"):
        list_pictures(picture_folder / "a.png")
    with pytest.raises(UsageError, match="at least 1"):
        list_pictures(picture_folder, every=0)


def test_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pictures in"):
        list_pictures(tmp_path)


def test_every_byte_of_every_file_counts(picture_folder: Path, fake_codec: Any) -> None:
    """Sizes, bpp and PSNR of the rows equal what is got by hand with Pillow and scikit-image."""
    paths = list_pictures(picture_folder, limit=1)
    own = coders.RcodecCoder(fake_codec, rates_bpp=RATES, steps=3)
    everyone = [own, pillow.jpeg((20, 60)), pillow.webp((20,))]
    result = run(paths, everyone, Meter(), root=picture_folder)
    assert len(result.rows) == 6 and not result.skipped
    with Image.open(paths[0]) as image:
        pixels = np.asarray(image)
    by_hand = {}
    for codec, setting, options in (
        ("jpeg", "quality=20", {"format": "JPEG", "quality": 20, "optimize": True}),
        ("jpeg", "quality=60", {"format": "JPEG", "quality": 60, "optimize": True}),
        ("webp", "quality=20", {"format": "WEBP", "quality": 20, "method": 6}),
    ):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, **options)
        with Image.open(buffer) as decoded:
            psnr = peak_signal_noise_ratio(pixels, np.asarray(decoded.convert("RGB")))
        by_hand[codec, setting] = (buffer.tell(), psnr)
    for r in result.rows:
        assert r.bpp == pytest.approx(8 * r.size_bytes / (170 * 186))
        assert 0 < (r.figures["ms_ssim"] or 0) <= 1
        if r.codec == "rcodec":
            assert r.bpp <= float(r.setting.removeprefix("bpp=")) + 1e-9
        else:
            size, psnr = by_hand[r.codec, r.setting]
            assert r.size_bytes == size
            assert r.figures["psnr_db"] == pytest.approx(psnr, abs=2e-3)
    assert fake_codec.decode_options[0] == {"steps": 3, "trajectory": "proportional"}


def test_settings_out_of_reach_are_skipped_with_the_reason(
    picture_folder: Path, fake_codec: Any
) -> None:
    paths = list_pictures(picture_folder, limit=2)
    calls: list[tuple[int, int, str]] = []
    own = coders.RcodecCoder(fake_codec, rates_bpp=(0.0001, 1.0))
    result = run(
        paths, [own], Meter(), root=picture_folder, progress=lambda *call: calls.append(call)
    )
    assert [(s.setting, s.codec) for s in result.skipped] == [("bpp=0.0001", "rcodec")] * 2
    assert "expected at least" in result.skipped[0].reason
    assert [r.setting for r in result.rows] == ["bpp=1", "bpp=1"]
    assert [done for done, _, _ in calls] == [0, 1, 2, 3, 4] and calls[-1][1] == 4


def test_a_damaged_picture_is_left_out_with_the_reason(
    picture_folder: Path, tmp_path: Path, fake_codec: Any
) -> None:
    shutil.copytree(picture_folder, tmp_path / "in")
    broken = tmp_path / "in" / "b.png"
    broken.write_bytes(broken.read_bytes()[:-200])
    arguments = (fake_codec, tmp_path / "in", tmp_path / "out", command.Settings())
    done = command.evaluate_folder(*arguments, rates_bpp=(0.8,), peer_names=())
    assert done.content["pictures"] == ["a.png", "sub/c.png"]
    assert [(s.picture, s.codec) for s in done.skipped] == [("b.png", "")]
    assert "b.png: damaged" in done.skipped[0].reason
    assert [point.pictures for point in done.curves["rcodec"]] == [2]
    for name in ("a.png", "sub/c.png"):
        (tmp_path / "in" / name).write_bytes(broken.read_bytes())
    with pytest.raises(UsageError, match="damaged"):
        command.evaluate_folder(*arguments, rates_bpp=(0.8,), peer_names=())


def test_a_decoder_that_returns_another_size_is_an_error(picture_folder: Path) -> None:
    jpeg = pillow.jpeg((50,))
    jpeg.decode = lambda data: np.zeros((5, 5, 3), np.uint8)  # type: ignore[method-assign]
    with pytest.raises(RcodecError, match=r"expected a decoded picture uint8 \[170, 186, 3\]"):
        run(list_pictures(picture_folder, limit=1), [jpeg], Meter(), root=picture_folder)


def test_bad_coders_are_named(fake_codec: Any) -> None:
    for options in ({}, {"rates_bpp": (0.1,), "qualities": (50,)}):
        with pytest.raises(UsageError, match="either rates or qualities"):
            coders.RcodecCoder(fake_codec, **options)
    with pytest.raises(UsageError, match="positive"):
        coders.RcodecCoder(fake_codec, rates_bpp=(0.1, -0.2))
    with pytest.raises(UsageError, match="peers are jpeg, .*av1, got gif"):
        peers.make_peers(["jpeg", "gif"])
    with pytest.raises(UsageError, match="0 to 100"):
        pillow.jpeg((50, 101))


def test_small_pictures_leave_out_what_is_undefined_there() -> None:
    lpips = perceptual.Lpips.from_arrays(random_lpips(), "alex")
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    meter = Meter({perceptual.Lpips: lpips})
    small = meter.whole(a, b)
    assert small["ms_ssim"] is None and small["lpips"] is not None
    assert small["dists"] is None
    one, other = (jnp.asarray(x[None] / 255, jnp.float32) for x in (a, b))
    distance = jax.jit(lambda *pair: lpips(*pair))(2 * one - 1, 2 * other - 1)
    assert small["lpips"] == pytest.approx(float(distance[0]), rel=1e-3)
    score = float(jax.jit(ssimulacra2)(one, other)[0])
    assert small["ssimulacra2"] == pytest.approx(score, abs=1e-2)
    tiny = meter.whole(a[:1, :1], a[:1, :1])
    assert tiny == dict.fromkeys(small) | {"psnr_db": float("inf")}


def test_curves_are_means_and_incomplete_settings_are_dropped() -> None:
    rows = [row("x", s, p, bpp, q) for s, p, bpp, q in [
        ("2", "a", 0.4, 30.0), ("2", "b", 0.6, 32.0), ("1", "a", 0.1, 20.0), ("1", "b", 0.3, 26.0),
        ("3", "a", 0.9, 40.0),
    ]]  # fmt: skip
    points = curves.mean_curves(rows)["x"]
    assert [(p.setting, p.pictures) for p in points] == [("1", 2), ("2", 2)]
    np.testing.assert_allclose(
        [(p.bpp, p.figures["psnr_db"]) for p in points], [(0.2, 23), (0.5, 31)]
    )


def test_bd_rates_of_means_and_mean_of_pictures() -> None:
    """One picture costs the test codec half, the other 10 % less, at the same qualities."""
    quality, rate = [20.0, 24.0, 27.0, 29.0], [0.1, 0.2, 0.4, 0.8]
    rows = []
    for i, (q, r) in enumerate(zip(quality, rate, strict=True)):
        for picture, factor in (("a", 0.5), ("b", 0.9)):
            rows.append(row("anchor", str(i), picture, r, q))
            rows.append(row("test", str(i), picture, factor * r, q))
    (result,) = curves.bd_rates(rows, "test")
    assert result.metric == "psnr_db" and result.pictures == 2
    assert result.mean_of_pictures_percent == pytest.approx(-30, abs=1e-6)
    assert result.of_means_percent == pytest.approx(-30, abs=1e-6)
    assert result.quality_range == (20.0, 29.0)
    # Of two pictures a sample has both, twice the first, or twice the second.
    for interval in (result.of_means_interval, result.mean_of_pictures_interval):
        assert interval == pytest.approx((-50, -10), abs=1e-6)
    (other,) = curves.bd_rates(rows, "anchor")
    assert (other.test, other.anchor) == ("anchor", "test")
    lossless = [
        dataclasses.replace(r, figures={"psnr_db": float("inf")}) if r.setting == "3" else r
        for r in rows
    ]
    (result,) = curves.bd_rates(lossless, "test")
    assert result.quality_range == (20.0, 27.0)
    (result,) = curves.bd_rates(rows[:2], "test")
    assert result.of_means_percent is None and result.pictures == 0
    assert result.of_means_interval is None and result.mean_of_pictures_interval is None


def test_the_whole_command_writes_what_it_measured(
    picture_folder: Path, tmp_path: Path, fake_codec: Any
) -> None:
    np.savez(tmp_path / "lpips_alex.npz", allow_pickle=False, **random_lpips())
    out = tmp_path / "deep" / "report"
    card = {"name": "fake", "steps": 7, "loss": float("nan"), "float_digest": "0123456789"}
    settings = command.Settings(lpips_dir=tmp_path, card=card)
    result = command.evaluate_folder(
        fake_codec, picture_folder, out, settings, rates_bpp=RATES, peer_names=("jpeg",), every=2
    )
    content = result.content
    written = json.loads((out / "report.json").read_text())
    assert written == content
    assert content["pictures"] == ["a.png", "sub/c.png"] and content["lpips"] == "alex"
    assert content["model"] == {**card, "loss": None}
    assert content["command"] == sys.argv and content["versions"]["jax"] == jax.__version__
    assert datetime.datetime.fromisoformat(content["date"]).tzinfo == datetime.UTC
    assert f"{os.cpu_count()} CPU cores" in content["machine"]
    assert [b["metric"] for b in content["bd_rates"]] == [
        *("psnr_db", "ms_ssim", "lpips", "ssimulacra2")
    ]
    assert {b["test"] for b in content["bd_rates"]} == {"rcodec"}
    # The figure in the report is the BD-rate of the curves in the report.
    lines = content["curves"]
    expected = bd_rate(
        *([p[k] for p in lines[c]] for c in ("jpeg", "rcodec") for k in ("bpp", "psnr_db"))
    )
    assert content["bd_rates"][0]["of_means_percent"] == pytest.approx(expected)
    with (out / "rows.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 2 * (len(RATES) + len(pillow.JPEG_QUALITIES))
    assert {"picture", "codec", "size_bytes", "bpp", "lpips"} <= set(table[0])
    models = {(row["codec"], row["model"]) for row in table}
    assert models == {("rcodec", "fake, 7 steps, 01234567"), ("jpeg", "")}
    labels = {codec: points[0].label for codec, points in result.curves.items()}
    assert labels == {"rcodec": "rcodec (fake, 7 steps, 01234567)", "jpeg": "jpeg"}
    with Image.open(out / "curves.png") as plot:
        assert plot.width > 1000
    assert result.plotted and set(result.curves) == {"rcodec", "jpeg"} and not result.skipped


def test_frechet_distances_are_of_sets_and_measured_once(
    picture_folder: Path, tmp_path: Path, fake_codec: Any
) -> None:
    np.savez(tmp_path / "lpips_alex.npz", allow_pickle=False, **random_lpips())
    settings = command.Settings(lpips_dir=tmp_path, frechet=True, limit=2)
    arguments = (fake_codec, picture_folder, tmp_path / "out", settings)
    result = command.evaluate_folder(*arguments, qualities=(5, 40, 90), peer_names=("jpeg",))
    own = result.curves["rcodec"]
    lpips = perceptual.Lpips.load(tmp_path)
    original, decoded = frechet.Moments(), frechet.Moments()
    for path in list_pictures(picture_folder, limit=2):
        file = tmp_path / "out" / "files" / path.name / "rcodec_quality=40.rdc"
        for moments, pixels in ((original, path), (decoded, file)):
            with Image.open(pixels) as image:
                found = frechet.patch_features(lpips, np.asarray(image.convert("RGB")))
            moments.add(found)
    distances = [p.figures["frechet"] for p in own]
    assert distances[1] == pytest.approx(frechet.frechet_distance(original, decoded))
    assert distances[0] > distances[1] > distances[2] > 0  # type: ignore[operator]
    figures = [b for b in result.bd_rates if b.metric == "frechet"]
    assert [(b.anchor, b.pictures, b.of_means_interval) for b in figures] == [("jpeg", 0, None)]
    assert "Frechet distance" in (tmp_path / "out" / "report.html").read_text()
    shutil.rmtree(tmp_path / "out" / "files")
    again = command.evaluate_folder(*arguments, qualities=(5, 40), peer_names=())
    assert [p.figures["frechet"] for p in again.curves["rcodec"]] == distances[:2]


def test_without_weights_there_is_no_lpips(
    picture_folder: Path, tmp_path: Path, fake_codec: Any
) -> None:
    settings = command.Settings(limit=1)
    content = command.evaluate_folder(
        fake_codec, picture_folder, tmp_path, settings, rates_bpp=RATES
    ).content
    assert content["lpips"] is None
    assert {b["anchor"] for b in content["bd_rates"]} == {"jpeg", "webp"}
    assert {b["metric"] for b in content["bd_rates"]} == {"psnr_db", "ms_ssim", "ssimulacra2"}
    assert all(p["lpips"] is None for line in content["curves"].values() for p in line)


def test_legends_name_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    labels: list[str] = []
    plot = Axes.plot

    def noted(self: Axes, *args: Any, **options: Any) -> Any:
        labels.append(options["label"])
        return plot(self, *args, **options)

    monkeypatch.setattr(Axes, "plot", noted)
    rows = [row("rcodec", "1", "a", 0.1, 20.0, model="tiny, 3 steps"), row("jpeg", "1", "a", 1, 9)]
    assert report.plot_curves(tmp_path / "x.png", curves.mean_curves(rows))
    assert labels == ["rcodec (tiny, 3 steps)", "jpeg"]


def test_a_model_in_words() -> None:
    card = {"name": "tiny", "steps": 17981, "integer_digest": "418330e3ab96ab23"}
    assert origin.model_words(card) == "tiny, 17981 steps, 418330e3"
    card["float_digest"] = "d8f6ba31"
    assert origin.model_words(card) == "tiny, 17981 steps, 418330e3/d8f6ba31"
    assert origin.model_words({}) == ""


def test_plots_are_left_out_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not report.plot_curves(tmp_path / "x.png", {})
    assert not (tmp_path / "x.png").exists()
