"""`rcodec verify`: write a set of files with the hashes of their symbols; check one elsewhere."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from rcodec_jax.bitstream import Header
    from rcodec_jax.codec.verify import Check, Manifest
    from rcodec_jax.entropy import IntegerPart

MISMATCH = 1

MADE_PX = ((1, 1), (37, 53), (200, 304), (512, 768))
"""Height and width of the made pictures of a set."""


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "verify",
        help="check that files decode alike on two devices",
        description="Decodes the files of a set that was written on another device. Compares the "
        "hashes of the symbols, which must be equal, and the pictures, within a tolerance. --write "
        "makes such a set. Exit code 1: a difference was found.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder of the set")
    parser.add_argument(
        "pictures",
        nargs="*",
        metavar="PICTURE",
        help="with --write: pictures to encode (default: synthetic ones, and photos of "
        "scikit-image if it is installed)",
    )
    parser.add_argument("--write", action="store_true", help="write a set instead of checking one")
    parser.add_argument(
        "--symbols-only",
        action="store_true",
        help="do not compare pictures; needs neither JAX nor an accelerator",
    )
    arguments.add_model_option(parser)
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    if args.write:
        if args.symbols_only:
            raise UsageError("--symbols-only: not valid with --write")
        return _write(args)
    if args.pictures:
        raise UsageError(f"{args.pictures[0]}: pictures are only valid with --write")
    return _check(args)


def _write(args: argparse.Namespace) -> int:
    folder = files.check_folder(args.folder, force=args.force)

    import rcodec_jax
    from rcodec_jax.codec import verify

    cases = verify.make_cases(_given(args.pictures) if args.pictures else _default())
    codec = rcodec_jax.load(args.model)
    with output.Progress("verify") as bar:
        manifest = verify.write_set(folder, codec, cases, _here(jax=True), progress=bar.update)
    sizes = {name: (folder / name).stat().st_size for name in manifest.files}
    figures = {
        "folder": str(folder),
        "integer_digest": manifest.integer_digest,
        "float_digest": manifest.float_digest,
        "made_with": manifest.made_with,
        "files": sizes,
    }
    words = (
        f"{folder}: {output.counted(len(sizes), 'file')}, {sum(sizes.values())} bytes, made on "
        f"{manifest.made_with['device']}. Check them on another device with 'rcodec verify'"
    )
    output.report(figures, words, as_json=args.json, stream=sys.stdout)
    return 0


def _check(args: argparse.Namespace) -> int:
    from rcodec_jax.codec import verify

    manifest = verify.read_manifest(args.folder)
    start = time.perf_counter()
    checks = _check_symbols(manifest, args.model)
    seconds = time.perf_counter() - start
    if not args.symbols_only:
        checks = _check_pictures(manifest, checks, args.model)
    wrong = [check for check in checks if check.problems]
    here = _here(jax=not args.symbols_only)
    differences = [check.picture for check in checks if check.picture]
    figures = {
        "folder": str(manifest.folder),
        "agrees": not wrong,
        "files": [
            {
                "name": check.name,
                "problems": list(check.problems),
                "largest_difference": check.picture and check.picture.largest,
                "mean_difference": check.picture and check.picture.mean,
                "differing_share": check.picture and check.picture.share,
            }
            for check in checks
        ],
        "symbol_seconds": seconds,
        "largest_difference": max((d.largest for d in differences), default=None),
        "differing_share": max((d.share for d in differences), default=None),
        "tolerance": {"difference": verify.MAX_DIFFERENCE, "share": verify.MAX_SHARE},
        "made_with": manifest.made_with,
        "checked_with": here,
    }
    output.report(figures, _in_words(figures, checks), as_json=args.json, stream=sys.stdout)
    for check in wrong:
        output.message("mismatch", f"{check.name}: {'; '.join(check.problems)}")
    return MISMATCH if wrong else 0


def _check_symbols(manifest: Manifest, model: str | None) -> list[Check]:
    from rcodec_jax.codec import verify
    from rcodec_jax.codec.symbols import find_integer_part

    parts: dict[bytes, IntegerPart] = {}

    def find_part(header: Header) -> IntegerPart:
        digest = header.integer_digest
        if digest not in parts:
            parts[digest] = find_integer_part(header, model)
        return parts[digest]

    return [verify.check_symbols(manifest, name, find_part) for name in manifest.files]


def _check_pictures(manifest: Manifest, checks: list[Check], model: str | None) -> list[Check]:
    """Adds the pictures of files whose symbols agree; the others have nothing to compare."""
    import rcodec_jax
    from rcodec_jax.codec import verify

    codec = rcodec_jax.load(model)
    digests = (codec.card["integer_digest"], codec.card["float_digest"])
    made_by = (manifest.integer_digest, manifest.float_digest)
    if digests != made_by:
        raise UsageError(
            f"pictures: expected the model {made_by[0]} with networks {made_by[1]}, got "
            f"{digests[0]} with {digests[1]}; set its bundle with --model, or use "
            "--symbols-only"
        )
    out = []
    for check in checks:
        if not check.problems:
            check = verify.check_picture(manifest, check.name, codec.decode)
        out.append(check)
    return out


def _given(paths: list[str]) -> dict[str, np.ndarray]:
    from rcodec_jax.data.pictures.images import read_image

    pictures = {}
    for path in paths:
        picture = read_image(path)
        output.notes(f"{path}: {note}" for note in picture.notes)
        name = Path(path).stem
        if name in pictures:
            raise UsageError(f"{path}: expected pictures of different names, got {name!r} twice")
        pictures[name] = picture.pixels
    return pictures


def _default() -> dict[str, np.ndarray]:
    from rcodec_jax.bench.pictures import synthetic

    pictures = {
        f"made{height}x{width}": synthetic(height, width, seed=seed)
        for seed, (height, width) in enumerate(MADE_PX)
    }
    try:
        from skimage import data
    except ModuleNotFoundError:
        output.notes(["scikit-image is not installed, so only synthetic pictures are used"])
        return pictures
    pictures["astronaut"] = data.astronaut()
    pictures["coffee"] = data.coffee()
    return pictures


def _here(*, jax: bool) -> dict[str, Any]:
    """Versions and device of this process, for the record of a proof."""
    import numpy as np

    import rcodec_jax
    from rcodec_jax.bitstream import FORMAT_VERSION

    facts = {
        "rcodec": rcodec_jax.__version__,
        "format_version": FORMAT_VERSION,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "device": "cpu (NumPy)",
    }
    if jax:
        import jax as library

        device = library.devices()[0]
        facts |= {"jax": library.__version__, "device": f"{device.platform} ({device.device_kind})"}
    return facts


def _in_words(figures: dict[str, Any], checks: list[Check]) -> str:
    def shown(check: Check) -> tuple[str, ...]:
        symbols = any(not problem.startswith("picture") for problem in check.problems)
        found = check.picture
        return (
            check.name,
            "differ" if symbols else "agree",
            str(found.largest) if found else "-",
            f"{found.mean:.5f}" if found else "-",
            f"{100 * found.share:.3f}" if found else "-",
        )

    header = ("file", "symbols", "picture: largest", "mean difference", "% differing")
    good = sum(not check.problems for check in checks)
    tolerance = figures["tolerance"]
    made_on = figures["made_with"].get("device", "an unknown device")
    lines = [
        output.table(header, map(shown, checks)),
        f"{good} of {output.counted(len(checks), 'file')} agree; made on {made_on}, checked on "
        f"{figures['checked_with']['device']}; symbols in {figures['symbol_seconds']:.2f} s",
    ]
    if any(check.picture for check in checks):
        lines.append(
            f"pictures may differ by {tolerance['difference']} of 255 in "
            f"{100 * tolerance['share']:g} % of their values"
        )
    return "\n".join(lines)
