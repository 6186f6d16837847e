"""DISTS and FID/256 of a run: measured where their weights lie beside those of LPIPS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rcodec_jax.evaluate import command, report
from rcodec_jax.evaluate.metric import METRICS
from rcodec_jax.metrics import frechet
from rcodec_jax.metrics.dists import Dists
from rcodec_jax.metrics.inception import Inception
from rcodec_jax.metrics.perceptual import Lpips


@jax.tree_util.Partial
def apart(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.mean(jnp.abs(a - b), axis=(1, 2, 3))


@jax.tree_util.Partial
def colours(image: jax.Array) -> jax.Array:
    return jnp.mean(image, axis=(1, 2))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights whose networks are stand-ins: distances of pixels, means of colours."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for of, stand_in in ((Lpips, None), (Dists, apart), (Inception, colours)):
        monkeypatch.setattr(of, "load", lambda *_, stand_in=stand_in: stand_in)
    return folder


def test_both_are_in_rows_curves_and_the_page(
    weights: Path, tmp_path: Path, fake_codec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of no matter here, and slow.
    monkeypatch.setitem(METRICS, "ms_ssim", replace(METRICS["ms_ssim"], min_side_px=1000))
    monkeypatch.setattr(report, "plot_curves", lambda *_, **__: False)
    for name in ("dists.npz", "inception.npz"):
        (weights / name).touch()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (256, 512, 3), np.uint8)
    pixels[:, :, 0] //= 4
    Image.fromarray(pixels).save(pictures / "a.png")
    settings = command.Settings(lpips_dir=weights)
    assert settings.left_out() == []
    given = (fake_codec, pictures, tmp_path / "out", settings)
    result = command.evaluate_folder(*given, qualities=(5,), peer_names=())
    point = result.curves["rcodec"][0]
    file = tmp_path / "out" / "files" / "a.png" / "rcodec_quality=5.rdc"
    with Image.open(file) as image:
        decoded = np.asarray(image.convert("RGB"))
    difference = np.abs(decoded.astype(float) - pixels).mean() / 127.5
    assert point.figures["dists"] == pytest.approx(difference, rel=1e-4)
    moments = frechet.Moments(), frechet.Moments()
    for of, picture in zip(moments, (pixels, decoded), strict=True):
        of.add(frechet.fid_features(colours, picture))
        assert of.count == 2  # side by side; of the moved grid none has room
    assert point.figures["fid256"] == pytest.approx(frechet.frechet_distance(*moments))
    assert point.figures["lpips"] is None and point.figures["frechet"] is None
    page = (tmp_path / "out" / "report.html").read_text()
    assert "DISTS" in page and "FID/256" in page


def test_what_has_no_weights_is_left_out_in_one_line(weights: Path) -> None:
    assert command.Settings().left_out() == [
        "DISTS, FID/256, LPIPS left out: no weights given (--lpips DIR)"
    ]
    assert command.Settings().left_out(regions=True) == [
        "LPIPS left out: no weights given (--lpips DIR)"
    ]
    settings = command.Settings(lpips_dir=weights)
    assert settings.left_out() == [
        f"DISTS, FID/256 left out: no dists.npz, inception.npz in {weights}"
    ]
    (weights / "dists.npz").touch()
    assert settings.left_out() == [f"FID/256 left out: no inception.npz in {weights}"]
    assert settings.left_out(regions=True) == []
    meter = settings.meter()
    assert meter.has(Dists) and not meter.has(Inception)
    assert not settings.meter(regions=True).has(Dists)
