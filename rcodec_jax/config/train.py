"""Shape of a training run."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal

from rcodec_jax.config.checks import (
    refuse_below,
    refuse_empty,
    refuse_other_nodes,
    refuse_outside_0_1,
    refuse_zero_and_below,
)
from rcodec_jax.config.model import ModelConfig

CROP_PX = {"autoencoder": 8, "codec": 32, "joint": 32}
"""Crops are multiples of it: what the latent's networks reduce by, beyond the autoencoder's 8."""

MAX_REFINE = 8
"""Longer descents change hyper-latents, too."""

MapKind = Literal["uniform", "regions", "gradient", "blobs", "masks"]

_POWERS = ("power", "balance", "lpips_power")


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of a stage's loss, at least 0, whose unit is bits per pixel.

    Distortions are weighted by cell with (abar / (1 - abar))^power, its signal-to-noise ratio: what
    a bit buys falls with the noise, and at power 1 the noise of every timestep is as bad as the
    rate of that timestep makes it (high-rate theory; a flat weight makes a model repeat coarse
    detail against noise it should have accepted). Rate and distortion are both weighted with
    (abar / (1 - abar))^-balance, which leaves the best choice at any one timestep as it is, but
    gives every timestep a like share of a small model.

    Attributes:
      rate: of the bits of y and z.
      mse: of the squared error of pixels in -1..1.
      l1: of their absolute error.
      coarse: of the squared error of pixels averaged over blocks of 8x8 and of 16x16: tone.
      lattice: of the squared error that repeats every 16 pixels; LPIPS takes such a pattern for
        texture.
      structure: of the distance of local structure (`model.structure`), averaged over pixels.
      texture: what the deviation of local detail counts in that distance, beside the details;
        needs `structure`.
      lpips: of the perceptual distance (needs `TrainConfig.lpips_dir`).
      latent: of the denoiser's error in v (scale free) against the clean latent.
      kl: of the posterior's divergence from N(0, 1), per pixel (stage "autoencoder").
      power, balance: see above.
      lpips_power: the power for LPIPS, structure and lattice, whose worth falls more slowly.
      min_snr: gamma of min-SNR weighting of `latent` by cell (Hang et al., ICCV 2023); 0 for none.
      trim: bits per squared quantiser step: integers worth less are left out, as encoders do, and
        the rate is that of tables which expect it; 0: uniform noise and the rate of theory.
    """

    rate: float = 1.0
    mse: float = 5.0
    l1: float = 0.0
    coarse: float = 0.0
    lpips: float = 0.0
    latent: float = 0.02
    kl: float = 0.0
    power: float = 1.0
    lpips_power: float = 0.5
    balance: float = 0.4
    min_snr: float = 0.0
    structure: float = 0.0
    texture: float = 0.0
    lattice: float = 0.0
    trim: float = 0.0

    def __post_init__(self) -> None:
        for name in (f.name for f in dataclasses.fields(self) if f.name not in _POWERS):
            refuse_below(self, 0, name)
        if self.texture and not self.structure:
            raise ValueError("texture: expected structure above 0 with it, got 0")


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """A part of the run with one loss.

    Attributes:
      kind: "autoencoder" (pixels and KL), "codec" (denoiser and entropy model on a frozen
        autoencoder) or "joint" (everything end to end through a one-step decode).
      steps: length.
      batch_size: pictures per step, over all devices.
      crop_px: side of the training crops, a multiple of 32; of 8 for "autoencoder".
      node_range: nodes that maps are drawn from, finest and coarsest; None for the model's whole
        range.
      learning_rate: peak.
      final_learning_rate: at the end of the schedule.
      schedule: of the learning rate after the warm-up: "cosine" or "linear" from peak to end;
        "decay", the peak until the last fifth, then linear; "constant", the peak to the end.
      warmup: steps of linear warm-up.
      accumulate: micro-batches a step is divided into, evenly; the gradient is their mean.
      freeze: regular expressions of parameter paths, such as "^unet/down", that stay as they are,
        besides what `kind` leaves alone.
      latents: batches hold cached latents instead of pictures (kind "codec" only).
      noise: what stands for quantisation: "uniform", as dithered files have it, or (ablation)
        "gaussian" of the same variance.
      refine: steps of gradient descent that latents go through first, as in an encoder with effort
        (2 at the default); kind "joint" with `loss.trim`. Each is a forward and a backward pass
        more, so they are for the last stage.
      rescale: shift and scale of the latent follow the encoder while it is trained; False keeps
        those of the weights, which a denoiser trained elsewhere expects.
    """

    kind: Literal["autoencoder", "codec", "joint"] = "joint"
    steps: int = 5000
    batch_size: int = 8
    crop_px: int = 128
    node_range: tuple[int, int] | None = None
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    schedule: Literal["cosine", "linear", "decay", "constant"] = "cosine"
    warmup: int = 200
    accumulate: int = 1
    freeze: tuple[str, ...] = ()
    latents: bool = False
    noise: Literal["uniform", "gaussian"] = "uniform"
    refine: int = 0
    rescale: bool = True
    loss: LossConfig = LossConfig()

    def __post_init__(self) -> None:
        refuse_below(self, 1, "steps", "batch_size", "accumulate")
        refuse_below(self, 0, "final_learning_rate", "warmup", "refine")
        refuse_zero_and_below(self, "learning_rate")
        refuse_other_nodes("node_range", self.node_range)
        multiple = CROP_PX[self.kind]
        if self.crop_px < 1 or self.crop_px % multiple:
            raise ValueError(
                f"crop_px: expected a positive multiple of {multiple}, got {self.crop_px}"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size: expected a multiple of accumulate {self.accumulate}, got "
                f"{self.batch_size}"
            )
        if self.latents and self.kind != "codec":
            raise ValueError(f"latents: expected kind codec, got {self.kind}")
        if self.refine > MAX_REFINE:
            raise ValueError(f"refine: expected at most {MAX_REFINE}, got {self.refine}")
        if self.refine and not (self.kind == "joint" and self.loss.trim):
            raise ValueError("refine: expected kind joint and loss.trim above 0 with it")
        if self.noise != "uniform" and self.loss.trim:
            raise ValueError(f"noise: expected uniform with loss.trim, got {self.noise}")


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One source of training data.

    Attributes:
      path: folder of pictures, folder or name of a TFDS data set, a glob of ArrayRecord files, or
        "made" for pictures that are drawn.
      weight: share of the rows that come from it, relative to the other sources.
      split: of a TFDS data set.
    """

    path: str
    weight: float = 1.0
    split: str = "train"


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where crops come from.

    Attributes:
      sources: what is mixed; empty for the one source that the command line names.
      exclude: sub-folders of picture folders to leave out.
      made: share of the rows that are made pictures (as the source "made"), beside those of the
        other sources of pictures or of what stands for them on the command line; below 1.
      grey: share of the crops of pictures that lose their colours, 0..1.
      maps: kinds of random level maps, out of which they are drawn (`regions.sampler`).
      importance: named sources (`regions.sources`), such as "saliency", that make level maps of the
        pictures themselves; not with `resident`.
      importance_share: of the maps that are made so, 0..1, in place of random ones.
      max_damaged: share of the pictures of a folder that may turn out to be damaged, 0..1: others
        stand in for them. One may be in any case, unless this is 0. With `workers` each of them
        counts for itself, and none lists what it left out.
      cache_mb: decoded pictures kept in memory, in MB.
      workers: worker processes that read and crop; 0 reads with threads.
      resident: decode all pictures at the start and keep them on the devices, where crops are then
        drawn; `cache_mb` and `workers` do nothing.
    """

    sources: tuple[SourceConfig, ...] = ()
    exclude: tuple[str, ...] = ()
    made: float = 0.0
    grey: float = 0.0
    maps: tuple[MapKind, ...] = ("uniform", "regions", "gradient", "blobs", "masks")
    importance: tuple[str, ...] = ()
    importance_share: float = 0.2
    max_damaged: float = 0.01
    cache_mb: int = 0
    workers: int = 0
    resident: bool = False

    def __post_init__(self) -> None:
        refuse_empty(self, "maps")
        refuse_below(self, 0, "cache_mb", "workers")
        refuse_outside_0_1(self, "made", "grey", "importance_share", "max_damaged")
        if self.importance and self.resident:
            raise ValueError("importance: expected none with resident, whose maps are drawn first")
        if self.made == 1:
            raise ValueError('made: expected a share below 1 (or the source "made"), got 1')


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """Pictures that a run is measured on and never trained on; none if neither field names them.

    Crops, maps and noise are the same every time, so that figures differ by the model alone.

    Attributes:
      data: where they are, as `SourceConfig.path`; or
      share: of each source's pictures, 0..1, those whose names have the least hashes.
      every: steps between two measurements; another one ends each stage.
      pictures: most that are measured, evenly over all that there are.
      crop_px: side of the crop from the middle of each, a multiple of 32.
    """

    data: str | None = None
    share: float = 0.0
    every: int = 1000
    pictures: int = 16
    crop_px: int = 192

    def __post_init__(self) -> None:
        refuse_outside_0_1(self, "share")
        refuse_below(self, 1, "every", "pictures", "crop_px")
        if self.crop_px % CROP_PX["joint"]:
            raise ValueError(
                f"crop_px: expected a multiple of {CROP_PX['joint']}, got {self.crop_px}"
            )
        if self.share == 1:
            raise ValueError("share: expected less than all pictures, got 1")
        if self.data is not None and self.share:
            raise ValueError("share: expected 0 beside data, which names the pictures")

    @property
    def wanted(self) -> bool:
        """Whether a run is measured at all."""
        return self.data is not None or self.share > 0


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh; -1 takes what is left.

    Attributes:
      data, fsdp, tensor: copies of the model, shards of its parameters, shards of operations.
      slices: accelerator slices joined by the data-centre network; they split the axis `data`.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    slices: int = 1


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A run.

    Attributes:
      stages: in order, at least one; parameters, averages and optimiser state go on from one to the
        next.
      steps: stop after so many steps in all; None runs every stage to its end.
      max_minutes: train for so long, compiling and saving included, instead of for the stages'
        steps: these are then the units of the schedules, and each stage gets its share of the time.
      seed: of everything: initial parameters, order, crops, maps, noise.
      ema_decay: of the averaged parameters, 0..1, which are what gets frozen; None keeps no
        average.
      optimizer: "adam"; "muon", which makes the steps of convolutions orthogonal (Jordan et al.
        2024) and costs some matrix products a step; "adafactor", whose state is small; or the name
        of any other in `optax` or `optax.contrib`, such as "lion", as it is there.
      optimizer_options: of such another one, as "name=number", such as "b1=0.95".
      b2: of Adam and Muon, 0..1.
      weight_decay: decoupled, on kernels only.
      clip: bound on the gradient's norm, above 0.
      dtype: of the networks' computation; parameters, averages and moments stay float32.
      remat: what of the activations is kept for the backward pass: everything ("none"), results
        of matrix products ("dots") or the entries of blocks ("full").
      log_every, save_every, sample_every: in steps; sample_every 0 makes no samples.
      keep_latest, keep_best: checkpoints kept; best by the loss on `validation`'s pictures, of the
        steps that were measured there, or else by the loss in training.
      profile: first step, from 1, and number of steps to record for the profiler; none if it is
        None.
      tensorboard: write TensorBoard event files beside the JSON lines.
      peak_flops: of one device, in FLOP/s, to report utilisation against; None does not.
      init_from: folder of a run, weights or bundle to take parameters from at step 0.
      lpips_dir: folder with lpips_alex.npz or the like, for stages that use LPIPS.
      lpips_nets: which of them the loss averages.
    """

    stages: tuple[StageConfig, ...] = (StageConfig(),)
    steps: int | None = None
    max_minutes: float | None = None
    seed: int = 0
    ema_decay: float | None = 0.999
    optimizer: str = "adam"
    optimizer_options: tuple[str, ...] = ()
    b2: float = 0.99
    weight_decay: float = 0.0
    clip: float = 1.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "full"] = "none"
    log_every: int = 50
    save_every: int = 1000
    sample_every: int = 1000
    keep_latest: int = 2
    keep_best: int = 1
    profile: tuple[int, int] | None = None
    tensorboard: bool = False
    peak_flops: float | None = None
    init_from: str | None = None
    lpips_dir: str | None = None
    lpips_nets: tuple[Literal["alex", "squeeze", "vgg"], ...] = ("squeeze",)
    data: DataConfig = DataConfig()
    validation: ValidationConfig = ValidationConfig()
    mesh: MeshConfig = MeshConfig()

    def __post_init__(self) -> None:
        refuse_empty(self, "stages", "lpips_nets")
        refuse_below(self, 1, "steps", "log_every", "save_every", "keep_latest", "profile")
        refuse_below(self, 0, "weight_decay", "sample_every", "keep_best")
        refuse_zero_and_below(self, "clip", "peak_flops", "max_minutes")
        refuse_outside_0_1(self, "ema_decay", "b2")
        if self.max_minutes and len({(stage.kind, stage.freeze) for stage in self.stages}) > 1:
            raise ValueError("max_minutes: expected stages that train the same parameters")
        if self.data.resident and any(stage.latents for stage in self.stages):
            raise ValueError("data.resident: expected stages of pictures, got cached latents")

    @property
    def first_steps(self) -> tuple[int, ...]:
        """Steps of the run before each stage, in order."""
        return tuple(itertools.accumulate((s.steps for s in self.stages[:-1]), initial=0))

    @property
    def total_steps(self) -> int:
        """Steps of all stages, or fewer where the run is told to stop earlier."""
        steps = sum(stage.steps for stage in self.stages)
        return min(steps, self.steps or steps)


@dataclasses.dataclass(frozen=True)
class Config:
    """What a file in `configs/` returns."""

    name: str = "tiny"
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        coding = [stage for stage in self.train.stages if stage.kind != "autoencoder"]
        if self.model.hyper.centroids and not all(stage.loss.trim for stage in coding):
            raise ValueError("model.hyper.centroids: expected stages with loss.trim above 0")
