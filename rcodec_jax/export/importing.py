"""Stable Diffusion's weights become a folder of ours: trainable floats, one tensor at a time."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import jax
import numpy as np

from rcodec_jax.config import to_json
from rcodec_jax.config.model import HyperConfig, ModelConfig
from rcodec_jax.config.presets import DECODE_STEPS, PAPER_HYPER
from rcodec_jax.errors import UsageError
from rcodec_jax.export import architecture
from rcodec_jax.export.context import find_context
from rcodec_jax.export.naming import CONTEXT, Entry, table
from rcodec_jax.export.repository import Repository, Tensors
from rcodec_jax.files import atomic_write
from rcodec_jax.model.networks import Networks, model_parts
from rcodec_jax.model.trees import flatten
from rcodec_jax.model.weights_writer import WeightsWriter
from rcodec_jax.progress import Progress, no_progress

RECIPE = "recipe.py"
"""In the folder of the weights: what trains them on."""

MAX_NAMED = 8
"""Tensors that an error names before it only counts."""


@dataclasses.dataclass(frozen=True)
class Imported:
    """What was written.

    Attributes:
      config: the model's shape.
      parameters: number of each part's parameters.
      context: where the constant context comes from, in words.
      recipe: the file that trains it on.
    """

    config: ModelConfig
    parameters: dict[str, int]
    context: str
    recipe: Path


def import_diffusers(
    source: str,
    out: str | os.PathLike[str],
    *,
    context: str | None = None,
    hyper: HyperConfig = PAPER_HYPER,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Imported:
    """Writes a folder of weights from a model in diffusers' layout, and a recipe that fits them.

    Autoencoder and UNet are taken over bit by bit; the entropy model starts from the seed.

    Args:
      source: folder with unet/, vae/ and scheduler/, or the id of such a repository of the hub.
      out: folder to write; what is there before stays until everything is.
      context: see `find_context`.
      hyper: shape of the entropy model.
      seed: of its first parameters, and of a random context.
      progress: called after each tensor of the UNet and the autoencoder.

    Raises:
      UsageError: another architecture or schedule than ours, tensors that are missing, unknown
        or of another shape; then nothing is written.
    """
    repository = Repository(source)
    schedule, prediction = architecture.read_schedule(
        repository.json("scheduler/scheduler_config.json"), "scheduler/scheduler_config.json"
    )
    autoencoder, channels, latent = architecture.read_autoencoder(
        repository.json("vae/config.json"), "vae/config.json"
    )
    unet_json = repository.json("unet/config.json")
    features = unet_json.get("cross_attention_dim") or 0
    if not isinstance(features, int) or features < 1:
        raise UsageError(f"unet/config.json: expected a cross_attention_dim, got {features!r}")
    array, origin = find_context(repository, features, context, seed=seed)
    unet = architecture.read_unet(
        unet_json,
        latent_channels=channels,
        context_tokens=len(array),
        prediction=prediction,
        where="unet/config.json",
    )
    config = ModelConfig(
        channels, autoencoder, unet, hyper, noise_schedule=schedule, steps=DECODE_STEPS
    )
    entries = table(config)
    tensors = {folder: repository.tensors(folder) for folder in ("unet", "vae")}
    keys = match(entries, tensors)

    name = Path(source).name or source
    counts = dict.fromkeys(model_parts(config), 0)
    writer = WeightsWriter(
        out,
        config,
        shift=latent.shift,
        power=latent.power,
        source={"diffusers": name, "context": origin, "seed": seed},
        card={"name": name},
    )
    with writer:

        def add(path: str, value: np.ndarray) -> None:
            writer.add(path, value)
            counts[path.partition("/")[0]] += value.size

        for i, entry in enumerate(entries):
            add(entry.name, entry.from_stored(tensors[entry.folder].read(keys[entry.name])))
            progress(i + 1, len(entries), entry.name)
        add(CONTEXT, array)
        for path, value in entropy_model(config, seed).items():
            add(path, value)
    recipe = Path(out) / RECIPE
    atomic_write(recipe, recipe_for(name, config).encode())
    return Imported(config, counts, origin, recipe)


def recipe_for(name: str, config: ModelConfig) -> str:
    """A recipe in Python that trains imported weights on, as `configs/paper.py` trains its own."""
    return f'''"""A recipe for these weights, by 'rcodec import': that of 'paper' for this model.

    rcodec train {RECIPE} --data DATA --workdir runs/mine --set train.lpips_dir=LPIPS_FOLDER
"""

import dataclasses
from pathlib import Path

from rcodec_jax.config import from_json, load_config
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.config.train import Config

MODEL = r\'\'\'
{to_json(config)}\'\'\'


def config() -> Config:
    """The recipe."""
    paper = load_config("paper", Config)
    train = dataclasses.replace(paper.train, init_from=str(Path(__file__).parent))
    return Config(name={name!r}, model=from_json(ModelConfig, MODEL), train=train)
'''


def entropy_model(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """First parameters of the parts that no other codec has, by path; as a new run has them."""
    parts = tuple(part for part in model_parts(config) if part.startswith("hyper_"))
    params = Networks(config).init(jax.random.key(seed), parts)
    return {name: np.asarray(value) for name, value in flatten(params).items()}


def match(entries: tuple[Entry, ...], tensors: dict[str, Tensors]) -> dict[str, str]:
    """Finds every tensor of the model in the files.

    Returns:
      The name in its file of each of our parameters.

    Raises:
      UsageError: tensors that are missing, unknown or of another shape, by name.
    """
    left = {folder: dict(found.shapes) for folder, found in tensors.items()}
    keys: dict[str, str] = {}
    missing, wrong = [], []
    for entry in entries:
        key = entry.key
        if key not in left[entry.folder] and entry.old_key is not None:
            key = entry.old_key
        shape = left[entry.folder].pop(key, None)
        if shape is None:
            missing.append(f"{entry.folder}/{entry.key}")
        elif not entry.fits(shape):
            expected = list(entry.stored_shape)
            wrong.append(f"{entry.folder}/{key} (expected {expected}, got {list(shape)})")
        else:
            keys[entry.name] = key
    unknown = [f"{folder}/{key}" for folder, found in left.items() for key in sorted(found)]
    faults = [
        f"{len(names)} {what}: {_some(names)}"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", wrong))
        if names
    ]
    if faults:
        raise UsageError(f"tensors do not fit the configuration: {'; '.join(faults)}")
    return keys


def _some(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
