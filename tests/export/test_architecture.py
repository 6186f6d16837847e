"""diffusers' JSON of the well-known models is our presets, in both directions."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rcodec_jax.config.presets import SD15_UNET, SD21_UNET, SD_AUTOENCODER, stable_diffusion
from rcodec_jax.errors import UsageError
from rcodec_jax.export import architecture
from rcodec_jax.export.architecture import Latent

# As saved by versions of their time: later keys are missing.
UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
}
LATER = {
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "dual_cross_attention": False,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "sample_size": 96,
    "upcast_attention": True,
    "use_linear_projection": True,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
SCHEDULE = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
MODELS = {
    "1.5": (UNET, SCHEDULE, SD15_UNET),
    "2.1": (UNET | LATER, SCHEDULE | {"prediction_type": "v_prediction"}, SD21_UNET),
}


@pytest.mark.parametrize("version", MODELS)
def test_stable_diffusion_is_the_preset(version: str) -> None:
    unet, schedule, preset = MODELS[version]

    def read(data):
        return architecture.read_unet(
            data, latent_channels=4, context_tokens=77, where="unet",
            prediction=architecture.read_schedule(schedule, "scheduler")[1],
        )  # fmt: skip

    assert read(unet) == preset
    assert read(json.loads(json.dumps(architecture.write_unet(stable_diffusion(preset))))) == preset
    written = architecture.write_schedule(stable_diffusion(preset))
    assert architecture.read_schedule(written, "") == ("scaled_linear", preset.prediction)
    architecture.refuse(stable_diffusion(preset))  # it does not


def test_autoencoder_and_scaling_of_the_latent() -> None:
    config, channels, latent = architecture.read_autoencoder(VAE, "vae")
    assert config == SD_AUTOENCODER and channels == 4
    assert latent.power**-0.5 == pytest.approx(0.18215, rel=1e-12) and not latent.shift.any()
    written = architecture.write_autoencoder(stable_diffusion(SD21_UNET), latent)
    assert written["scaling_factor"] == 0.18215 and "latents_mean" not in written
    assert architecture.read_autoencoder(written, "vae")[2].power == latent.power
    moved = Latent(np.array([1, 2, 3, 4], np.float32), 4.0)
    written = architecture.write_autoencoder(stable_diffusion(SD21_UNET), moved)
    again = architecture.read_autoencoder(json.loads(json.dumps(written)), "vae")[2]
    assert again.power == 4.0 and again.shift.tolist() == [1, 2, 3, 4]


def test_sizes_of_no_unet_are_refused_by_name() -> None:
    for key, value, words in (
        ("norm_num_groups", 7, "^unet: groups: expected a divisor of 320 channels, got 7"),
        ("layers_per_block", 0, "^unet: layers"),
    ):
        with pytest.raises(UsageError, match=words):
            architecture.read_unet(
                UNET | {key: value}, latent_channels=4, context_tokens=77, prediction="v",
                where="unet",
            )  # fmt: skip
    with pytest.raises(UsageError, match="^vae: layers_per_block: expected a whole number"):
        architecture.read_autoencoder(VAE | {"layers_per_block": "x"}, "vae")


def test_three_resolutions_are_no_eighth() -> None:
    smaller = VAE | {
        "block_out_channels": [128, 256, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
    }
    with pytest.raises(UsageError, match="vae: patch: an autoencoder reduces by 8"):
        architecture.read_autoencoder(smaller, "vae")
