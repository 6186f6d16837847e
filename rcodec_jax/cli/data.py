"""`rcodec data`: packs pictures for training, caches latents, checks what was packed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import arguments, environment, output
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    from rcodec_jax.data.storage.manifest import Manifest

SHOWN_SKIPPED = 10


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "data",
        help="prepare training data",
        description="Prepares training data. 'pack' and 'latents' write a folder of ArrayRecord "
        "files, which is also a TFDS data set. 'rcodec train --data' reads it.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_pack(commands)
    _add_latents(commands)
    _add_photos(commands)
    for name, run, text in (
        ("check", run_check, "verify the checksum of every file of a packed set"),
        ("info", run_info, "describe a source of training data"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument("source", metavar="SOURCE", help="packed set; for info, any source")
        if name == "info":
            arguments.add_split_option(command)
        arguments.add_json_option(command)
        command.set_defaults(run=run)


def _add_pack(commands: arguments.Subparsers) -> None:
    pack = commands.add_parser(
        "pack",
        help="pack a folder of pictures into ArrayRecord files",
        description="Packs the JPEG, PNG and WebP pictures of a folder into ArrayRecord files. "
        "Their bytes are kept, except where a plain decoder would produce other pixels than "
        "rcodec (orientation, colour profile, CMYK, 16 bits, alpha). These are re-encoded: JPEG "
        "files as JPEG of quality 95 with full chroma, others as PNG. Unreadable pictures are "
        "skipped and listed in skipped.txt. Running the same command again continues a stopped "
        "run.",
    )
    pack.add_argument(
        "folder", metavar="FOLDER", help="folder of pictures, searched with its subfolders"
    )
    pack.add_argument("out", metavar="OUT", help="folder to write")
    pack.add_argument(
        "--max-side",
        type=arguments.whole(8, 2**16, "a whole number of at least 8"),
        metavar="PX",
        help="scale down pictures whose longer side exceeds PX",
    )
    pack.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="NAME",
        help="name of files or subfolders to skip (repeatable)",
    )
    pack.add_argument(
        "--shards",
        type=arguments.whole(1, 99999, "a whole number in 1..99999"),
        metavar="N",
        help="number of files to write (default: one per 256 MiB, or up to 16 for small sets)",
    )
    pack.add_argument(
        "--workers",
        type=arguments.whole(1, 4096, "a whole number of at least 1"),
        metavar="N",
        help="number of processes (default: one per core)",
    )
    arguments.add_force_option(pack)
    arguments.add_json_option(pack)
    pack.set_defaults(run=run_pack)


def _add_photos(commands: arguments.Subparsers) -> None:
    photos = commands.add_parser(
        "photos",
        help="pack pictures into one small file",
        description="Packs the pictures of all sources into one file of WebP pictures, scaled down "
        "until the file is small enough, for example to upload to a rented machine. 'rcodec train "
        "--resident --data FILE' reads it.",
    )
    photos.add_argument(
        "sources", metavar="SOURCE", nargs="+", help="pictures, as for 'train --data'"
    )
    photos.add_argument(
        "--out", required=True, metavar="FILE", help="file to write, with extension .npz"
    )
    photos.add_argument(
        "--max-mb",
        type=arguments.above_zero("a number above 0"),
        default=35.0,
        metavar="N",
        help="maximum file size in megabytes (default: %(default)s)",
    )
    photos.add_argument(
        "--quality",
        type=arguments.whole(1, 100, "a whole number in 1..100"),
        default=90,
        metavar="N",
        help="WebP quality (default: %(default)s)",
    )
    arguments.add_force_option(photos)
    arguments.add_json_option(photos)
    photos.set_defaults(run=run_photos)


def _add_latents(commands: arguments.Subparsers) -> None:
    latents = commands.add_parser(
        "latents",
        help="cache the latents of pictures",
        description="Encodes random crops, half of them flipped, and stores their latents "
        "(posterior mean, float16). Stages with latents=True train on these without the encoder.",
    )
    latents.add_argument("source", metavar="SOURCE", help="pictures, as for 'train --data'")
    latents.add_argument("out", metavar="OUT", help="folder to write")
    latents.add_argument(
        "--model",
        required=True,
        metavar="FOLDER",
        help="weights, run or bundle whose encoder is used",
    )
    arguments.add_split_option(latents)
    latents.add_argument(
        "--crop-px",
        type=arguments.whole(64, 8192, "a whole number of at least 64"),
        default=256,
        metavar="PX",
        help="side of the crops in pixels; training may take smaller crops from them "
        "(default: %(default)s)",
    )
    amount = latents.add_mutually_exclusive_group()
    amount.add_argument(
        "--passes",
        type=arguments.above_zero("a number above 0"),
        default=1.0,
        metavar="N",
        help="how often the crops cover all pixels, at least one crop per picture (default: 1)",
    )
    amount.add_argument(
        "--records",
        type=arguments.whole(1, None, "a whole number of at least 1"),
        metavar="N",
        help="number of crops, instead of --passes",
    )
    latents.add_argument(
        "--batch",
        type=arguments.whole(1, 65536, "a whole number of at least 1"),
        default=16,
        metavar="N",
        help="number of crops encoded at once, over all devices (default: %(default)s)",
    )
    arguments.add_seed_option(latents, "crops and flips")
    latents.add_argument(
        "--dtype",
        choices=arguments.DTYPES,
        default="float32",
        help="precision of the encoder (default: %(default)s)",
    )
    arguments.add_force_option(latents)
    arguments.add_json_option(latents)
    arguments.add_run_options(latents)
    latents.set_defaults(run=run_latents, uses_jax=True)


def run_pack(args: argparse.Namespace) -> int:
    """Runs `rcodec data pack`."""
    from rcodec_jax.data.packing import pack_folder

    with output.Progress("pack") as progress:
        manifest = pack_folder(
            args.folder,
            args.out,
            max_side=args.max_side,
            exclude=args.exclude,
            shard_count=args.shards,
            workers=args.workers or environment.usable_cores(),
            force=args.force,
            progress=progress.update,
        )
    skipped = _skipped(args.out)
    for line in skipped[:SHOWN_SKIPPED]:
        output.message("note", f"skipped {line}")
    if len(skipped) > SHOWN_SKIPPED:
        more = len(skipped) - SHOWN_SKIPPED
        output.message("note", f"{more} more skipped, see {Path(args.out) / 'skipped.txt'}")
    _report(manifest, args)
    return 0


def run_photos(args: argparse.Namespace) -> int:
    """Runs `rcodec data photos`."""
    from rcodec_jax.data import open_source
    from rcodec_jax.data.sources.photos import PhotoFile, write_photos
    from rcodec_jax.data.sources.sources import PictureSource

    if Path(args.out).exists() and not args.force:
        raise UsageError(f"--out: {args.out} exists already (--force overwrites it)")
    opened = [open_source(source) for source in args.sources]
    sources = [source for source in opened if isinstance(source, PictureSource)]
    if len(sources) < len(opened):
        raise UsageError("expected sources of pictures, got cached latents")
    limit = int(args.max_mb * 1e6)
    with output.Progress("photos") as progress:
        scale = write_photos(
            sources, args.out, max_bytes=limit, quality=args.quality, progress=progress.update
        )
    written = PhotoFile(args.out)
    figures = {
        "file": args.out,
        "pictures": written.picture_count,
        "pixels": written.pixel_count,
        "bytes": Path(args.out).stat().st_size,
        "scale": scale,
        "digest": written.digest,
    }
    text = (
        f"{args.out}: {output.counted(figures['pictures'], 'picture')} scaled to {scale:.0%}, "
        f"{figures['bytes'] / 1e6:,.1f} MB"
    )
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
    return 0


def run_latents(args: argparse.Namespace) -> int:
    """Runs `rcodec data latents`."""
    from rcodec_jax.data import Mixture, open_source
    from rcodec_jax.model.trained import load_trained
    from rcodec_jax.train.input.latent_cache import Crops, cache_latents

    if args.crop_px % 8:
        raise UsageError(f"--crop-px: expected a multiple of 8, got {args.crop_px}")
    source = open_source(args.source, split=args.split)
    crops = Crops(
        args.crop_px, args.records, args.passes, args.batch, seed=args.seed, dtype=args.dtype
    )
    mixture, model = Mixture((source,), (1.0,)), load_trained(args.model)
    with output.Progress("latents") as progress:
        manifest = cache_latents(
            mixture, args.out, model, crops, force=args.force, progress=progress.update
        )
    _report(manifest, args)
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Runs `rcodec data check`."""
    from rcodec_jax.data.storage.manifest import check, read_manifest

    with output.Progress("check") as progress:
        wrong = check(args.source, progress.update)
    if wrong:
        more = f" (and {output.counted(len(wrong) - 1, 'more file')})" if len(wrong) > 1 else ""
        raise UsageError(f"{args.source}: {wrong[0]}{more}")
    manifest = read_manifest(args.source)
    count = output.counted(len(manifest.shards) + len(manifest.files), "file")
    _report(manifest, args, verdict=f"ok: {count} checked, no differences")
    return 0


def run_info(args: argparse.Namespace) -> int:
    """Runs `rcodec data info`."""
    from rcodec_jax.data import open_source

    source = open_source(args.source, split=args.split)
    figures: dict[str, Any] = {
        "source": repr(source),
        "kind": source.kind,
        "pictures": source.picture_count,
        "entries": len(source),
        "pixels": source.pixel_count,
        "digest": source.digest,
    }
    noun = source.kind.removesuffix("s")
    lines = [f"{figures['source']}", output.counted(source.picture_count, noun)]
    if source.pixel_count:
        lines[-1] += f", {source.pixel_count / 1e6:,.1f} Mpx"
    lines.append(f"digest {source.digest}")
    output.report(figures, "\n".join(lines), as_json=args.json, stream=sys.stdout)
    return 0


def _skipped(folder: str) -> list[str]:
    return (Path(folder) / "skipped.txt").read_text(encoding="utf-8").splitlines()


def _report(manifest: Manifest, args: argparse.Namespace, *, verdict: str | None = None) -> None:
    facts = manifest.facts
    figures = {
        "folder": getattr(args, "out", args.source if hasattr(args, "source") else None),
        "kind": manifest.kind,
        "records": manifest.records,
        "shards": len(manifest.shards),
        "bytes": manifest.size_bytes,
        "skipped": facts.get("skipped", 0),
        "encoded_anew": facts.get("encoded_anew", 0),
        "digest": manifest.digest,
    }
    text = (
        f"{figures['folder']}: {output.counted(manifest.records, manifest.kind.removesuffix('s'))} "
        f"in {output.counted(len(manifest.shards), 'file')}, {manifest.size_bytes / 1e6:,.1f} MB"
    )
    if manifest.kind == "images":
        text += f"; {figures['encoded_anew']} re-encoded, {figures['skipped']} skipped"
    text += f"\ndigest {manifest.digest}"
    if verdict is not None:
        text += f"\n{verdict}"
        figures["well"] = True
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
