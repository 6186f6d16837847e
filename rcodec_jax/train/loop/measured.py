"""Measurements of a run on what is held out: figures by map, as a line and in the run's folder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from rcodec_jax.data import write_image
from rcodec_jax.files import atomic_write, read_json_lines

FOLDER = "validation"
FIGURES = "validation.jsonl"
"""In the run's folder: a sheet of pictures, and a line for each map, of every measurement."""


class Measured(NamedTuple):
    """A measurement.

    Attributes:
      loss: of the stage, mean over maps; what the best checkpoint has least of.
      by_map: loss, and means over pictures: bpp (not in stage "autoencoder"), psnr, lpips where
        the run has its weights, psnr_inside and psnr_outside of the map with a region.
      seconds: that it took.
    """

    loss: float
    by_map: dict[str, dict[str, float]]
    seconds: float


def write_measured(
    workdir: Path, step: int, stage: int, measured: Measured, sheet: np.ndarray
) -> None:
    """Adds a measurement to the folder of a run; from the first process only.

    Lines of later steps, which belong to work that was lost, are dropped.
    """
    if jax.process_index() != 0:
        return
    path = workdir / FIGURES
    rows = [row for row in read_json_lines(path) if row.get("step", step) < step]
    about = {"step": step, "stage": stage, "unix_seconds": round(time.time(), 3)}
    maps = {"all": {"loss": measured.loss}} | measured.by_map
    for name, figures in maps.items():
        rows.append(about | {"map": name} | {k: float(f"{v:.6g}") for k, v in figures.items()})
    atomic_write(path, "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    (workdir / FOLDER).mkdir(exist_ok=True)
    write_image(workdir / FOLDER / f"{step:07d}.png", sheet)


def in_words(step: int, measured: Measured) -> str:
    """A measurement as a line."""
    units = {"bpp": "{:.3f} bpp", "psnr": "{:.2f} dB", "lpips": "LPIPS {:.3f}"}
    units |= {"psnr_inside": "{:.2f} dB inside", "psnr_outside": "{:.2f} outside"}
    parts = [
        f"{name} " + ", ".join(units[k].format(v) for k, v in figures.items() if k in units)
        for name, figures in measured.by_map.items()
    ]
    return f"validation at step {step}: loss {measured.loss:.4g}; {'; '.join(parts)}"
