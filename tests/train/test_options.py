"""Runs with every option of large ones: the same bits twice, and stopped and resumed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rcodec_jax.config.train import DataConfig, SourceConfig
from rcodec_jax.errors import RcodecError
from rcodec_jax.model.trained import load_trained
from rcodec_jax.train import run

TIMES = {"step_seconds", "pixels_per_second", "data_share", "mfu", "unix_seconds"}


@pytest.fixture(scope="module")
def config(pictures, tools):
    """bfloat16, adafactor, micro-batches, no average, a mixture of sources, frozen tensors."""
    config = tools.config(
        "codec",
        steps=4,
        optimizer="adafactor",
        weight_decay=0.01,
        ema_decay=None,
        dtype="bfloat16",
        remat="dots",
        tensorboard=True,
        profile=(2, 1),
        peak_flops=1e12,
        data=DataConfig(
            sources=(SourceConfig(str(pictures), 1.0), SourceConfig(str(pictures / "."), 2.0))
        ),
    )
    stage = config.train.stages[0]
    loss = dataclasses.replace(stage.loss, min_snr=5.0)
    stage = dataclasses.replace(stage, accumulate=2, freeze=("^unet/conv_in/",), loss=loss)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, stages=(stage,)))


@pytest.fixture(scope="module")
def whole(config, tools, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    assert run(config, workdir=workdir) == 4
    return workdir


@pytest.mark.slow
def test_two_runs_and_a_resumed_one_have_the_same_bits(config, whole, tools, tmp_path) -> None:
    expected = tools.state(config, whole)
    again, parts = tmp_path / "again", tmp_path / "parts"
    assert run(config, workdir=again) == 4
    for steps in (2, 4):
        assert run(tools.stop_after(config, steps), workdir=parts) == steps
    for workdir in (again, parts):
        found = tools.state(config, workdir)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    logs = [
        [{k: v for k, v in row.items() if k not in TIMES} for row in tools.metrics(folder)]
        for folder in (whole, again, parts)
    ]
    assert logs[0] == logs[1] == logs[2] and len(logs[0]) == 4


def test_what_the_options_leave_behind(config, whole, tools) -> None:
    state = tools.state(config, whole)
    assert not any(name.startswith(".ema") for name in state)
    assert all(value.dtype in (np.float32, np.int32) for value in state.values())
    assert not any("encoder" in name for name in state if name.startswith(".opt"))
    assert list((whole / "profile").rglob("*.xplane.pb"))
    assert list(whole.glob("events.out.tfevents.*"))
    rows = tools.metrics(whole)
    assert all(0 < row["mfu"] < 1 and 0 <= row["data_share"] < 1 for row in rows)
    # Without an average the parameters themselves are what gets frozen.
    params = load_trained(whole).params
    kernel = params["unet"]["conv_in"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, state[".params['unet']['conv_in']['conv']['kernel']"])


@pytest.mark.slow
def test_a_run_that_leaves_the_numbers_says_where(pictures, tools, tmp_path, capsys) -> None:
    """A learning rate that throws the parameters out of range: step 1 is fine, step 2 is not."""
    config = tools.config("codec", steps=4, save_every=1, log_every=3)  # saved, and not logged
    stage = dataclasses.replace(config.train.stages[0], learning_rate=1e37, warmup=1)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, stages=(stage,)))
    with pytest.raises(RcodecError, match="step 2 is not finite: first in the loss's term"):
        run(config, data=pictures, workdir=tmp_path)
    warned = "warning: the first stage trains the codec on a random autoencoder's latents"
    assert capsys.readouterr().err.count(warned) == 1
    state = tools.state(config, tmp_path)  # the last good one
    assert state[".step"] == 1 and all(np.isfinite(value).all() for value in state.values())
