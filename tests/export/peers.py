"""Small random models of diffusers, and of ours with the same weights."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.config.model import HyperConfig
from rcodec_jax.export.importing import import_diffusers
from rcodec_jax.model.networks import Networks
from rcodec_jax.model.weights import open_weights

SMALL_HYPER = HyperConfig(hyper_channels=4, analysis=8, synthesis=(4, 4, 4), classes=4)
TOKENS = 7

UNETS: dict[str, dict[str, Any]] = {
    # as Stable Diffusion 2.1: heads of like width, linear projections, no attention at the bottom
    "sd21": {
        "block_out_channels": (16, 32, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": [2, 4, 4],
        "cross_attention_dim": 24,
        "use_linear_projection": True,
    },
    # as 1.5: as many heads everywhere, projections that are convolutions
    "sd15": {
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 12,
    },
}
PREDICTIONS = {"sd21": "v_prediction", "sd15": "epsilon"}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Their warnings are theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def installed(name: str) -> Any:
    """A package of the extra `parity`, or the test is skipped."""
    with quiet():
        try:
            return importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed: `make parity` compares with it")


def randomise(module: Any, seed: int) -> None:
    """Fills every parameter, norms included, so that activations keep their size."""
    torch = installed("torch")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            centre = 1.0 if value.ndim == 1 and name.endswith("weight") else 0.0
            spread = 0.2 if value.ndim == 1 else value[0].numel() ** -0.5
            value.normal_(centre, spread, generator=generator)
    module.eval()


def save_random(
    folder: Path, unet: dict[str, Any], vae: dict[str, Any], prediction: str
) -> tuple[Any, Any]:
    """Their (unet, vae), random, saved to a folder in their layout."""
    diffusers = installed("diffusers")
    with quiet():
        models = diffusers.UNet2DConditionModel(**unet), diffusers.AutoencoderKL(**vae)
        for i, (name, model) in enumerate(zip(("unet", "vae"), models, strict=True)):
            randomise(model, i)
            model.save_pretrained(folder / name)
        schedule(prediction).save_pretrained(folder / "scheduler")
    return models


def schedule(prediction: str) -> Any:
    """Their DDIM scheduler with Stable Diffusion's betas."""
    diffusers = installed("diffusers")
    with quiet():
        return diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            prediction_type=prediction,
        )


@dataclasses.dataclass(frozen=True)
class Pair:
    """One model twice: theirs in `folder`, ours imported to `weights`."""

    name: str
    folder: Path
    weights: Path
    unet: Any
    vae: Any
    networks: Networks
    params: Any
    context: np.ndarray

    def their_unet(self, x: np.ndarray, t: float) -> np.ndarray:
        """NHWC in and out."""
        return run_unet(self.unet, x, t, self.context)


def make_pair(name: str, root: Path) -> Pair:
    """Makes, saves and imports a small model."""
    vae = {
        "block_out_channels": (8, 8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": UNETS[name]["layers_per_block"],
        "norm_num_groups": 4,
    }
    settings = UNETS[name] | {"norm_num_groups": 4}
    theirs = save_random(root / "theirs", settings, vae, PREDICTIONS[name])
    context = np.random.default_rng(3).normal(size=(TOKENS, settings["cross_attention_dim"]))
    np.save(root / "given.npy", context.astype(np.float32))
    import_diffusers(
        str(root / "theirs"), root / "ours", context=str(root / "given.npy"), hyper=SMALL_HYPER
    )
    weights = open_weights(root / "ours")
    params = jax.tree.map(jnp.asarray, weights.params())
    networks = Networks(weights.config)
    context = np.asarray(params["unet"]["context"])
    return Pair(name, root / "theirs", root / "ours", *theirs, networks, params, context)


def run_unet(unet: Any, x: np.ndarray, t: float, context: np.ndarray) -> np.ndarray:
    """Their UNet on NHWC arrays."""
    torch = installed("torch")
    states = torch.from_numpy(np.array(context))[None].expand(len(x), -1, -1)
    with torch.no_grad(), quiet():
        return nhwc(unet(nchw(x), t, encoder_hidden_states=states).sample)


def nchw(x: np.ndarray) -> Any:
    """NHWC array -> NCHW tensor."""
    torch = installed("torch")
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def nhwc(x: Any) -> np.ndarray:
    """NCHW tensor -> NHWC array."""
    return np.ascontiguousarray(np.moveaxis(x.detach().numpy(), 1, -1))


def relative_error(ours: Any, theirs: np.ndarray) -> float:
    """Largest difference over largest magnitude."""
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())
