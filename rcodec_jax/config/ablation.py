"""What an ablation changes of the base recipe beside it."""

from __future__ import annotations

import dataclasses
from typing import Literal

from rcodec_jax.config.checks import refuse_below


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What a file in `configs/ablations/` returns, but for `base.py`.

    Attributes:
      changes: overrides of the base recipe, one if that is enough; none for an ablation of coding
        alone, which is measured on the base's weights.
      claim: what the paper expects, if anything; such ablations come first.
      where: the maps that the claim is about: "uniform", "region", or "low", which is a region at
        low rates.
      seeds: runs, each of another seed.
      dither: False rounds plainly at coding, which no file does.
      see_map: False tells the denoiser one timestep at coding.
    """

    changes: tuple[str, ...] = ()
    claim: str = ""
    where: Literal["uniform", "region", "low"] = "uniform"
    seeds: int = 1
    dither: bool = True
    see_map: bool = True

    def __post_init__(self) -> None:
        refuse_below(self, 1, "seeds")
