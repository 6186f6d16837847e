"""Option types and option groups that several subcommands share. Standard library only."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from rcodec_jax.cli import environment

Subparsers = argparse._SubParsersAction

DTYPES = ("float32", "bfloat16")
"""What networks can be asked to compute in."""

IMPORTANCE = {
    "box:X0,Y0,X1,Y1": "for a box in pixels",
    "centre": "for the middle of the picture",
    "faces": "for detected faces (needs OpenCV 4)",
    "gaze:X,Y": "for the surroundings of a point in pixels",
    "saliency": "for an estimate of the salient parts",
}
"""For help: what `regions.sources.SOURCES` has, which imports NumPy."""


def number(low: float, high: float, meaning: str) -> Callable[[str], float]:
    """A parser of finite numbers in low..high; `meaning` names them in errors."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {meaning}, got {text!r}")
        return value

    return parse


def whole(low: int, high: int | None, meaning: str) -> Callable[[str], int]:
    """A parser of whole numbers in low..high (high None: no upper end)."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"expected {meaning}, got {text!r}")
        return value

    return parse


def above_zero(meaning: str) -> Callable[[str], float]:
    """A parser of finite numbers above zero."""
    return number(math.ulp(0.0), 1e9, meaning)


def box(text: str) -> tuple[float, ...]:
    """`x0,y0,x1,y1` in pixels: a corner inside the box and the opposite one just outside it."""
    return _coordinates(text, "x0,y0,x1,y1 (four numbers of pixels)", count=4)


def point(text: str) -> tuple[float, ...]:
    """`x,y` in pixels."""
    return _coordinates(text, "x,y (two numbers of pixels)", count=2)


def _coordinates(text: str, meaning: str, *, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"expected {meaning}, got {text!r}")
    return values


def rates(text: str) -> tuple[float, ...]:
    """Rates in bits per pixel, separated by commas, in ascending order."""
    return _numbers(text, 100, "rates in bits per pixel such as .1,.2,.3")


def qualities(text: str) -> tuple[float, ...]:
    """Qualities above 0, at most 100, separated by commas, in ascending order."""
    return _numbers(text, 100, "qualities up to 100 such as 40,50,60")


def _numbers(text: str, most: float, expected: str) -> tuple[float, ...]:
    try:
        values = sorted({float(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or not all(0 < value <= most for value in values):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return tuple(values)


def mesh(text: str) -> dict[str, int]:
    """`data=8,fsdp=32`: sizes of axes of the mesh, and `slices`; those not named are 1."""
    sizes = {"data": 1, "fsdp": 1, "tensor": 1, "slices": 1}
    for item in text.split(","):
        axis, _, size = item.partition("=")
        if axis.strip() not in sizes or not size.strip().isdecimal() or int(size) < 1:
            raise argparse.ArgumentTypeError(
                f"expected sizes of {', '.join(sizes)} such as data=8,fsdp=32, got {text!r}"
            )
        sizes[axis.strip()] = int(size)
    return sizes


def add_run_options(parser: argparse.ArgumentParser, *, jax: bool = True) -> None:
    """--threads, and --device where JAX is used."""
    parser.add_argument(
        "--threads",
        type=whole(1, 4096, "a whole number of at least 1"),
        metavar="N",
        help="number of threads (default: all cores)",
    )
    if jax:
        parser.add_argument(
            "--device",
            choices=sorted(environment.PLATFORMS),
            help="kind of device to run on (default: chosen by JAX)",
        )


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """--model."""
    parser.add_argument(
        "--model", metavar="BUNDLE", help="model bundle: a folder, or 'shipped' (default: shipped)"
    )


def given(args: argparse.Namespace, *names: str) -> list[str]:
    """Options as words for another command, those that nobody gave left out."""
    values = [(name, getattr(args, name)) for name in names]
    return [
        word for name, value in values if value is not None for word in (f"--{name}", f"{value}")
    ]


def add_set_option(parser: argparse.ArgumentParser, *, what: str, example: str) -> None:
    """--set KEY=VALUE of a recipe."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help=f"change {what}, such as {example} (repeatable)",
    )


def add_split_option(parser: argparse.ArgumentParser) -> None:
    """--split of a source of training data."""
    parser.add_argument(
        "--split", default="train", help="split of a TFDS data set (default: %(default)s)"
    )


def add_dtype_option(parser: argparse.ArgumentParser) -> None:
    """--dtype."""
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="precision of the float networks. bfloat16 halves memory use and is fast on "
        "accelerators; it changes pixels slightly and never the coded symbols "
        "(default: float32)",
    )


def add_seed_option(parser: argparse.ArgumentParser, of: str) -> None:
    """--seed; `of` names the random numbers that are drawn with it."""
    parser.add_argument(
        "--seed",
        type=whole(0, 2**32 - 1, "a whole number in 0..2^32 - 1"),
        default=0,
        metavar="N",
        help=f"seed of {of} (default: %(default)s)",
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def add_force_option(parser: argparse.ArgumentParser) -> None:
    """--force."""
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def add_steps_options(parser: argparse.ArgumentParser) -> None:
    """--steps and --trajectory of the decoder."""
    parser.add_argument(
        "--steps",
        type=whole(1, 50, "a whole number in 1..50"),
        metavar="N",
        help="denoising steps, 1..50 (default: the model's own number, 1 for the shipped model). "
        "More steps are for models that were trained for them. They cost PSNR with the shipped "
        "model: 23.48, 23.31, 23.19 and 23.06 dB for 1, 2, 4 and 10 steps on one Kodak picture",
    )
    parser.add_argument(
        "--trajectory",
        choices=("proportional", "synchronous"),
        default="proportional",
        help="how the denoising steps are distributed over regions of different quality "
        "(default: %(default)s)",
    )


TUNES = ("mse", "balanced", "perceptual")


def add_effort_options(parser: argparse.ArgumentParser, *, default: int | None = None) -> None:
    """--effort and --tune of the encoder; `default` is the effort's, None the encoder's own."""
    usual = str(default)
    if default is None:
        usual = (
            "3; 1 above 4 megapixels, and for a bundle without training.safetensors, which "
            "'rcodec freeze' writes"
        )
    parser.add_argument(
        "--effort",
        type=whole(1, 9, "a whole number in 1..9"),
        default=default,
        metavar="N",
        help="encoding effort, 1..9. 1 is fastest; higher values refine the file for this picture, "
        "which makes it smaller at the same quality. Decoding time is the same "
        f"(default: {usual})",
    )
    parser.add_argument(
        "--tune",
        choices=TUNES,
        default="balanced",
        help="target of the refinement at effort 2 and above: mse for PSNR, perceptual for visual "
        "quality, balanced for both (default: %(default)s)",
    )


def add_resampling_option(parser: argparse.ArgumentParser) -> None:
    """--resampling of the encoder."""
    parser.add_argument(
        "--resampling",
        type=whole(1, 2, "1 or 2"),
        metavar="N",
        help="1 codes the picture at full size, 2 at half its width and height. By default the "
        "encoder chooses: with a budget it tries both on pictures above 4 megapixels without a "
        "region, and it uses 2 where 1 cannot meet the budget; otherwise it uses 1",
    )


def add_rate_options(parser: argparse.ArgumentParser) -> None:
    """--quality, --bpp and --bytes, which exclude one another."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--quality",
        type=number(0, 100, "a number in 0..100"),
        metavar="Q",
        help="quality, 0..100; with a region of interest, that of the region (default: 50)",
    )
    group.add_argument(
        "--bpp",
        type=above_zero("a number of bits per pixel above 0"),
        metavar="R",
        help="maximum file size in bits per pixel",
    )
    group.add_argument(
        "--bytes",
        type=whole(1, None, "a whole number of bytes above 0"),
        metavar="N",
        dest="size_bytes",
        help="maximum file size in bytes",
    )


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """How pictures are read: --background, --allow-truncated."""
    parser.add_argument(
        "--background",
        default="white",
        metavar="COLOUR",
        help="colour behind transparent pixels: a name or #rrggbb (default: white)",
    )
    parser.add_argument(
        "--allow-truncated",
        action="store_true",
        help="read the intact part of a truncated or damaged JPEG, PNG, BMP or PPM",
    )


def add_region_options(parser: argparse.ArgumentParser) -> None:
    """Where the bits should go: --roi, --roi-id, --box, --gaze, --faces, --saliency and others."""
    group = parser.add_argument_group(
        "region of interest (several regions are combined by their maximum)"
    )
    group.add_argument("--roi", metavar="MASK", help="mask picture; bright pixels are important")
    group.add_argument(
        "--roi-id",
        type=whole(0, None, "a whole number of at least 0"),
        metavar="K",
        help="use the pixels of value K in the mask, a label map",
    )
    group.add_argument(
        "--box",
        type=box,
        action="append",
        default=[],
        metavar="X0,Y0,X1,Y1",
        dest="boxes",
        help="box in pixels; X1,Y1 is excluded (repeatable)",
    )
    group.add_argument("--gaze", type=point, metavar="X,Y", help="gaze point in pixels")
    group.add_argument(
        "--faces", action="store_true", help="detect faces, best in frontal view (needs OpenCV 4)"
    )
    group.add_argument(
        "--saliency", action="store_true", help="estimate the salient parts of the picture"
    )
    group.add_argument(
        "--importance",
        action="append",
        default=[],
        metavar="NAME[:ARGUMENT]",
        help="importance map by name (repeatable): "
        + "; ".join(f"{name} {text}" for name, text in IMPORTANCE.items()),
    )
    group.add_argument(
        "--show-importance",
        metavar="PNG",
        help="write the importance map as a mask picture, which --roi can read",
    )
    group.add_argument(
        "--roi-strength",
        type=number(0, 1, "a number in 0..1"),
        metavar="S",
        help="how much the region is favoured. 0: not at all; 0.5: as far as it pays off in this "
        "picture; 1: as far as possible, at the expense of the background (default: 0.5)",
    )
