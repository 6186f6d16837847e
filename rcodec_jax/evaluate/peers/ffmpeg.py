"""The ffmpeg that comes with the package imageio-ffmpeg: pictures in, coded files out, and back."""

from __future__ import annotations

import functools
import io
import subprocess
from collections.abc import Sequence

import numpy as np
from PIL import Image

from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import MissingPeerError

_TIMEOUT_S = 600


@functools.cache
def find(encoder: str) -> str:
    """Path of an ffmpeg that has `encoder`. Raises MissingPeerError if there is none."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise MissingPeerError(
            "it needs the package imageio-ffmpeg: pip install 'rcodec-jax[peers]'"
        ) from error
    try:
        program = str(get_ffmpeg_exe())
    except RuntimeError as error:  # a platform for which the package brings no program
        raise MissingPeerError("imageio-ffmpeg has no ffmpeg for this machine") from error
    known = _run([program, "-hide_banner", "-encoders"], b"").decode(errors="replace")
    if encoder not in known.split():
        raise MissingPeerError(f"the ffmpeg of imageio-ffmpeg was built without {encoder}")
    return program


def encode(
    pixels: np.ndarray,
    encoder: str,
    options: Sequence[str],
    *,
    pixel_format: str,
    container: str,
    filters: Sequence[str] = (),
) -> bytes:
    """One picture through an encoder.

    Args:
      pixels: uint8 [H, W, 3].
      options: of the encoder, as on ffmpeg's command line.
      pixel_format: that the encoder is given, e.g. "yuv444p".
      container: e.g. "hevc" for the bare stream.
      filters: before the conversion of pixels.

    Raises:
      MissingPeerError: no ffmpeg with this encoder.
      UsageError: it refused the picture.
    """
    height_px, width_px = pixels.shape[:2]
    command = [find(encoder), "-hide_banner", "-loglevel", "error"]
    command += [
        "-f",
        "rawvideo",
        "-pixel_format",
        "rgb24",
        "-video_size",
        f"{width_px}x{height_px}",
    ]
    command += ["-i", "-", "-frames:v", "1", "-vf", ",".join([*filters, f"format={pixel_format}"])]
    command += ["-c:v", encoder, *options, "-f", container, "-"]
    data = _run(command, np.ascontiguousarray(pixels).tobytes())
    if not data:
        raise UsageError(f"{encoder} made no file of {width_px}x{height_px} px")
    return data


def decode(data: bytes, encoder: str, container: str) -> np.ndarray:
    """uint8 [H, W, 3] of the first picture of what `encode` made."""
    command = [find(encoder), "-hide_banner", "-loglevel", "error", "-f", container, "-i", "-"]
    command += ["-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]
    with Image.open(io.BytesIO(_run(command, data))) as image:
        return np.asarray(image.convert("RGB"))


def _run(command: list[str], data: bytes) -> bytes:
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"ffmpeg did not run: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"ffmpeg: {lines[-1] if lines else 'failed without a word'}")
    return done.stdout
