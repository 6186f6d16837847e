"""What users write behind the name of a source."""

from __future__ import annotations

from rcodec_jax.errors import UsageError


def no_argument(name: str, argument: str) -> None:
    """Raises UsageError: something was written behind the name of a source that takes nothing."""
    if argument:
        raise UsageError(f"{name}: expected nothing behind the name, got {argument!r}")


def numbers(name: str, argument: str, meaning: str) -> list[float]:
    """The numbers of an argument, as many as the words of `meaning`, such as "x,y" in pixels.

    Raises:
      UsageError: other ones.
    """
    try:
        values = [float(part) for part in argument.split(",")]
    except ValueError:
        values = []
    if len(values) != len(meaning.split(",")):
        raise UsageError(f"{name}: expected {name}:{meaning} in pixels, got {argument!r}")
    return values
