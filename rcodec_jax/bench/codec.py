"""`rcodec bench codec`: time, size and memory of the codec, beside JPEG's and WebP's.

Three views of the same picture: calls in one process after a warm-up, whole commands run twice
(the first with an empty cache, the second finds its programs compiled), and the peak memory.
"""

from __future__ import annotations

import bisect
import dataclasses
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rcodec_jax.codec.refine import DEFAULT_TUNE
from rcodec_jax.errors import RcodecError
from rcodec_jax.metrics.decibels import psnr_db
from rcodec_jax.progress import Progress, no_progress

WIDTH_PX, HEIGHT_PX = 768, 512


@dataclasses.dataclass(frozen=True)
class Row:
    """One codec on the picture.

    Attributes:
      name: codec and setting.
      size_bytes: of the file.
      bpp: bits per pixel.
      psnr_db: of the decoded picture; 78.1 when it is the same.
      encode_s: median time of a warm call in one process.
      decode_s: likewise.
      command_encode_s: wall time of the second `rcodec encode`, None where not measured.
      command_decode_s: likewise for `rcodec decode`.
      cold_encode_s: wall time of the first `rcodec encode`, which compiles.
      cold_decode_s: likewise for `rcodec decode`.
      cpu_encode_s: processor time of the second `rcodec encode`, all cores together: what is left
        to compare by where other work shares the machine.
      cpu_decode_s: likewise for `rcodec decode`.
      peak_encode_mib: largest resident memory of that command in MiB.
      peak_decode_mib: likewise.
    """

    name: str
    size_bytes: int
    bpp: float
    psnr_db: float
    encode_s: float
    decode_s: float
    command_encode_s: float | None = None
    command_decode_s: float | None = None
    cold_encode_s: float | None = None
    cold_decode_s: float | None = None
    cpu_encode_s: float | None = None
    cpu_decode_s: float | None = None
    peak_encode_mib: float | None = None
    peak_decode_mib: float | None = None


@dataclasses.dataclass(frozen=True)
class Command:
    """Wall time, memory and processor time of one run of the command."""

    seconds: float
    peak_mib: float
    cpu_s: float


def run(
    codec: Any,
    pixels: np.ndarray,
    *,
    bpp: float = 0.2,
    steps: int = 4,
    effort: int = 1,
    tune: str = DEFAULT_TUNE,
    repeats: int = 3,
    command_options: tuple[str, ...] | None = (),
    progress: Progress = no_progress,
) -> list[Row]:
    """Measures the codec and its peers on one picture.

    Args:
      codec: a loaded `Codec`.
      pixels: the picture, uint8 [H,W,3].
      bpp: largest size of the file; the peers get the largest that is not above it.
      steps: of the decoder.
      effort, tune: of the encoder.
      repeats: timed calls, after one that is not timed.
      command_options: options for the commands (`--model`, `--threads`); None leaves them out.
      progress: called with (done, total, what comes next).

    Returns:
      Rows of rcodec, JPEG and WebP.
    """
    parts = 3 if command_options is None else 4
    progress(0, parts, "rcodec, warm calls")
    row = _measure(
        f"rcodec, {steps} steps",
        pixels,
        repeats,
        lambda: codec.encode(pixels, bpp=bpp, effort=effort, tune=tune),
        lambda data: codec.decode(data, steps=steps),
    )
    done = 1
    if command_options is not None:
        progress(done, parts, "rcodec, commands")
        row = dataclasses.replace(
            row,
            **commands(
                pixels,
                bpp=bpp,
                steps=steps,
                encoder_options=("--effort", str(effort), "--tune", tune),
                options=command_options,
            ),
        )
        done += 1
    rows = [row]
    for name in PEERS:
        progress(done, parts, name)
        rows.append(_peer(name, pixels, row.size_bytes, repeats))
        done += 1
    progress(parts, parts, "")
    return rows


def commands(
    pixels: np.ndarray,
    *,
    bpp: float,
    steps: int,
    encoder_options: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Runs `rcodec encode` and `rcodec decode` twice each, with a cache that is empty at first.

    Returns:
      The command fields of `Row`.
    """
    with tempfile.TemporaryDirectory(prefix="rcodec-bench-") as folder:
        picture, data, back = (str(Path(folder) / name) for name in ("p.png", "p.rdc", "b.png"))
        Image.fromarray(pixels).save(picture)
        encode = ["encode", picture, data, "--bpp", str(bpp), "--force"]
        encode += [*encoder_options, *options]
        decode = ["decode", data, back, "--steps", str(steps), "--force", *options]
        figures: dict[str, Any] = {}
        for name, words in (("encode", encode), ("decode", decode)):
            cold, warm = (run_command(words, cache=folder) for _ in range(2))
            figures |= {
                f"command_{name}_s": warm.seconds,
                f"cold_{name}_s": cold.seconds,
                f"cpu_{name}_s": warm.cpu_s,
                f"peak_{name}_mib": warm.peak_mib,
            }
    return figures


_LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss, usage.ru_utime + usage.ru_stime)
process.returncode = os.waitstatus_to_exitcode(status)
sys.exit(process.returncode)
"""
"""A process begins with the peak of the one that started it, so that a small one starts what is
measured; wait4 gives the figures of that child alone."""


def run_command(words: list[str], *, cache: str | None = None) -> Command:
    """Runs `rcodec` in a process of its own, its cache in a folder of its own if one is given.

    Raises:
      RcodecError: it failed; the message is its last line on standard error.
    """
    environ = dict(os.environ)
    if cache is not None:
        environ.pop("JAX_COMPILATION_CACHE_DIR", None)
        environ["RCODEC_CACHE_DIR"] = cache
    command = [sys.executable, "-m", "rcodec_jax.cli", *words]
    return run_measured(command, f"rcodec {words[0]}", environ)


def run_measured(command: list[str], name: str, environ: dict[str, str] | None = None) -> Command:
    """Runs a command in a process of its own; `name` is what messages call it.

    Raises:
      RcodecError: it failed; the message is its last line on standard error.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.run(
            [sys.executable, "-c", _LAUNCHER, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environ,
            check=False,
        )
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    if process.returncode:
        raise RcodecError(
            f"{name} failed with code {process.returncode}: "
            f"{said[-1] if said else 'it said nothing'}"
        )
    seconds, peak, cpu_s = map(float, process.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return Command(seconds, peak * unit / 2**20, cpu_s)


PEERS: dict[str, tuple[int, dict[str, Any]]] = {
    "JPEG": (1, {"format": "JPEG", "optimize": True}),
    "WebP": (0, {"format": "WEBP", "method": 6}),
}
"""Lowest quality and options of Pillow for each peer."""


def _peer(name: str, pixels: np.ndarray, target_bytes: int, repeats: int) -> Row:
    lowest, options = PEERS[name]
    picture = Image.fromarray(pixels)

    def encode(quality: int) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, quality=quality, **options)
        return buffer.getvalue()

    # Sizes grow with the quality: the largest that is not above the target, where there is one.
    above = bisect.bisect_right(
        range(lowest, 101), target_bytes, key=lambda quality: len(encode(quality))
    )
    quality = max(lowest + above - 1, lowest)
    return _measure(
        f"{name}, quality {quality}",
        pixels,
        repeats,
        lambda: encode(quality),
        lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
    )


def _measure(
    name: str,
    pixels: np.ndarray,
    repeats: int,
    encode: Callable[[], bytes],
    decode: Callable[[bytes], np.ndarray],
) -> Row:
    data, encode_s = _timed(encode, repeats)
    decoded, decode_s = _timed(lambda: decode(data), repeats)
    height, width = pixels.shape[:2]
    return Row(
        name,
        len(data),
        len(data) * 8 / (height * width),
        psnr_db(pixels, decoded),
        encode_s,
        decode_s,
    )


def _timed(call: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """The result, and the median time of `repeats` calls after a first one.

    Results are bytes and NumPy arrays, so nothing is still on its way when a call returns.
    """
    result = call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return result, statistics.median(times)
