"""`rcodec plan` and `train --describe` from the command line."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from rcodec_jax.cli.main import main

CONFIGS = Path(__file__).parents[2] / "configs"
NANO = str(CONFIGS / "nano.py")


@pytest.fixture
def planned(monkeypatch):
    """Stands in for the compilation: a plan of known figures, and what it was asked for."""
    from rcodec_jax import scale
    from rcodec_jax.scale.chips import CHIPS
    from rcodec_jax.train.plan import planning

    compiled = scale.Compiled(
        argument_bytes=4 * 10**9,
        temporary_bytes=9 * 10**9,
        program_bytes=10**9,
        total_bytes=14 * 10**9,
        traffic_bytes=40.95e9,
        collectives=(scale.Collective("all-gather", 4, 1, 7, 2 * 10**9),),
        seconds=12.0,
    )
    plan = planning.Plan(
        topology="v5e:2x2",
        chip=CHIPS["v5e"],
        chips=4,
        mesh={"data": 1, "fsdp": 4, "tensor": 1},
        stage="joint",
        input="pixels",
        crop_px=64,
        batch_size=8,
        accumulate=2,
        without=("lpips",),
        parameter_bytes=10**9,
        average_bytes=10**9,
        optimizer_bytes=2 * 10**9,
        memory=compiled,
        model_flops=3 * 197 * 10**12,
        flops=4 * 197 * 10**12,
        traffic_bytes=40.95e9,
        bound=scale.roofline(
            CHIPS["v5e"], flops=197e12, traffic_bytes=40.95e9, collectives=compiled.collectives
        ),
    )
    asked: list[Any] = [plan]

    def make_plan(*args: Any, **options: Any) -> Any:
        asked.append((args, options))
        return asked[0]

    monkeypatch.setattr(planning, "make_plan", make_plan)
    return asked


def test_a_plan_in_words_and_figures(planned, capsys):
    command = ["plan", NANO, "--topology", "v5e:2x2", "--mesh", "fsdp=4", "--batch", "8"]
    assert main(command) == 0
    text = capsys.readouterr().out
    for words in (
        "40.95 GB, at most, in 2 micro-batches",
        "4 x TPU v5e",
        "pixels",
        "all-gather",
        "1.50 GB",
        "bound by compute",
        "75 %",
    ):
        assert words in text, words
    assert text.rstrip().endswith("fits: 14.00 GB of 16.00 GB a chip (88 %)")
    (config, index), options = planned[1]
    assert (config.name, index, options["topology"]) == ("nano", 0, "v5e:2x2")
    assert config.train.stages[0].batch_size == 8
    assert (options["mesh"].data, options["mesh"].fsdp, options["mesh"].slices) == (1, 4, 1)
    assert main([*command, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["fits"] and figures["images_per_second"] == pytest.approx(8.0)
    assert figures["utilisation"] == pytest.approx(0.75)
    assert figures["bound"]["limit"] == "compute" and figures["memory"]["collectives"]


def test_what_does_not_fit_has_an_exit_code(planned, capsys):
    from rcodec_jax import scale

    plan = planned[0]
    memory = dataclasses.replace(plan.memory, total_bytes=17 * 10**9)
    planned[0] = dataclasses.replace(plan, memory=memory)
    assert main(["plan", NANO, "--topology", "v5e:2x2"]) == 3
    assert "DOES NOT FIT: 17.00 GB of 16.00 GB" in capsys.readouterr().out
    # what the compiler itself refused has no bound
    planned[0] = dataclasses.replace(
        plan, memory=scale.TooLarge(25 * 10**9, 16 * 10**9, 1.0), bound=None
    )
    assert main(["plan", NANO, "--topology", "v5e:2x2", "--json"]) == 3
    figures = json.loads(capsys.readouterr().out)
    assert not figures["fits"] and figures["bound"] is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--topology", "v5e:2x2", "--stage", "codec"], "expected one of joint"),
        (["--topology", "v5e:2x2", "--stage", "3"], "--stage"),
        (["--topology", "v5e:2x2", "--mesh", "data=2,model=2"], "data=2,model=2"),
        (["--topology", "v5e:2x2", "--mesh", "data=0"], "data=0"),
        (["--topology", "v9:2x2"], "v9:2x2"),
        ([], "--topology"),
    ],
)
def test_refusals_take_one_line(words, expected, capsys):
    assert main(["plan", NANO, *words]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "override"),
    [
        (["train", NANO, "--describe"], "train.stages.0.crop_px=72"),
        (["train", NANO, "--describe"], "model.hyper.classes=15"),
        (["plan", NANO, "--topology", "v5e:2x2", "--batch", "6"], "train.stages.0.accumulate=4"),
    ],
)
def test_settings_of_no_run_take_one_line(command, override, capsys) -> None:
    assert main([*command, "--set", override]) == 2
    said = capsys.readouterr().err
    group = override.rpartition(".")[0]
    assert said.startswith(f"rcodec: error: {group}.") and said.count("\n") == 1


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_libtpu_is_asked_for_in_one_line(capsys):
    assert main(["plan", NANO, "--topology", "v5e:2x2"]) == 2
    error = capsys.readouterr().err
    assert "extra 'tpu'" in error and error.count("\n") == 1


def test_describe_in_words(capsys):
    assert main(["train", NANO, "--describe", "--mesh", "data=8,fsdp=4"]) == 0
    text = capsys.readouterr().out
    told = "fsdp 4, tensor 1: 32 devices", "hyper_synthesis", "GFLOP", "FLOP in total"
    for words in told:
        assert words in text, words


def test_options_of_describe_alone(capsys):
    assert main(["train", NANO, "--json"]) == 2
    assert "--json: only valid with --describe" in capsys.readouterr().err


def test_a_batch_goes_with_the_other_changes(planned, capsys) -> None:
    """6 rows in 3 parts agree, though neither does with the recipe's own."""
    words = ["plan", NANO, "--topology", "v5e:2x2", "--batch", "6"]
    assert main([*words, "--set", "train.stages.0.accumulate=3", "--json"]) == 0
