"""Models as others read them: diffusers' layout, and plain weights in safetensors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.export import architecture
from rcodec_jax.export.context import FILE as CONTEXT_FILE
from rcodec_jax.export.naming import CONTEXT, Entry, table
from rcodec_jax.files import atomic_write
from rcodec_jax.model.tensorstream import write_tensors
from rcodec_jax.model.trained import Trained
from rcodec_jax.model.trees import flatten
from rcodec_jax.model.weights_writer import WeightsWriter
from rcodec_jax.progress import Progress, no_progress

WEIGHTS = "diffusion_pytorch_model.safetensors"
CONFIG = "config.json"


def export_diffusers(
    model: Trained, out: str | os.PathLike[str], *, progress: Progress = no_progress
) -> None:
    """Writes unet/, vae/ and scheduler/ so that diffusers' `from_pretrained` loads them.

    The constant context goes beside them, to context.npy: diffusers hands it to the UNet as
    `encoder_hidden_states`. The entropy model has no counterpart there and is left out. A shift of
    the latent is written as `latents_mean`: y = (raw - latents_mean) * scaling_factor.

    Args:
      model: what to write.
      out: folder, made if it is missing.
      progress: called after each tensor.

    Raises:
      UsageError: a model that diffusers cannot express; then nothing is written.
    """
    config = model.config
    architecture.refuse(config)
    out = Path(out)
    latent = architecture.Latent(model.shift, model.power)
    entries, tensors = table(config), flatten(model.params)
    configs = {
        f"unet/{CONFIG}": architecture.write_unet(config),
        f"vae/{CONFIG}": architecture.write_autoencoder(config, latent),
        "scheduler/scheduler_config.json": architecture.write_schedule(config),
    }
    done = 0
    for folder in ("unet", "vae"):
        (out / folder).mkdir(parents=True, exist_ok=True)
        done = _write_tensors(
            out / folder / WEIGHTS,
            [entry for entry in entries if entry.folder == folder],
            tensors,
            progress,
            (done, len(entries)),
        )
    np.save(out / CONTEXT_FILE, np.asarray(tensors[CONTEXT], np.float32))
    for name, data in configs.items():
        (out / name).parent.mkdir(exist_ok=True)
        text = json.dumps(data, indent=2, sort_keys=True) + "\n"
        atomic_write(out / name, text.encode())


def export_weights(
    model: Trained,
    out: str | os.PathLike[str],
    *,
    half: bool = False,
    progress: Progress = no_progress,
) -> None:
    """Writes a folder of weights: every parameter in safetensors, by its path here.

    Args:
      model: what to write, with its entropy model.
      out: folder, made if it is missing.
      half: round parameters to float16, as bundles do with what they keep in floats.
      progress: called after each tensor.

    Raises:
      UsageError: a parameter beyond what float16 holds.
    """
    writer = WeightsWriter(
        out,
        model.config,
        shift=model.shift,
        power=model.power,
        ranges=model.ranges,
        source=model.source,
        card=model.card,
    )
    tensors = flatten(model.params)
    with writer:
        for i, (name, value) in enumerate(tensors.items()):
            array = np.asarray(value)
            writer.add(name, _halved(name, array) if half else array)
            progress(i + 1, len(tensors), name)


def _halved(name: str, array: np.ndarray) -> np.ndarray:
    """In float16."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise UsageError(f"{name}: expected values within float16, got {np.abs(array).max():g}")
    return half


def _write_tensors(
    path: Path,
    entries: Sequence[Entry],
    tensors: dict[str, Any],
    progress: Progress,
    so_far: tuple[int, int],
) -> int:
    """One file, a tensor at a time; returns how many tensors are done in all."""
    done, total = so_far
    described = {e.key: (np.dtype(tensors[e.name].dtype), e.stored_shape) for e in entries}

    def arrays() -> Iterator[np.ndarray]:
        for i, entry in enumerate(entries, done + 1):
            yield entry.to_stored(np.asarray(tensors[entry.name]))
            progress(i, total, entry.name)

    part = path.with_name(f"{path.name}.part")
    write_tensors(part, described, arrays())
    os.replace(part, path)
    return done + len(entries)
