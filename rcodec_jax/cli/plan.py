"""`rcodec plan`: what a stage would need of a pod, found out without one."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import arguments, environment, output
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    from rcodec_jax.config.train import Config
    from rcodec_jax.train.plan.planning import Plan

DOES_NOT_FIT = 3
"""Exit code of a plan that needs more memory than a chip has."""


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "plan",
        help="predict memory, collectives and speed of a training step on a pod",
        description="Compiles the training step of a stage for a pod, on any CPU machine, and "
        "reports its memory per chip and an upper bound on its speed. Nothing is run. For a large "
        "model this takes minutes and gigabytes of memory. Exit code 3: the step does not fit.",
    )
    parser.add_argument("config", metavar="CONFIG", help="recipe: a file, or a name such as paper")
    parser.add_argument(
        "--topology",
        required=True,
        metavar="NAME",
        help="generation and shape of a TPU slice, such as v5e:16x16, v5p:4x4x4 or v6e:16x16, or "
        "h100:8 for a GPU host",
    )
    parser.add_argument(
        "--mesh",
        type=arguments.mesh,
        metavar="AXIS=SIZE,...",
        help="devices along each axis, such as data=8,fsdp=32, with slices=N for N slices or hosts "
        "(default: that of the recipe)",
    )
    parser.add_argument(
        "--stage",
        default="-1",
        metavar="KIND",
        help="number of the stage, or its kind for the last one of that kind (default: the last)",
    )
    parser.add_argument(
        "--batch",
        type=arguments.whole(1, None, "a whole number of at least 1"),
        metavar="N",
        help="pictures per step over all chips (default: that of the stage)",
    )
    arguments.add_set_option(parser, what="a value of the recipe", example="train.remat=full")
    arguments.add_json_option(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    environment.set_device("cpu")
    from rcodec_jax.config import apply_overrides, load_config
    from rcodec_jax.config.train import Config, MeshConfig

    recipe = load_config(args.config, Config)
    stage = stage_index(recipe, args.stage)
    overrides = list(args.overrides)
    if args.batch is not None:  # at once with the others, which it has to agree with
        overrides.append(f"train.stages.{stage}.batch_size={args.batch}")
    config = apply_overrides(recipe, overrides)

    from rcodec_jax.train.plan.planning import make_plan

    plan = make_plan(
        config,
        stage,
        topology=args.topology,
        mesh=config.train.mesh if args.mesh is None else MeshConfig(**args.mesh),
    )
    output.report(figures(plan), in_words(plan), as_json=args.json, stream=sys.stdout)
    return 0 if plan.fits else DOES_NOT_FIT


def stage_index(config: Config, name: str) -> int:
    """Index of a stage by number, or of the last one of a kind.

    Raises:
      UsageError: there is none.
    """
    kinds = [stage.kind for stage in config.train.stages]
    if name in kinds:
        return len(kinds) - 1 - kinds[::-1].index(name)
    try:
        return range(len(kinds))[int(name)]
    except (ValueError, IndexError):
        raise UsageError(
            f"--stage: expected one of {', '.join(dict.fromkeys(kinds))} or a number in "
            f"0..{len(kinds) - 1}, got {name!r}"
        ) from None


def figures(plan: Plan) -> dict[str, Any]:
    """The plan as plain data."""
    found = dataclasses.asdict(plan)
    if plan.bound is not None:
        found["bound"] |= {"step": plan.bound.step, "limit": plan.bound.limit}
        found["bound"] |= {"without_overlap": plan.bound.without_overlap}
        found["images_per_second"] = plan.images_per_second
        found["utilisation"] = plan.utilisation
    return found | {"fits": plan.fits}


def in_words(plan: Plan) -> str:
    """The plan as tables and a verdict."""
    axes = ", ".join(f"{axis} {size}" for axis, size in plan.mesh.items())
    head = (
        f"stage {plan.stage} on {plan.topology}, {plan.chips} x {plan.chip.name}; mesh {axes}; "
        f"batch {plan.batch_size} of {plan.crop_px} px, {plan.input}; "
        f"compiled in {plan.memory.seconds:.0f} s"
    )
    lines = [head, _memory(plan), *_speed(plan)]
    if plan.without:
        lines.append(f"Not included: {', '.join(plan.without)}.")
    needed, there = plan.memory.total_bytes, plan.chip.memory_bytes
    verdict = "fits" if plan.fits else "DOES NOT FIT"
    lines.append(
        f"{verdict}: {output.size_in_words(needed)} of {output.size_in_words(there)} a chip "
        f"({100 * needed / there:.0f} %)"
    )
    return "\n\n".join(lines)


def _memory(plan: Plan) -> str:
    from rcodec_jax.scale import Compiled

    rows = [
        ("parameters", plan.parameter_bytes),
        ("average", plan.average_bytes),
        ("optimiser", plan.optimizer_bytes),
    ]
    memory = plan.memory
    if isinstance(memory, Compiled):
        state = plan.parameter_bytes + plan.average_bytes + plan.optimizer_bytes
        kept = memory.total_bytes - memory.temporary_bytes - memory.program_bytes
        rows += [
            ("batch, statistics, padding", max(kept - state, 0)),
            ("activations, gradients, gathered parameters", memory.temporary_bytes),
            ("program", memory.program_bytes),
        ]
    rows.append(("all", memory.total_bytes))
    return output.table(("memory of a chip", ""), [(n, output.size_in_words(b)) for n, b in rows])


def _speed(plan: Plan) -> list[str]:
    from rcodec_jax.scale import Compiled

    flops = (
        f"FLOPs per step: {plan.model_flops / 1e12:,.4g} TFLOP; {plan.flops / 1e12:,.4g} with "
        "recomputation"
    )
    if plan.bound is None or not isinstance(plan.memory, Compiled):
        return [flops]
    collectives = output.table(
        ("collectives", "chips", "slices", "count", "of arrays", "sent by a chip"),
        [
            (
                row.kind,
                str(row.group),
                str(row.slices),
                str(row.count),
                output.size_in_words(row.array_bytes),
                output.size_in_words(row.sent_bytes() + row.sent_between_slices_bytes()),
            )
            for row in plan.memory.collectives
        ],
    )
    bound = plan.bound
    read = "traffic not reported by the compiler"
    if plan.traffic_bytes:
        read = output.size_in_words(plan.traffic_bytes)
        if plan.accumulate > 1:
            read += f", at most, in {plan.accumulate} micro-batches"
    times = output.table(
        ("time of a chip at its peak for", "ms"),
        [
            (f"compute ({plan.flops / plan.chips / 1e12:,.4g} TFLOP)", _ms(bound.compute)),
            (f"its memory ({read})", _ms(bound.memory)),
            ("links to other chips", _ms(bound.links)),
            ("network to other slices", _ms(bound.network)),
        ],
    )
    assert plan.images_per_second is not None and plan.utilisation is not None
    best = (
        f"At best {_ms(bound.step)} ms a step (bound by {bound.limit}; "
        f"{_ms(bound.without_overlap)} ms if communication overlaps with nothing): "
        f"{plan.images_per_second:,.0f} pictures a second, "
        f"{100 * plan.utilisation:.0f} % of the peak"
    )
    return [flops, collectives, times, best]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"
