"""Schedule, nodes and trajectories against known figures."""

from __future__ import annotations

import functools
from typing import get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.config.model import ModelConfig
from rcodec_jax.diffusion.schedule import (
    BETAS,
    STEPS,
    NoiseSchedule,
    alpha_bar,
    node_table,
    trajectory,
)
from rcodec_jax.entropy import GaussianTables, dither_values, sigma_of_level

abar = functools.partial(alpha_bar, schedule="scaled_linear")


def test_schedule_is_that_of_stable_diffusion() -> None:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, STEPS) ** 2
    np.testing.assert_allclose(abar(np.arange(STEPS)), np.cumprod(1 - betas), rtol=1e-12)
    assert abar(0) == pytest.approx(0.99915, abs=1e-9)
    log_snr = [np.log(a / (1 - a)) for a in (abar(300), abar(300.5), abar(301))]
    assert log_snr[1] == pytest.approx((log_snr[0] + log_snr[2]) / 2, rel=1e-12)


def test_ddpm_and_cosine_by_their_formulas() -> None:
    """Ho et al., NeurIPS 2020, section 4; Nichol and Dhariwal, ICML 2021, equations 16 and 17."""
    t = np.arange(STEPS)
    linear = np.cumprod(1 - np.linspace(1e-4, 0.02, STEPS))
    np.testing.assert_allclose(alpha_bar(t, "linear"), linear, rtol=1e-9)
    f = np.cos(((t + 1) / STEPS + 0.008) / 1.008 * np.pi / 2) ** 2
    cosine = f / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    # the last betas are capped
    np.testing.assert_allclose(alpha_bar(t, "squaredcos_cap_v2")[:990], cosine[:990], rtol=1e-9)


def test_a_model_may_have_any_schedule_and_no_other() -> None:
    (hint,) = {get_type_hints(ModelConfig)["noise_schedule"]}
    assert set(get_args(hint)) == set(BETAS) == set(get_args(NoiseSchedule))


@pytest.mark.parametrize("schedule", BETAS)
def test_nodes_are_uniform_in_log2_scale_from_end_to_end(schedule) -> None:
    table = node_table(schedule)
    assert all(column.shape == (1024,) and column.dtype == np.float64 for column in table)
    assert table.t[0] == 0 and table.t[-1] == pytest.approx(999)
    assert np.all(np.diff(table.t) > 0)
    steps = np.diff(table.log2_scale)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
    assert -0.022 < steps[0] < -0.006  # "a rate step of about 1 % each"
    np.testing.assert_allclose(alpha_bar(table.t, schedule), table.alpha_bar, rtol=1e-6)
    np.testing.assert_allclose(table.delta, np.sqrt(12 * (1 - table.alpha_bar)), rtol=1e-11)
    scale = np.sqrt(table.alpha_bar) / table.delta
    np.testing.assert_allclose(table.log2_scale, np.log2(scale), rtol=1e-12)


SANITY = {50: (0.78, 0.152), 100: (1.19, 0.117), 200: (1.98, 0.079), 300: (2.89, 0.056),
          400: (4.03, 0.040), 500: (5.61, 0.029), 600: (7.91, 0.021)}  # fmt: skip


@pytest.fixture(scope="module")
def tables() -> GaussianTables:
    return GaussianTables.build()


@pytest.mark.parametrize("t", SANITY)
def test_rate_of_gaussian_cells(t: int, tables: GaussianTables) -> None:
    """t -> 1/s and bits per pixel of a unit-variance latent of 4 channels, from integer tables."""
    signal = abar(t)
    scale = float(np.sqrt(signal / (12 * (1 - signal))))
    inverse, bpp = SANITY[t]
    assert 1 / scale == pytest.approx(inverse, abs=0.01)
    rng = np.random.default_rng(t)
    n = 400_000
    level = int(np.abs(np.log(sigma_of_level(np.arange(64)) / scale)).argmin())
    dither = rng.integers(0, 64, n).astype(np.uint8)
    j = np.floor(scale * rng.normal(size=n) + dither_values(dither) + 0.5).astype(np.int64)
    bits = tables.bits(np.full(n, level, np.uint8), dither, j).mean()
    assert bits * 4 / 64 == pytest.approx(bpp, rel=0.02, abs=0.0006)


@given(
    st.lists(st.floats(0, 999), min_size=1, max_size=16),
    st.integers(1, 50),
    st.sampled_from(["proportional", "synchronous"]),
)
def test_trajectories_start_at_the_levels_and_fall(levels: list[float], n: int, kind: str) -> None:
    t = np.array([levels])
    path = trajectory(t, n, kind)
    assert path.shape == (n, 1, len(levels))
    np.testing.assert_array_equal(path[0], t)
    assert np.all(np.diff(path, axis=0) <= 0) and np.all(path >= 0)
    # a picture with one timestep has one trajectory, whatever its name
    alike = np.full((1, 3), t[0, 0])
    np.testing.assert_allclose(
        trajectory(alike, n, "proportional"), trajectory(alike, n, "synchronous")
    )


def test_trajectories_by_hand() -> None:
    t = np.array([100.0, 800.0])
    np.testing.assert_allclose(
        trajectory(t, 4, "proportional"), [[100, 800], [75, 600], [50, 400], [25, 200]]
    )
    np.testing.assert_allclose(
        trajectory(t, 4, "synchronous"), [[100, 800], [100, 600], [100, 400], [100, 200]]
    )
    with pytest.raises(ValueError, match="at least 1, got 0"):
        trajectory(t, 0)
    with pytest.raises(ValueError, match="'proportional' or 'synchronous', got 'zigzag'"):
        trajectory(t, 2, "zigzag")  # type: ignore[arg-type]
