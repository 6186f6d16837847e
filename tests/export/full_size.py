"""Stable Diffusion's size, one framework after the other, so that memory holds one model.

    python tests/export/full_size.py theirs sd21 FOLDER    random weights, diffusers' outputs
    python tests/export/full_size.py ours sd21 FOLDER      our outputs, from the imported weights

`tests/export/test_parity_full.py` runs both and compares; the figures go to JSON beside them.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

T = 261
SHAPES: dict[str, dict[str, Any]] = {
    "sd21": {
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
    "sd15": {"attention_head_dim": 8, "cross_attention_dim": 768},
}
"""What tells the UNets of 2.1 and 1.5 apart."""

PREDICTIONS = {"sd21": "v_prediction", "sd15": "epsilon"}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


def inputs(shape: str) -> dict[str, np.ndarray]:
    """A picture of 512 x 512 pixels and latents of its size."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.uniform(-1, 1, (1, 512, 512, 3)).astype(np.float32),
        "raw": rng.normal(0, 5, (1, 64, 64, 4)).astype(np.float32),
        "x": rng.normal(0, 1, (1, 64, 64, 4)).astype(np.float32),
        "context": rng.normal(0, 1, (77, SHAPES[shape]["cross_attention_dim"])).astype(np.float32),
    }


def theirs(shape: str, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """diffusers' outputs and how long each took."""
    import peers

    torch = peers.installed("torch")
    given = inputs(shape)
    np.save(folder / "context.npy", given["context"])
    unet, vae = peers.save_random(folder / "theirs", SHAPES[shape], VAE, PREDICTIONS[shape])
    context = given["context"]

    def encode() -> np.ndarray:
        return peers.nhwc(vae.encode(peers.nchw(given["image"])).latent_dist.mean)

    with torch.no_grad(), peers.quiet():
        return timed(
            encoder=encode,
            decoder=lambda: peers.nhwc(vae.decode(peers.nchw(given["raw"])).sample),
            unet=lambda: peers.run_unet(unet, given["x"], T, context),
        )


def ours(shape: str, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Our outputs and how long each took."""
    import jax
    import jax.numpy as jnp

    from rcodec_jax.model.networks import Networks
    from rcodec_jax.model.weights import open_weights

    weights = open_weights(folder / "ours")
    params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), weights.stored())
    networks, given = Networks(weights.config), inputs(shape)
    level_map, levels_t = np.full((1, 64, 64), 5, np.int32), np.full((1, 16), 999.0, np.float32)
    levels_t[:, 5] = T
    calls: dict[str, tuple[Any, ...]] = {
        "encoder": (networks.encode, given["image"]),
        "decoder": (networks.decode, given["raw"]),
        "unet": (networks.denoise, given["x"], levels_t, level_map, None),
    }
    # Compiled before the clock starts; the encoder's mean comes first of two.
    compiled = {
        name: jax.jit(call).lower(params, *args).compile() for name, (call, *args) in calls.items()
    }

    def run(name: str) -> np.ndarray:
        return np.asarray(jax.tree.leaves(compiled[name](params, *calls[name][1:]))[0])

    return timed(
        encoder=lambda: run("encoder"), decoder=lambda: run("decoder"), unet=lambda: run("unet")
    )


def timed(
    **calls: Callable[[], np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Outputs, and seconds of each call."""
    outputs, seconds = {}, {}
    for name, call in calls.items():
        start = time.perf_counter()
        outputs[name] = call()
        seconds[name] = time.perf_counter() - start
    return outputs, seconds


def main(which: str, shape: str, folder: str) -> None:
    """Runs one side; writes WHICH.npz and WHICH.json."""
    run: Any = {"theirs": theirs, "ours": ours}[which]
    outputs, seconds = run(shape, Path(folder))
    np.savez(Path(folder) / f"{which}.npz", **outputs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {"seconds": seconds, "peak_bytes": peak}
    (Path(folder) / f"{which}.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
