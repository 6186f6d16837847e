"""Our networks with diffusers' weights give diffusers' outputs, and the other way round."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import peers
import pytest

from rcodec_jax.diffusion.sampler import ddim
from rcodec_jax.export.exporting import export_diffusers
from rcodec_jax.model.networks import Networks
from rcodec_jax.model.trained import load_trained
from rcodec_jax.nn.unet import fold_context

TOLERANCE = 1e-4
LEVELS = 16
HERE = 5
"""The level that constant maps use; timesteps of the others must not matter."""

LATENT = (2, 6, 11, 4)
"""Odd at the second resolution, so that way up and skips have to agree; one compilation."""


@pytest.fixture(scope="module", params=["sd21", "sd15"])
def pair(request, tmp_path_factory):
    return peers.make_pair(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def denoise(pair):
    """Ours, jitted: x, levels_t."""

    @jax.jit
    def run(x, levels_t):
        level_map = jnp.full(x.shape[:3], HERE, jnp.int32)
        return pair.networks.denoise(pair.params, x, levels_t, level_map, None)

    return run


def _levels(t: float, batch: int) -> np.ndarray:
    levels_t = np.random.default_rng(0).uniform(0, 999, (batch, LEVELS)).astype(np.float32)
    levels_t[:, HERE] = t
    return levels_t


def test_encoder(pair) -> None:
    image = np.random.default_rng(1).uniform(-1, 1, (2, 40, 72, 3)).astype(np.float32)
    mean, log_variance = jax.jit(pair.networks.encode)(pair.params, image)
    with peers.quiet():
        theirs = pair.vae.encode(peers.nchw(image)).latent_dist
    assert peers.relative_error(mean, peers.nhwc(theirs.mean)) < TOLERANCE
    assert peers.relative_error(log_variance, peers.nhwc(theirs.logvar)) < TOLERANCE


def test_decoder(pair) -> None:
    raw = np.random.default_rng(2).normal(0, 5, (2, 5, 9, 4)).astype(np.float32)
    image = jax.jit(pair.networks.decode)(pair.params, raw)
    with peers.quiet():
        theirs = pair.vae.decode(peers.nchw(raw)).sample
    assert peers.relative_error(image, peers.nhwc(theirs)) < TOLERANCE


@pytest.mark.parametrize("t", [0, 261, 999])
def test_denoiser_at_a_scalar_timestep(pair, denoise, t: int) -> None:
    x = np.random.default_rng(t).normal(size=LATENT).astype(np.float32)
    assert peers.relative_error(denoise(x, _levels(t, 2)), pair.their_unet(x, t)) < TOLERANCE


def test_denoiser_with_folded_context(pair) -> None:
    """As decoding runs it: keys and values of the context computed once."""
    folded = Networks(pair.networks.config, folded=True)
    params = {"unet": fold_context(pair.params["unet"])}
    x = np.random.default_rng(6).normal(size=LATENT).astype(np.float32)
    level_map = np.full(LATENT[:3], HERE, np.int32)
    found = jax.jit(folded.denoise)(params, x, _levels(640, 2), level_map, None)
    assert peers.relative_error(found, pair.their_unet(x, 640)) < TOLERANCE


def test_ten_steps_of_ddim(pair, denoise) -> None:
    start, steps = 500, 10
    scheduler = peers.schedule(peers.PREDICTIONS[pair.name])
    torch = peers.installed("torch")
    x = np.random.default_rng(4).normal(size=LATENT).astype(np.float32)
    ours = ddim(
        denoise,
        jnp.asarray(x),
        jnp.full(x.shape[:3], HERE, jnp.int32),
        _levels(start, 2),
        steps=steps,
        prediction=pair.networks.config.unet.prediction,
        schedule="scaled_linear",
    )
    scheduler.set_timesteps(1000 * steps // start)  # their way of saying steps of 50
    theirs = peers.nchw(x)
    for t in range(start, 0, -start // steps):
        with torch.no_grad():
            output = peers.nchw(pair.their_unet(peers.nhwc(theirs), t))
            step = scheduler.step(output, t, theirs)
        theirs = step.prev_sample
    assert peers.relative_error(ours, peers.nhwc(step.pred_original_sample)) < TOLERANCE


def test_they_load_what_we_export(pair, denoise, tmp_path) -> None:
    """Bit by bit what they once saved, under the same names; and it gives our outputs."""
    diffusers = peers.installed("diffusers")
    export_diffusers(load_trained(pair.weights), tmp_path)
    with peers.quiet():
        unet, found = diffusers.UNet2DConditionModel.from_pretrained(
            tmp_path, subfolder="unet", output_loading_info=True
        )
        vae = diffusers.AutoencoderKL.from_pretrained(tmp_path, subfolder="vae")
        scheduler = diffusers.DDIMScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    assert not any(found.values())
    assert scheduler.config.prediction_type == peers.PREDICTIONS[pair.name]
    for back, origin in ((unet, pair.unet), (vae, pair.vae)):
        theirs = origin.state_dict()
        assert back.state_dict().keys() == theirs.keys()
        assert all(bool((value == theirs[k]).all()) for k, value in back.state_dict().items())
        for key in ("scaling_factor", "attention_head_dim", "use_linear_projection"):
            assert back.config.get(key) == origin.config.get(key)
    x = np.random.default_rng(5).normal(size=LATENT).astype(np.float32)
    theirs = peers.run_unet(unet, x, 77, np.load(tmp_path / "context.npy"))
    assert peers.relative_error(denoise(x, _levels(77, 2)), theirs) < TOLERANCE
