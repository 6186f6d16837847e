"""Losses, statistics, schedule and reporting, apart from any run."""

from __future__ import annotations

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.config.train import LossConfig, StageConfig, TrainConfig
from rcodec_jax.data import read_image
from rcodec_jax.errors import UsageError
from rcodec_jax.train.loop import reporting
from rcodec_jax.train.loop.measured import Measured
from rcodec_jax.train.loop.reporting import Reporter
from rcodec_jax.train.step import statistics
from rcodec_jax.train.step.losses import pixel_losses, repeated_error
from rcodec_jax.train.step.optimizer import learning_rate
from rcodec_jax.train.step.perceptual import load_perceptual
from rcodec_jax.train.step.statistics import Stats

DATA = {"images": 3, "latents": 0}


def make_stats(channels: int = 3) -> Stats:
    ranges = {"conv_0_out": jnp.asarray(2.0), "film_0_out": jnp.asarray(0.5)}
    return Stats(jnp.asarray([0.5, -1.0, 2.0][:channels]), jnp.asarray(4.0), ranges)


def raw_latent(scale: float = 1.0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(1, scale, (2, 4, 4, 3)), jnp.float32)


def test_scaling_is_undone() -> None:
    raw, stats = raw_latent(), make_stats()
    y = statistics.scale(raw, stats)
    np.testing.assert_allclose(np.asarray(y[0, 0, 0]), (raw[0, 0, 0] - stats.shift) / 2, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(statistics.unscale(y, stats)), np.asarray(raw), rtol=1e-5)


def test_training_cannot_buy_rate_with_scale() -> None:
    """Same values as `scale`, but no gradient along a change of the latent's overall size."""
    raw, stats = raw_latent(), make_stats()
    weight = jnp.asarray(np.random.default_rng(1).normal(size=raw.shape), jnp.float32)
    np.testing.assert_allclose(
        np.asarray(statistics.scale_in_training(raw, stats)),
        np.asarray(statistics.scale(raw, stats)),
        rtol=1e-5,
    )
    gradient = jax.grad(lambda r: jnp.sum(weight * statistics.scale_in_training(r, stats)))(raw)
    along = raw - stats.shift.reshape(1, 1, 1, -1)
    size = float(jnp.linalg.norm(gradient.ravel()) * jnp.linalg.norm(along.ravel()))
    assert abs(float(jnp.vdot(gradient, along))) < 1e-4 * size
    assert float(jnp.abs(gradient).max()) > 0.1


def test_statistics_approach_the_latent_and_ranges_never_miss_a_peak() -> None:
    stats, raw = make_stats(), raw_latent(3.0)
    ranges = {"conv_0_out": jnp.asarray(1.0), "film_0_out": jnp.asarray(0.8)}
    one = statistics.update(stats, statistics.observe(raw, ranges), jnp.asarray(0))
    assert float(one.ranges["film_0_out"]) == pytest.approx(0.8)  # up at once
    assert float(one.ranges["conv_0_out"]) == pytest.approx(2.0 * statistics.RANGE_DECAY)
    frozen = statistics.update(stats, statistics.observe(None, ranges), jnp.asarray(5))
    np.testing.assert_array_equal(np.asarray(frozen.shift), np.asarray(stats.shift))
    seen, many = statistics.observe(raw, None), make_stats()
    update = jax.jit(lambda s, n: statistics.update(s, seen, n))
    for step in range(1500):
        many = update(many, jnp.asarray(step))
    np.testing.assert_allclose(np.asarray(many.shift), raw.mean((0, 1, 2)), rtol=1e-3)
    assert float(many.power) == pytest.approx(float(jnp.var(raw, axis=(0, 1, 2)).mean()), rel=1e-3)


def test_pixels_weigh_what_their_cell_is_worth() -> None:
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.uniform(-1, 1, (1, 16, 16, 3)), jnp.float32)
    b = jnp.asarray(rng.uniform(-1, 1, (1, 16, 16, 3)), jnp.float32)
    weight = jnp.asarray([[[[3.0], [0.0]], [[0.0], [1.0]]]])
    loss = LossConfig(mse=10.0, l1=0.5)
    total, metrics = pixel_losses(a, b, weight, loss, None)
    error = np.asarray(b - a)
    blocks = [(3.0, error[:, :8, :8]), (1.0, error[:, 8:, 8:])]
    expected = sum(w * (10 * np.square(e).sum() + 0.5 * abs(e).sum()) for w, e in blocks)
    assert float(total) == pytest.approx(expected / error.size, rel=1e-4)
    assert float(metrics["mse"]) == pytest.approx(np.square(error).mean(), rel=1e-5)
    levels = (np.asarray(a) + 1) * 127.5, (np.asarray(b) + 1) * 127.5
    psnr = 10 * np.log10(255**2 / np.square(levels[0] - levels[1]).mean())
    assert float(metrics["psnr"]) == pytest.approx(psnr, rel=1e-4)  # that of 8-bit pictures
    with pytest.raises(ValueError, match="needs a perceptual distance"):
        pixel_losses(a, b, weight, LossConfig(lpips=1.0), None)
    total, metrics = pixel_losses(
        a, a, weight, LossConfig(mse=0.0, lpips=2.0), lambda a, b: jnp.full((1,), 0.25)
    )
    assert float(total) == pytest.approx(2 * 0.25 * 1.0)  # mean weight 1


def test_structure_is_a_term_by_pixel_that_is_nothing_for_equal_pictures() -> None:
    rng = np.random.default_rng(1)
    a, b = (jnp.asarray(rng.uniform(-1, 1, (2, 16, 16, 3)), jnp.float32) for _ in range(2))
    weight, loss = jnp.ones((2, 2, 2, 1)), LossConfig(mse=0.0, structure=0.5)
    assert float(pixel_losses(a, a, weight, loss, None)[0]) == 0.0
    total, metrics = pixel_losses(a, b, weight, loss, None)
    # Pictures that have nothing in common are about 2 apart in lightness, and less in colours.
    assert 1.0 < float(metrics["structure"]) < 4.0
    assert float(total) == pytest.approx(0.5 * float(metrics["structure"]), rel=1e-5)
    half = jnp.asarray([[[[2.0], [2.0]], [[0.0], [0.0]]]] * 2)
    assert float(pixel_losses(a, b, half, loss, None)[0]) == pytest.approx(float(total), rel=0.2)


def test_the_lattice_is_what_repeats_every_sixteen_pixels() -> None:
    rng = np.random.default_rng(0)
    period = rng.normal(size=(16, 16, 3)).astype(np.float32)
    period -= period.mean(axis=(0, 1))
    pattern = jnp.asarray(np.tile(period, (1, 8, 8, 1)))
    np.testing.assert_allclose(repeated_error(pattern), np.mean(period**2), rtol=1e-5)
    assert repeated_error(pattern).shape == (1, 1, 1, 1)
    assert repeated_error(jnp.zeros((1, 96, 128, 3))).shape == (1, 3, 4, 1)
    np.testing.assert_allclose(repeated_error(pattern + 3.0), np.mean(period**2), rtol=1e-4)
    assert not repeated_error(jnp.full((1, 32, 96, 3), 3.0)).any()
    shifted = jnp.roll(pattern, (3, 5), axis=(1, 2))  # wherever the pattern begins
    np.testing.assert_allclose(repeated_error(shifted), np.mean(period**2), rtol=1e-5)
    cell = jnp.asarray(np.tile(period[:8, :8] - period[:8, :8].mean(axis=(0, 1)), (1, 16, 16, 1)))
    np.testing.assert_allclose(repeated_error(cell), jnp.mean(jnp.square(cell)), rtol=1e-5)
    noise = jnp.asarray(rng.normal(size=(1, 640, 512, 3)), jnp.float32)
    assert float(jnp.mean(repeated_error(noise))) == pytest.approx(1 / 64, rel=0.05)

    half = jnp.concatenate([pattern, noise[:, :64, :128]], axis=1)  # blocks of 64 pixels
    loss, zero = LossConfig(mse=0.0, lattice=2.0), jnp.zeros_like(half)
    weight = jnp.concatenate([jnp.ones((1, 16, 16, 1)), jnp.zeros((1, 8, 16, 1))], axis=1)
    total, metrics = pixel_losses(zero, half, weight, loss, None)
    assert float(total) == pytest.approx(2.0 * 2 / 3 * np.mean(period**2), rel=1e-5)
    assert float(metrics["lattice"]) == pytest.approx(float(jnp.mean(repeated_error(half))))


def test_learning_rate_warms_up_and_comes_down() -> None:
    stage = StageConfig(steps=100, learning_rate=1e-2, final_learning_rate=1e-4, warmup=10)
    rates = [float(learning_rate(stage, jnp.asarray(step))) for step in range(100)]
    assert rates[0] == pytest.approx(1e-3) and max(rates) == pytest.approx(1e-2, rel=1e-3)
    assert int(np.argmax(rates)) == 9
    assert np.all(np.diff(rates[9:]) < 0) and rates[-1] == pytest.approx(1e-4, rel=1e-3)
    # a stage shorter than its warm-up still trains
    short = dataclasses.replace(stage, steps=1)
    assert float(learning_rate(short, jnp.asarray(0))) > 0


def test_lpips_without_weights_says_what_is_missing() -> None:
    with pytest.raises(UsageError, match="train.lpips_dir=FOLDER"):
        load_perceptual(TrainConfig())


def test_reporter_writes_means(tmp_path) -> None:
    stage = StageConfig(batch_size=2, crop_px=64)
    with Reporter(tmp_path, 10, peak_flops=1e6) as report:
        report.start(0, {"unet": 10}, DATA, 1)
        report.compiled(0, 1.5, 2000)
        report.add({"loss": jnp.asarray(1.0)}, stage)
        report.add({"loss": jnp.asarray(2.0)}, stage, waited_s=1e-9)
        report.log(2)
        report.log(2)  # nothing new, no line
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2] and rows[0]["loss"] == 1.5
    assert report.latest["loss"] == pytest.approx(1.5)
    assert report.latest["mfu"] == pytest.approx(2e-3 / report.latest["step_seconds"])
    assert 0 < report.latest["data_share"] < 1e-3


def test_the_console_tells_stages_and_the_time_that_is_left(tmp_path, capsys, monkeypatch) -> None:
    stages = (
        StageConfig(kind="autoencoder", loss=LossConfig(kl=0.5, latent=0)),
        StageConfig(kind="joint", steps=7_200, loss=LossConfig(mse=4, lpips=0.8)),
    )
    clock = iter([0.0, 0.0, 0.0, 1.0, 5.0])  # made, started, compiled; logged once
    ticks = types.SimpleNamespace(perf_counter=lambda: next(clock, 9.0), time=lambda: 7.0)
    monkeypatch.setattr(reporting, "time", ticks)
    with Reporter(tmp_path, 7_203) as report:
        report.start(0, {"unet": 10}, {"images": 3, "latents": 1554}, 1)
        report.stage(0, stages, 0, 1)
        report.compiled(0, 1.5, None)
        report.add({"loss": jnp.asarray(1.0)}, stages[0])
        report.log(1)
        report.stage(1, stages, 1, 7_201)
        report.add({"loss": jnp.asarray(2.0)}, stages[1], steps=2)  # sums
        report.log(3, left_s=-1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("parameters, 3 pictures, 1554 cached latents, 1 device(s)")
    assert "stage 1 of 2, autoencoder: loss rate 1, mse 5, kl 0.5, steps 1 to 1" in lines
    expected = "stage 2 of 2, joint: loss rate 1, mse 4, lpips 0.8, latent 0.02, steps 2 to 7201"
    assert expected in lines
    rows = [line for line in lines if " loss 1  " in line]
    # 7,202 steps of a second each; then what the caller knows, which is past.
    assert rows[0].endswith("s/step  2:00:02 left") and rows[1].endswith("s/step  0:00:00 left")


def test_events_hold_the_same_figures(tmp_path) -> None:
    """Read back from the file's records: length, two checksums, and the message between them."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    stage = StageConfig(batch_size=2, crop_px=64)
    with Reporter(tmp_path, 10, events=True) as report:
        report.start(4, {"unet": 10}, DATA, 1)
        report.compiled(4, 1.5, None)
        report.add({"loss": jnp.asarray(3.0)}, stage)
        report.log(5)
        report.describe(4, '{"a": 1}')
        measured = Measured(0.5, {"region": {"loss": 0.25, "psnr_inside": 30.0}}, 0.0)
        sheet = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        report.measured(5, measured, sheet)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    data, events = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    # Whatever an earlier file says of step 5 and later belongs to lost work.
    assert events[1].session_log.status == SessionLog.START and events[1].step == 5
    values = {(e.step, v.tag): v for e in events for v in e.summary.value}
    text = values.pop((4, "configuration"))
    assert text.metadata.plugin_data.plugin_name == "text"
    assert text.tensor.string_val[0] == b'    {"a": 1}\n'
    picture = values.pop((5, "validation")).image
    np.testing.assert_array_equal(read_image(picture.encoded_image_string).pixels, sheet)
    written = {key: value.simple_value for key, value in values.items()}
    assert written[5, "validation/loss"] == 0.5
    assert written[5, "validation/region/psnr_inside"] == 30.0
    assert written[4, "compile_seconds"] == 1.5 and written[5, "loss"] == 3.0
    assert written[5, "step_seconds"] == pytest.approx(report.latest["step_seconds"])
