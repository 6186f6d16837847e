"""A model as StableHLO programs: they run where neither this package nor flax is.

manifest.json          programs, their inputs, outputs and weights in order, digests
<program>.jax_export   a program without weights, for any batch, height and width, on CPU, CUDA
                       and TPU, as `jax.export` serialises it
weights.safetensors    the weights, by name
rcodec_programs.py     a loader that needs jax, NumPy and safetensors

and of a bundle, so that the symbols of a file give its picture:

integer.safetensors    the bundle's integer part: hyper-synthesis and context network
nodes.safetensors      what a node determines: t, alpha_bar, delta and log2_scale
rcodec_symbols.py      reads both with NumPy and safetensors
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from rcodec_jax.config import to_dict
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.errors import UsageError
from rcodec_jax.export import loader, symbols
from rcodec_jax.export.programs import (
    CENTROIDS,
    SCALE,
    SHIFT,
    Port,
    Program,
    make_programs,
    unit_cells,
    weight_names,
)
from rcodec_jax.files import write_json
from rcodec_jax.levels import CELL_PX
from rcodec_jax.model.bundle import INTEGER, MANIFEST, located
from rcodec_jax.model.tensorstream import write_tensors
from rcodec_jax.model.trained import Trained, kind_of
from rcodec_jax.model.trees import flatten
from rcodec_jax.progress import Progress, no_progress

PLATFORMS = ("cpu", "cuda", "tpu")
PARTS = ("encoder", "decoder", "unet", "hyper_analysis")


def export_stablehlo(
    model: Trained,
    out: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None = None,
    dtype: str = "float32",
    progress: Progress = no_progress,
) -> None:
    """Writes a model as programs, weights and a loader.

    What is behind the symbols of files is no program: networks of integers that NumPy runs, of a
    frozen model alone. The coder that reads symbols is not among it.

    Args:
      model: what to write.
      out: folder, made if it is missing; it is whole when it has a manifest.
      source: where the model was read from; of a bundle the digests go into the manifest, and the
        integer part into the folder.
      dtype: what the networks compute in, and what the programs take their weights in: float32 or
        bfloat16.
      progress: called after each program, and after the weights.

    Raises:
      UsageError: flatbuffers, which serialising needs, is not installed.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UsageError(
            "programs are serialised with flatbuffers, which is not installed: "
            "pip install 'rcodec-jax[export]'"
        )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / loader.MANIFEST).unlink(missing_ok=True)
    tensors = flatten({part: model.params[part] for part in PARTS})
    tensors |= {SHIFT: model.shift, SCALE: model.scale}
    if model.centroids is not None:
        tensors[CENTROIDS] = model.centroids.values
    programs = make_programs(model.config, dtype)
    described = {}
    for i, (name, program) in enumerate(programs.items()):
        names = weight_names(program, list(tensors))
        kinds = {key: "float32" if key in (SHIFT, SCALE, CENTROIDS) else dtype for key in names}
        specs = {key: jax.ShapeDtypeStruct(tensors[key].shape, kind) for key, kind in kinds.items()}
        data = _serialise(program, specs)
        (out / f"{name}{loader.ENDING}").write_bytes(data)
        described[name] = {
            "file": f"{name}{loader.ENDING}",
            "sha256": hashlib.sha256(data).hexdigest(),
            "weights": kinds,
            "inputs": [_describe(port) for port in program.inputs],
            "outputs": [_describe(port) for port in program.outputs],
        }
        progress(i + 1, len(programs) + 1, name)
    digest = _write_weights(out / loader.WEIGHTS, tensors)
    shutil.copyfile(loader.__file__, out / "rcodec_programs.py")
    bundle = None if source is None or kind_of(source) != "bundle" else located(source)
    if bundle is not None:
        shutil.copyfile(bundle / INTEGER, out / symbols.INTEGER)
        nodes = node_table(model.config.noise_schedule)
        safetensors.numpy.save_file(nodes._asdict(), out / symbols.NODES)
        shutil.copyfile(symbols.__file__, out / "rcodec_symbols.py")
    manifest = {
        "format": loader.FORMAT,
        "version": loader.VERSION,
        "jax": jax.__version__,
        "platforms": list(PLATFORMS),
        "multiples": {"cells": unit_cells(model.config), "px": unit_cells(model.config) * CELL_PX},
        "weights": {"file": loader.WEIGHTS, "sha256": digest},
        "programs": described,
        "model": to_dict(model.config),
        "bundle": None if bundle is None else _digests(bundle),
        "card": model.card,
    }
    write_json(out / loader.MANIFEST, manifest)
    progress(len(programs) + 1, len(programs) + 1, loader.WEIGHTS)


def _serialise(program: Program, weights: dict[str, jax.ShapeDtypeStruct]) -> bytes:
    from jax import export

    scope = export.SymbolicScope()
    inputs = [
        jax.ShapeDtypeStruct(export.symbolic_shape(port.shape, scope=scope), port.dtype)
        for port in program.inputs
    ]
    exported = export.export(jax.jit(program.function), platforms=PLATFORMS)(weights, *inputs)
    return bytes(exported.serialize())


def _write_weights(path: Path, tensors: dict[str, Any]) -> str:
    """Halves stay halves, all else is float32: what every reader of the format knows."""
    described = {}
    for name, value in sorted(tensors.items()):
        kind = np.dtype(np.float16 if value.dtype == np.float16 else np.float32)
        described[name] = (kind, tuple(value.shape))
    arrays = (np.asarray(tensors[name], kind) for name, (kind, _) in described.items())
    return str(write_tensors(path, described, arrays).hexdigest())


def _describe(port: Port) -> dict[str, Any]:
    shape = [side.strip() for side in port.shape.split(",")]
    return {
        "name": port.name,
        "shape": [int(side) if side.isdigit() else side for side in shape],
        "dtype": port.dtype,
        "meaning": port.meaning,
    }


def _digests(bundle: Path) -> dict[str, str]:
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    return {key: manifest[key] for key in ("integer_digest", "float_digest")}
