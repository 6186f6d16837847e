"""Option types and option groups that several subcommands share. Standard library only."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rcodec_jax.cli import environment
from rcodec_jax.errors import UsageError

Subparsers = argparse._SubParsersAction

DTYPES = ("float32", "bfloat16")
"""What networks can be asked to compute in."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UsageErrors, so that they too take one line.

    Options may stand anywhere among paths, and coordinates may begin with a minus.
    """

    _is_within = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        words = _with_values(sys.argv[1:] if args is None else list(args))
        takes_many = any(not a.option_strings and a.nargs in ("*", "+") for a in self._actions)
        if self._is_within or not takes_many:
            return super().parse_known_args(words, namespace)
        # argparse gives the first run of paths to all positional arguments at once; this way it
        # takes the options first. It comes back here for either step.
        self._is_within = True
        try:
            return self.parse_known_intermixed_args(words, namespace)
        finally:
            self._is_within = False

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see '{self.prog} --help')")


def _with_values(words: list[str]) -> list[str]:
    """Joins an option and coordinates that begin with a minus, which look like an option."""
    out: list[str] = []
    for word in words:
        if re.fullmatch(r"-[\d.][^,]*,.*", word) and out and re.fullmatch("--[a-z-]+", out[-1]):
            out[-1] += f"={word}"
        else:
            out.append(word)
    return out


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
        help="threads to use (default: all cores)",
    )
    if jax:
        parser.add_argument(
            "--device",
            choices=sorted(environment.PLATFORMS),
            help="kind of device to run on (default: JAX's own choice)",
        )


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """--model."""
    parser.add_argument(
        "--model", metavar="BUNDLE", help="bundle folder to use, or shipped (the default)"
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
    parser.add_argument("--split", default="train", help="of a TFDS data set")


def add_dtype_option(parser: argparse.ArgumentParser) -> None:
    """--dtype."""
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="what the float networks compute in; bfloat16 halves memory and is fast on "
        "accelerators, changes pixels a little and symbols never (default: float32)",
    )


def add_seed_option(parser: argparse.ArgumentParser, of: str) -> None:
    """--seed; `of` is what is drawn by it."""
    parser.add_argument(
        "--seed",
        type=whole(0, 2**32 - 1, "a whole number in 0..2^32 - 1"),
        default=0,
        metavar="N",
        help=f"of {of} (default: %(default)s)",
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="report the figures as JSON")


def add_force_option(parser: argparse.ArgumentParser) -> None:
    """--force."""
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def add_steps_options(parser: argparse.ArgumentParser) -> None:
    """--steps and --trajectory of the decoder."""
    parser.add_argument(
        "--steps",
        type=whole(1, 50, "a whole number in 1..50"),
        metavar="N",
        help="denoising steps, 1..50: few are faithful, more look more natural "
        "(default: the model's own choice)",
    )
    parser.add_argument(
        "--trajectory",
        choices=("proportional", "synchronous"),
        default="proportional",
        help="how the steps are shared out between regions (default: %(default)s)",
    )


TUNES = ("mse", "balanced", "perceptual")


def add_effort_options(parser: argparse.ArgumentParser, *, default: int | None = None) -> None:
    """--effort and --tune of the encoder; `default` is the effort's, None the encoder's own."""
    usual = "3, or 1 where the model has not what it takes" if default is None else str(default)
    parser.add_argument(
        "--effort",
        type=whole(1, 9, "a whole number in 1..9"),
        default=default,
        metavar="N",
        help="time to fit the file to this picture, 1..9: 1 is fast, more makes files smaller at "
        f"the same quality; decoding takes no longer (default: {usual})",
    )
    parser.add_argument(
        "--tune",
        choices=TUNES,
        default="balanced",
        help="what effort beyond 1 is spent on: squared error (PSNR), how pictures look, or both "
        "(default: %(default)s)",
    )


def add_resampling_option(parser: argparse.ArgumentParser) -> None:
    """--resampling of the encoder."""
    parser.add_argument(
        "--resampling",
        type=whole(1, 2, "1 or 2"),
        metavar="N",
        help="1 codes all pixels, 2 the picture at half its width and height (default: 2 for a "
        "budget that is spent better so, which is tried on pictures of more than 4 megapixels)",
    )


def add_rate_options(parser: argparse.ArgumentParser) -> None:
    """--quality, --bpp and --bytes, which exclude one another."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--quality",
        type=number(0, 100, "a number in 0..100"),
        metavar="Q",
        help="quality in 0..100, of the region where there is one (default: 50)",
    )
    group.add_argument(
        "--bpp",
        type=above_zero("a number of bits per pixel above 0"),
        metavar="R",
        help="largest size of the file in bits per pixel",
    )
    group.add_argument(
        "--bytes",
        type=whole(1, None, "a whole number of bytes above 0"),
        metavar="N",
        dest="size_bytes",
        help="largest size of the file in bytes",
    )


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """How pictures are read: --background, --allow-truncated."""
    parser.add_argument(
        "--background",
        default="white",
        metavar="COLOUR",
        help="what shows where the picture is transparent: a name or #rrggbb (default: white)",
    )
    parser.add_argument(
        "--allow-truncated",
        action="store_true",
        help="read what is there of a cut or damaged JPEG, PNG, BMP or PPM",
    )


def add_region_options(parser: argparse.ArgumentParser) -> None:
    """Where the bits should go: --roi, --roi-id, --box, --gaze, --faces, --saliency and others."""
    group = parser.add_argument_group("region of interest (several are joined by their maximum)")
    group.add_argument("--roi", metavar="MASK", help="mask picture: bright is important")
    group.add_argument(
        "--roi-id",
        type=whole(0, None, "a whole number of at least 0"),
        metavar="K",
        help="use pixels of value K of the mask (a picture of labels)",
    )
    group.add_argument(
        "--box",
        type=box,
        action="append",
        default=[],
        metavar="X0,Y0,X1,Y1",
        dest="boxes",
        help="box in pixels, the last corner outside it (repeatable)",
    )
    group.add_argument("--gaze", type=point, metavar="X,Y", help="point looked at, in pixels")
    group.add_argument(
        "--faces", action="store_true", help="find faces, those from the front best (OpenCV 4)"
    )
    group.add_argument(
        "--saliency", action="store_true", help="guess what stands out in the picture"
    )
    group.add_argument(
        "--importance",
        action="append",
        default=[],
        metavar="NAME[:ARGUMENT]",
        help="any source by its name, such as centre or gaze:120,80 (repeatable; those of "
        "rcodec_jax/regions/sources)",
    )
    group.add_argument(
        "--show-importance",
        metavar="PNG",
        help="write what was found important as a mask, such as --roi takes",
    )
    group.add_argument(
        "--roi-strength",
        type=number(0, 1, "a number in 0..1"),
        metavar="S",
        help="0: no difference, 0.5: as much as is worth it in this picture, 1: the largest "
        "difference, the background paying most (default: 0.5)",
    )
