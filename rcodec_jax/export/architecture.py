"""Shapes of models in diffusers' JSON: UNet2DConditionModel, AutoencoderKL and the schedule.

What our networks do in one way only is written down once, in the tables of fixed values: reading
refuses any other value, writing writes them. A key that is not known here must be null or false.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from rcodec_jax.config.model import AutoencoderConfig, ModelConfig, UNetConfig
from rcodec_jax.diffusion.schedule import LINEAR, STEPS, NoiseSchedule
from rcodec_jax.errors import UsageError

Json = Mapping[str, Any]

_UNET = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "attention_type": "default",
    "center_input_sample": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "downsample_padding": 1,
    "dropout": 0.0,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-5,
    "resnet_out_scale_factor": 1.0,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "transformer_layers_per_block": 1,
}
_AUTOENCODER = {"_class_name": "AutoencoderKL", "act_fn": "silu", "in_channels": 3,
                "out_channels": 3}  # fmt: skip
_SCHEDULE = {
    "num_train_timesteps": STEPS,
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
}
_BETAS: dict[NoiseSchedule, dict[str, float]] = {
    name: dict(zip(("beta_start", "beta_end"), LINEAR.get(name, ()), strict=False))
    for name in get_args(NoiseSchedule)
}
_THEIR_SCHEDULE = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
"""What diffusers takes where a file does not say; of all other values ours are the defaults."""

_WITHOUT_BETAS = ("FlowMatch", "EDM", "Consistency", "VQDiffusion", "Karras")
"""In the names of schedulers of other processes."""

_SAMPLER = {"_class_name": "DDIMScheduler", "clip_sample": False, "set_alpha_to_one": False,
            "steps_offset": 1, "timestep_spacing": "leading"}  # fmt: skip
_NO_MATTER = {"sample_size", "upcast_attention", "force_upcast", "addition_embed_type_num_heads"}
"""Keys that change precision or defaults of callers, not the function."""

Prediction = Literal["epsilon", "v", "sample"]
_PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon", "v_prediction": "v", "sample": "sample"
}  # fmt: skip
SCALING_FACTOR = 0.18215
"""diffusers' default, Stable Diffusion's own."""


class Latent(NamedTuple):
    """How raw latents become y = (raw - shift) / sqrt(power): float32 [C] and a number."""

    shift: np.ndarray
    power: float


def read_unet(
    data: Json, *, latent_channels: int, context_tokens: int, prediction: Prediction, where: str
) -> UNetConfig:
    """The shape of a UNet2DConditionModel.

    Args:
      data: its config.json.
      latent_channels: of the autoencoder it has to go with.
      context_tokens: length of the constant context.
      prediction: what it predicts.
      where: name of the file, for errors.

    Raises:
      UsageError: an architecture that ours cannot follow.
    """
    read = _Reader(data, where, _UNET)
    read.expect("in_channels", latent_channels, default=4)
    read.expect("out_channels", latent_channels, default=4)
    channels = read.whole_numbers("block_out_channels", (320, 640, 1280, 1280))
    depth = len(channels)
    down = read.get("down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"])
    kinds = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
    if not isinstance(down, list) or len(down) != depth or not set(map(str, down)) <= set(kinds):
        raise read.unfit("down_block_types", f"{depth} of {', '.join(kinds)}", down)
    attends = [kinds[kind] for kind in down]
    read.expect("up_block_types", _up_blocks(attends), default=_up_blocks([True] * 3 + [False]))
    heads = read.whole_numbers("attention_head_dim", 8, count=depth)
    if any(width % count for width, count in zip(channels, heads, strict=True)):
        raise read.unfit("attention_head_dim", f"divisors of {channels}", heads)
    # false, or false for every block
    if any(np.atleast_1d(read.get("only_cross_attention", False))):
        raise read.unfit("only_cross_attention", "false", data["only_cross_attention"])
    linear = read.get("use_linear_projection", False)
    try:
        config = UNetConfig(
            channels=channels,
            layers=read.whole_number("layers_per_block", 2),
            heads=tuple(n if here else 0 for n, here in zip(heads, attends, strict=True)),
            middle_heads=heads[-1],
            linear_projection=bool(linear),
            context_features=read.whole_number("cross_attention_dim", 1280),
            context_tokens=context_tokens,
            time_features=read.whole_number("time_embedding_dim", 4 * channels[0]),
            norm="group",
            groups=read.whole_number("norm_num_groups", 32),
            scale_shift=False,
            prediction=prediction,
            prior=False,
        )
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    read.finish()
    return config


def write_unet(config: ModelConfig) -> dict[str, Any]:
    """config.json of the UNet of a model that diffusers can express; see `refuse`."""
    unet = config.unet
    attends = [bool(count) for count in unet.heads]
    heads = [count or unet.middle_heads for count in unet.heads]
    return _UNET | {
        "in_channels": config.latent_channels,
        "out_channels": config.latent_channels,
        "block_out_channels": list(unet.channels),
        "down_block_types": ["CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attends],
        "up_block_types": _up_blocks(attends),
        "layers_per_block": unet.layers,
        "attention_head_dim": heads[0] if len(set(heads)) == 1 else heads,
        "use_linear_projection": unet.linear_projection,
        "cross_attention_dim": unet.context_features,
        "time_embedding_dim": (
            None if unet.time_features == 4 * unet.channels[0] else unet.time_features
        ),
        "norm_num_groups": unet.groups,
    }


def read_autoencoder(data: Json, where: str) -> tuple[AutoencoderConfig, int, Latent]:
    """The shape of an AutoencoderKL, its latent channels and how latents are scaled.

    Raises:
      UsageError: an architecture that ours cannot follow.
    """
    read = _Reader(data, where, _AUTOENCODER)
    channels = read.whole_numbers("block_out_channels", (64,))
    depth = len(channels)
    read.expect("down_block_types", ["DownEncoderBlock2D"] * depth, ["DownEncoderBlock2D"])
    read.expect("up_block_types", ["UpDecoderBlock2D"] * depth, ["UpDecoderBlock2D"])
    quant_conv = bool(read.get("use_quant_conv", True))
    read.expect("use_post_quant_conv", quant_conv, default=True)
    latent_channels = read.whole_number("latent_channels", 4)
    try:
        config = AutoencoderConfig(
            channels=channels,
            layers=read.whole_number("layers_per_block", 1),
            patch=1,
            norm="group",
            groups=read.whole_number("norm_num_groups", 32),
            attention=bool(read.get("mid_block_add_attention", True)),
            quant_conv=quant_conv,
        )
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    latent = _read_latent(read, latent_channels)
    read.finish()
    return config, latent_channels, latent


def write_autoencoder(config: ModelConfig, latent: Latent) -> dict[str, Any]:
    """config.json of the autoencoder of a model that diffusers can express; see `refuse`."""
    auto = config.autoencoder
    depth = len(auto.channels)
    written = _AUTOENCODER | {
        "block_out_channels": list(auto.channels),
        "down_block_types": ["DownEncoderBlock2D"] * depth,
        "up_block_types": ["UpDecoderBlock2D"] * depth,
        "layers_per_block": auto.layers,
        "latent_channels": config.latent_channels,
        "norm_num_groups": auto.groups,
        "mid_block_add_attention": auto.attention,
        "use_quant_conv": auto.quant_conv,
        "use_post_quant_conv": auto.quant_conv,
        # Rounded so that .18215 comes back as itself.
        "scaling_factor": float(f"{latent.power**-0.5:.14g}"),
    }
    if latent.shift.any():
        written["latents_mean"] = latent.shift.astype(np.float64).tolist()
        written["latents_std"] = [1.0] * config.latent_channels
    return written


def read_schedule(data: Json, where: str) -> tuple[NoiseSchedule, Prediction]:
    """A scheduler's schedule, and what its network predicts.

    Raises:
      UsageError: another schedule than those of `diffusion.schedule`, or an unknown prediction.
    """
    kind = str(data.get("_class_name"))
    if any(word in kind for word in _WITHOUT_BETAS):
        raise _Reader(data, where, {}).unfit("_class_name", "a scheduler with betas", kind)
    data = _THEIR_SCHEDULE | dict(data)
    schedule = data["beta_schedule"]
    if schedule not in list(_BETAS):  # it may be of any type
        raise _Reader(data, where, {}).unfit(
            "beta_schedule", f"one of {', '.join(_BETAS)}", schedule
        )
    read = _Reader(data, where, _SCHEDULE | _BETAS[schedule])
    prediction = read.get("prediction_type", "epsilon")
    if prediction not in _PREDICTIONS:
        raise read.unfit("prediction_type", f"one of {', '.join(_PREDICTIONS)}", prediction)
    return schedule, _PREDICTIONS[prediction]


def write_schedule(config: ModelConfig) -> dict[str, Any]:
    """scheduler_config.json of diffusers' DDIMScheduler."""
    names: dict[str, str] = {ours: theirs for theirs, ours in _PREDICTIONS.items()}
    schedule = config.noise_schedule
    own = {"beta_schedule": schedule, "prediction_type": names[config.unet.prediction]}
    return _SAMPLER | _SCHEDULE | _BETAS[schedule] | own


def refuse(config: ModelConfig) -> None:
    """Refuses a model that diffusers cannot express.

    Raises:
      UsageError: naming what it has of its own.
    """
    auto, unet = config.autoencoder, config.unet
    own = {
        f"an autoencoder on patches of {auto.patch}": auto.patch > 1,
        "channel normalisation": "channel" in (auto.norm, unet.norm),
        "timesteps that scale and shift": unet.scale_shift,
        "a UNet that sees the entropy model": unet.prior,
        "hints for the decoder": config.hint_channels > 0,
        f"prediction {unet.prediction}": unet.prediction not in _PREDICTIONS.values(),
        "no attention in the middle": not unet.middle_heads,
        "other heads at the coarsest resolution than in the middle": (
            unet.middle_heads > 0
            and (not unet.heads or unet.heads[-1] not in (0, unet.middle_heads))
        ),
    }
    found = [what for what, true in own.items() if true]
    if found:
        raise UsageError(
            f"expected a model that diffusers can express, got one with {'; '.join(found)}"
        )


def _up_blocks(attends: list[bool]) -> list[str]:
    return ["CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)]


def _read_latent(read: _Reader, channels: int) -> Latent:
    scale = read.number("scaling_factor", SCALING_FACTOR)
    shift = np.full(channels, read.number("shift_factor", 0.0), np.float32)
    mean, deviation = read.get("latents_mean", None), read.get("latents_std", None)
    if mean is not None or deviation is not None:
        mean, deviation = (np.asarray(v, np.float64).reshape(-1) for v in (mean, deviation))
        if mean.size != channels or deviation.size != channels or np.ptp(deviation) > 0:
            expected = f"{channels} means and as many deviations, all the same"
            raise read.unfit("latents_mean, latents_std", expected, (mean, deviation))
        shift, scale = mean.astype(np.float32), scale / float(deviation[0])
    if not scale > 0:
        raise read.unfit("scaling_factor", "a number above 0", scale)
    return Latent(shift, scale**-2)


class _Reader:
    """Takes known keys out of a JSON object; `finish` refuses what is left."""

    def __init__(self, data: Json, where: str, fixed: Json) -> None:
        self._data, self._where = data, where
        self._seen = set(_NO_MATTER)
        for key, value in fixed.items():
            self.expect(key, value, default=value)

    def get(self, key: str, default: Any) -> Any:
        self._seen.add(key)
        value = self._data.get(key)
        return default if value is None else value

    def expect(self, key: str, value: Any, default: Any) -> None:
        got = self.get(key, default)
        if got != value:
            raise self.unfit(key, value, got)

    def number(self, key: str, default: float) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.unfit(key, "a number", value)
        return float(value)

    def whole_number(self, key: str, default: int) -> int:
        value = self.get(key, default)
        if not _is_count(value):
            raise self.unfit(key, "a whole number above 0", value)
        return int(value)

    def whole_numbers(
        self, key: str, default: tuple[int, ...] | int, count: int | None = None
    ) -> tuple[int, ...]:
        value = self.get(key, default)
        if count is not None and _is_count(value):
            value = (value,) * count
        if (
            not isinstance(value, list | tuple)
            or not value
            or not all(map(_is_count, value))
            or count not in (None, len(value))
        ):
            raise self.unfit(key, "a list of whole numbers above 0", value)
        return tuple(value)

    def finish(self) -> None:
        for key, value in self._data.items():
            known = key in self._seen or key.startswith("_")
            if not known and value is not None and value is not False:
                raise self.unfit(key, "null, as this is nothing our networks have", value)

    def unfit(self, key: str, expected: object, got: object) -> UsageError:
        return UsageError(f"{self._where}: {key}: expected {expected}, got {got}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
