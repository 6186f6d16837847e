"""What an evaluation compares: coders that make the bytes of a whole file, and read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from rcodec_jax.errors import UsageError

Known = TypeVar("Known")
Made = TypeVar("Made")


class MissingPeerError(UsageError):
    """A codec to compare with that is not installed here; the message says how to get it."""


def present(
    names: Sequence[str], known: Mapping[str, Known], make: Callable[[Known], Made], what: str
) -> tuple[list[Made], list[str]]:
    """Peers by name, and a line for each that is missing here.

    Args:
      names: of the peers that are wanted.
      known: all that there are.
      make: one of them of what is known; raises MissingPeerError where it is missing.
      what: they are, for the message.

    Raises:
      UsageError: an unknown name.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"{what} are {', '.join(known)}, got {', '.join(unknown)}")
    made, missing = [], []
    for name in dict.fromkeys(names):
        try:
            made.append(make(known[name]))
        except MissingPeerError as error:
            missing.append(f"peer {name} left out: {error}")
    return made, missing


class Setting(NamedTuple):
    """One point of a rate-quality curve, asked of a coder."""

    kind: str
    """"bpp" or "quality"."""
    value: float

    @property
    def label(self) -> str:
        return f"{self.kind}={self.value:g}"


class Coder(Protocol):
    """A codec and the settings that make its curve."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str:
        """Which model it is, in words; empty for one that has none."""
        ...

    @property
    def suffix(self) -> str:
        """How its files end, with the dot."""
        ...

    @property
    def settings(self) -> Sequence[Setting]: ...

    def encode(self, pixels: np.ndarray, setting: Setting) -> bytes:
        """The complete file of uint8 [H, W, 3]; UsageError if the setting is out of reach."""
        ...

    def decode(self, data: bytes) -> np.ndarray:
        """uint8 [H, W, 3] from the file alone."""
        ...


class Rival(Protocol):
    """A codec that makes files with a region of at most so many bytes."""

    @property
    def name(self) -> str: ...

    @property
    def suffix(self) -> str:
        """How its files end, with the dot."""
        ...

    @property
    def strengths(self) -> Sequence[float]:
        """How much it favours regions: those to try."""
        ...

    def fit(self, pixels: np.ndarray, mask: np.ndarray, strength: float, size_bytes: int) -> bytes:
        """A file of at most so many bytes; UsageError if there is none."""
        ...

    def decode(self, data: bytes) -> np.ndarray:
        """uint8 [H, W, 3] from the file alone."""
        ...


class CodecLike(Protocol):
    """The two calls of `rcodec_jax.load()` that evaluation needs."""

    def encode(self, image: np.ndarray, **options: Any) -> bytes: ...

    def decode(self, data: bytes, **options: Any) -> np.ndarray: ...


class RcodecCoder:
    """This project's codec with uniform maps, at rates or at qualities.

    Fixed rates give every picture the same bytes; fixed qualities (one base node for all) spend
    more on harder pictures, as a JPEG quality does. `encoding` is further options of `encode`,
    `model` what the rows call its model.
    """

    name = "rcodec"
    suffix = ".rdc"

    def __init__(
        self,
        codec: CodecLike,
        *,
        rates_bpp: Sequence[float] = (),
        qualities: Sequence[float] = (),
        steps: int | None = None,
        trajectory: str = "proportional",
        encoding: Mapping[str, Any] | None = None,
        model: str = "",
    ) -> None:
        if bool(rates_bpp) == bool(qualities):
            raise UsageError("expected either rates or qualities for rcodec, got both or neither")
        if any(rate <= 0 for rate in rates_bpp):
            raise UsageError(f"rates are positive bits per pixel, got {list(rates_bpp)}")
        kind = "bpp" if rates_bpp else "quality"
        self.settings = tuple(Setting(kind, float(v)) for v in sorted(rates_bpp or qualities))
        self._codec, self._steps, self._trajectory = codec, steps, trajectory
        self._encoding = dict(encoding or {})
        self.model = model

    def encode(self, pixels: np.ndarray, setting: Setting) -> bytes:
        return self._codec.encode(pixels, **{setting.kind: setting.value}, **self._encoding)

    def decode(self, data: bytes) -> np.ndarray:
        return self._codec.decode(data, steps=self._steps, trajectory=self._trajectory)
