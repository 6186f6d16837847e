"""`rcodec bench data`: what the training loader delivers, beside what a step uses up."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from rcodec_jax.data import Mixture, make_dataset
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions import MapSampler


@dataclasses.dataclass(frozen=True)
class Row:
    """The loader with one setting.

    Attributes:
      threads: reading threads, of this process or of each worker.
      workers: worker processes.
      crops_per_s: rows of batches, with their maps.
      mb_per_s: their bytes, in MB.
      crops_per_core_s: the same by CPU time, over one core; None where workers spend it.
      wait_share: share of the time that a step of `step_seconds` would wait for its batch,
        (wait) / (wait + step), measured with a step that sleeps; None if no step was given.
    """

    threads: int
    workers: int
    crops_per_s: float
    mb_per_s: float
    crops_per_core_s: float | None
    wait_share: float | None


@dataclasses.dataclass(frozen=True)
class Decoder:
    """One decoder of JPEG on one core.

    Attributes:
      name: library.
      pictures_per_s: at 768x512.
      equal: whether it gives Pillow's pixels.
    """

    name: str
    pictures_per_s: float
    equal: bool


def run(
    mixture: Mixture,
    *,
    crop_px: int,
    batch_size: int,
    node_range: tuple[int, int],
    settings: Sequence[tuple[int, int]],
    seconds: float = 3.0,
    step_seconds: float | None = None,
    progress: Progress = no_progress,
) -> list[Row]:
    """Times the loader from a warm start (files in the page cache as they happen to be).

    Args:
      mixture: what it reads.
      crop_px, batch_size: of the stage.
      node_range: of the level maps.
      settings: (threads, workers) to try.
      seconds: length of each measurement, at least three batches.
      step_seconds: time of a training step to hold it against.
      progress: called with (done, total, what comes next).
    """
    rows = []
    for index, (threads, workers) in enumerate(settings):
        progress(index, len(settings), f"{threads} threads, {workers} workers")
        batches = make_dataset(
            mixture,
            crop_px=crop_px,
            batch_size=batch_size,
            seed=index,  # other pictures each time: a cache may not help the later ones
            sample_maps=MapSampler(node_range),
            worker_count=workers,
            thread_count=threads,
        )
        first = next(batches)
        size = sum(value.nbytes for value in first.values())
        cpu, start, count = time.process_time(), time.perf_counter(), 0
        while count < 3 or time.perf_counter() - start < seconds:
            next(batches)
            count += 1
        elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
        wait = None if step_seconds is None else _wait_share(batches, step_seconds, seconds)
        batches.close()
        rows.append(
            Row(
                threads,
                workers,
                count * batch_size / elapsed,
                count * size / elapsed / 1e6,
                None if workers else count * batch_size / cpu,
                wait,
            )
        )
    progress(len(settings), len(settings), "")
    return rows


def decoders(seconds: float = 1.0) -> list[Decoder]:
    """Times the installed decoders of JPEG on one picture of 768x512, in turns, medians."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (32, 48, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((768, 512), Image.Resampling.BICUBIC)
    noisy = np.asarray(picture, np.int16) + rng.integers(-12, 13, (512, 768, 3))
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    data = buffer.getvalue()

    calls: dict[str, Callable[[], np.ndarray]] = {
        "Pillow": lambda: np.asarray(Image.open(io.BytesIO(data)))
    }
    if importlib.util.find_spec("simplejpeg"):
        import simplejpeg

        calls["simplejpeg"] = lambda: simplejpeg.decode_jpeg(data)
    if importlib.util.find_spec("cv2"):
        import cv2

        encoded = np.frombuffer(data, np.uint8)
        cv2.setNumThreads(1)
        calls["OpenCV"] = lambda: cv2.cvtColor(cv2.imdecode(encoded, 1), cv2.COLOR_BGR2RGB)
    times: dict[str, list[float]] = {name: [] for name in calls}
    reference = calls["Pillow"]()
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return [
        Decoder(name, 1 / statistics.median(times[name]), np.array_equal(call(), reference))
        for name, call in calls.items()
    ]


def _wait_share(batches: object, step_seconds: float, seconds: float) -> float:
    """Share of its time that a step which only sleeps spends waiting, the buffer full at first."""
    waited = count = 0.0
    time.sleep(step_seconds)
    while count < 3 or count * step_seconds + waited < seconds:
        start = time.perf_counter()
        next(batches)  # type: ignore[call-overload]
        waited += time.perf_counter() - start
        time.sleep(step_seconds)
        count += 1
    return float(waited / (waited + count * step_seconds))
