"""Several sources as one, each with its share of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rcodec_jax.data.sources.latents import LatentSet
from rcodec_jax.data.sources.sources import PictureSource
from rcodec_jax.errors import UsageError

Source = PictureSource | LatentSet


@dataclass(frozen=True)
class Mixture:
    """Sources and their weights; which source a row comes from follows from its global index.

    Any run of rows holds each source's share to within a row or two. (grain counts weights in
    hundredths of the smallest, so that a share may be up to 1 % off.)

    Attributes:
      sources: all pictures or all latents, none of them empty.
      weights: above 0, of any sum.
    """

    sources: tuple[Source, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.sources or len(self.sources) != len(self.weights):
            raise UsageError(
                f"expected a weight for each of {len(self.sources)} sources, "
                f"got {len(self.weights)}"
            )
        for source, weight in zip(self.sources, self.weights, strict=True):
            if not 0 < weight < float("inf"):
                raise UsageError(f"{source}: expected a weight above 0, got {weight}")
        kinds = {source.kind for source in self.sources}
        if len(kinds) > 1:
            raise UsageError("expected sources of one kind, got pictures and cached latents mixed")
        if len({source.encoder_digest for source in self.latent_sets}) > 1:
            raise UsageError("expected cached latents of one autoencoder, got several")

    @property
    def kind(self) -> Literal["images", "latents"]:
        """What an entry is."""
        return self.sources[0].kind

    @property
    def weighted(self) -> list[tuple[Source, float]]:
        """Each source with its weight."""
        return list(zip(self.sources, self.weights, strict=True))

    @property
    def latent_sets(self) -> list[LatentSet]:
        """The sources that hold cached latents."""
        return [source for source in self.sources if isinstance(source, LatentSet)]

    @property
    def picture_count(self) -> int:
        """Pictures (or latents) of all sources."""
        return sum(source.picture_count for source in self.sources)


def select(sources: Sequence[tuple[Source, float]], kind: Literal["images", "latents"]) -> Mixture:
    """The mixture of those sources that are of a kind.

    Raises:
      UsageError: none is.
    """
    chosen = [(source, weight) for source, weight in sources if source.kind == kind]
    if not chosen:
        expected = {"images": "pictures", "latents": "cached latents ('rcodec data latents')"}[kind]
        given = ", ".join(repr(source) for source, _ in sources)
        raise UsageError(f"expected a source of {expected}, got {given or 'none'}")
    return Mixture(tuple(s for s, _ in chosen), tuple(w for _, w in chosen))
