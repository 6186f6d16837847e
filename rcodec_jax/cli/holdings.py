"""What `rcodec info` says of folders and of data: runs, checkpoints, bundles, weights, data sets.

All of it is read from the JSON files beside the arrays. Imports no JAX.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rcodec_jax.cli.output import counted
from rcodec_jax.errors import UsageError
from rcodec_jax.files import read_json_lines

Figures = dict[str, Any]

_CHECKPOINT = "_CHECKPOINT_METADATA"
_SHOWN = ("loss", "bpp", "psnr", "lpips", "psnr_inside", "psnr_outside")


def is_holding(path: str) -> bool:
    """Whether a path is for this module: by what marks a folder, or a file of `data photos`."""
    folder = Path(path)
    marks = (*_READERS, "pack.json", "dataset_info.json")
    return any((folder / mark).is_file() for mark in marks) or (
        folder.suffix == ".npz" and folder.is_file()
    )


def describe(path: str) -> Figures:
    """What lies there, as plain data with a "kind".

    Raises:
      UsageError: nothing that this package writes or trains on, or a damaged description.
    """
    folder = Path(path)
    for name, reader in _READERS.items():
        if (folder / name).is_file():
            try:
                return {"path": path, **reader(folder)}
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise UsageError(
                    f"{folder / name}: cannot be read, it is damaged or of another kind: {error!r}"
                ) from error
    return {"path": path, **_data(path)}


def in_words(figures: Figures) -> str:
    """The same as lines."""
    return "\n".join([f"{figures['path']}: {figures['kind']}", *_LINES[figures["kind"]](figures)])


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _run(folder: Path) -> Figures:
    config = _json(folder / "config.json")
    train = config["train"]
    steps = sum(stage["steps"] for stage in train["stages"])
    steps = min(steps, train["steps"] or steps)
    checkpoints = sorted(
        int(one.name) for one in (folder / "checkpoints").glob("*") if one.name.isdecimal()
    )
    done = checkpoints[-1] if checkpoints else 0
    timed = train.get("max_minutes")
    measured = read_json_lines(folder / "validation.jsonl")
    last = max((row["step"] for row in measured), default=None)
    rows = read_json_lines(folder / "metrics.jsonl")
    starts = read_json_lines(folder / "manifest.jsonl")
    return {
        "kind": "run",
        "name": config["name"],
        "stages": [{"kind": stage["kind"], "steps": stage["steps"]} for stage in train["stages"]],
        "steps": None if timed else steps,
        "minutes": timed,
        "checkpoints": checkpoints,
        "finished": None if timed else done >= steps,
        "training": rows[-1] if rows else {},
        "validation": [row for row in measured if row["step"] == last],
        "starts": len(starts),
        "start": _start(starts[-1]) if starts else None,
    }


def _start(entry: Figures) -> Figures:
    """Of a line of the manifest what tells starts apart."""
    names = ("step", "started", "command", "code", "commit", "devices", "seed", "data", "changes")
    kept = {name: entry.get(name) for name in names}
    return kept | {"rcodec-jax": entry.get("packages", {}).get("rcodec-jax")}


def _checkpoint(folder: Path) -> Figures:
    metadata = _json(folder / _CHECKPOINT)
    metrics = folder / "metrics" / "metrics"
    found = _json(metrics) if metrics.is_file() else {}
    about = metadata.get("custom_metadata") or {}
    return {
        "kind": "checkpoint",
        "step": int(folder.name) if folder.name.isdecimal() else None,
        "name": about.get("config", {}).get("name"),
        "metrics": found,
        "bytes": _size(folder),
        "start": _start(about) if about else None,
    }


def _weights(folder: Path) -> Figures:
    manifest = _json(folder / "weights.json")
    index = _json(folder / "model.safetensors.index.json")
    return {
        "kind": "weights",
        "name": manifest["card"].get("name"),
        "model": manifest["model"],
        "tensors": len(index["weight_map"]),
        "files": len(set(index["weight_map"].values())),
        "bytes": _size(folder),
        "source": manifest["source"],
        "card": manifest["card"],
    }


def _bundle(folder: Path) -> Figures:
    manifest = _json(folder / "bundle.json")
    return {
        "kind": "bundle",
        "name": manifest["card"].get("name"),
        "model": manifest["model"],
        "integer_digest": manifest["integer_digest"],
        "float_digest": manifest["float_digest"],
        "trainable": (folder / "training.safetensors").is_file(),
        "bytes": _size(folder),
        "card": manifest["card"],
    }


def _data(path: str) -> Figures:
    """Of whatever can be trained on.

    Raises:
      UsageError: nothing of that kind.
    """
    from rcodec_jax.data import open_source

    try:
        source = open_source(path)
    except UsageError as error:
        raise UsageError(
            f"{path}: expected an rcodec file, run, checkpoint, bundle, weights or training data, "
            f"got none of them: {error}"
        ) from error
    return {
        "kind": "data",
        "source": repr(source),
        "holds": "pictures" if source.kind == "images" else "cached latents",
        "pictures": source.picture_count,
        "pixels": source.pixel_count,
        "digest": source.digest,
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _run_lines(figures: Figures) -> list[str]:
    stages = ", ".join(
        f"{stage['kind']} ({counted(stage['steps'], 'step')})" for stage in figures["stages"]
    )
    lines = [f"{figures['name']}: {stages}"]
    done = figures["checkpoints"][-1] if figures["checkpoints"] else 0
    if figures["minutes"]:
        lines.append(f"{counted(done, 'step')} done, of {figures['minutes']:g} minutes")
    else:
        state = "finished" if figures["finished"] else "not finished"
        lines.append(f"{done} of {counted(figures['steps'], 'step')} done, {state}")
    kept = ", ".join(map(str, figures["checkpoints"])) or "none"
    lines.append(f"checkpoints: {kept}")
    if figures["training"]:
        lines.append(f"training, step {figures['training']['step']}: {_shown(figures['training'])}")
    lines += [
        f"validation, step {row['step']}, {row['map']}: {_shown(row)}"
        for row in figures["validation"]
    ]
    return lines + _start_lines(figures)


def _start_lines(figures: Figures) -> list[str]:
    start = figures["start"]
    if start is None:
        return []
    commit = f", commit {start['commit']}" if start["commit"] else ""
    data = start["data"] or {}
    pictures = counted(data.get("pictures", 0), "picture")
    return [
        f"started {start['started']} at step {start['step']}, rcodec {start['rcodec-jax']}{commit}",
        f"data: {pictures}, digest {str(data.get('digest'))[:16]}",
        f"command: {' '.join(start['command'] or [])}",
    ]


def _checkpoint_lines(figures: Figures) -> list[str]:
    return [
        f"step {figures['step']} of {figures['name']}, {figures['bytes'] / 1e6:,.1f} MB",
        f"metrics: {_shown(figures['metrics']) or 'none'}",
        *_start_lines(figures),
    ]


def _weights_lines(figures: Figures) -> list[str]:
    source = json.dumps(figures["source"]) if figures["source"] else "a run"
    return [
        f"{figures['name']}: {counted(figures['tensors'], 'tensor')} in "
        f"{counted(figures['files'], 'file')}, "
        f"{figures['bytes'] / 1e6:,.1f} MB",
        f"from {source}",
    ]


def _bundle_lines(figures: Figures) -> list[str]:
    card = figures["card"]
    lines = [
        f"{figures['name']}: {counted(figures['model']['latent_channels'], 'latent channel')}, "
        f"trained for {card.get('steps')} steps, {figures['bytes'] / 1e6:,.2f} MB",
        f"integers {figures['integer_digest']}, networks {figures['float_digest']}",
    ]
    if card.get("training"):
        lines.append(f"training: {_shown(card['training'])}")
    kept = "can" if figures["trainable"] else "cannot"
    return [*lines, f"training {kept} continue from it"]


def _data_lines(figures: Figures) -> list[str]:
    pixels = f", {figures['pixels'] / 1e6:,.1f} Mpx" if figures["pixels"] else ""
    return [
        figures["source"],
        f"{counted(figures['pictures'], figures['holds'].removesuffix('s'))}{pixels}",
        f"digest {figures['digest']}",
    ]


def _shown(row: Figures) -> str:
    found = {name: row[name] for name in _SHOWN if isinstance(row.get(name), (int, float))}
    if isinstance(row.get("validation"), float):
        found["validation"] = row["validation"]
    return "  ".join(f"{name} {value:.4g}" for name, value in found.items() if math.isfinite(value))


_READERS: dict[str, Callable[[Path], Figures]] = {
    _CHECKPOINT: _checkpoint,
    "weights.json": _weights,
    "bundle.json": _bundle,
    "config.json": _run,
}
"""What reads a folder, by the file that marks its kind."""

_LINES: dict[str, Callable[[Figures], list[str]]] = {
    "run": _run_lines,
    "checkpoint": _checkpoint_lines,
    "weights": _weights_lines,
    "bundle": _bundle_lines,
    "data": _data_lines,
}
