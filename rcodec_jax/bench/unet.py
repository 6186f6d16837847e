"""`rcodec bench unet`: one evaluation of the denoiser and the VAE's decoder, beside diffusers'.

Random weights of the same shapes on both sides, batch 1. Calls of all implementations take turns,
each alone on the machine, and medians count: other work on the machine hits all alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.bench.peak import Peaks
from rcodec_jax.config.model import AutoencoderConfig, ModelConfig, UNetConfig
from rcodec_jax.errors import RcodecError
from rcodec_jax.levels import MAX_LEVELS
from rcodec_jax.model.compiling import compiler_options
from rcodec_jax.model.networks import Networks
from rcodec_jax.nn.unet import fold_context
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.scale.flops import Flops, count_flops

SCALAR, SPATIAL = "rcodec, one level", f"rcodec, {MAX_LEVELS} levels"
DECODER = "rcodec"
EAGER, COMPILED = "diffusers, eager", "diffusers, torch.compile"
TORCH = {EAGER: "eager", COMPILED: "compile"}

SMALL = ModelConfig(
    latent_channels=4,
    autoencoder=AutoencoderConfig(
        channels=(8, 16, 16, 16), layers=1, patch=1, norm="group", groups=4, attention=True,
        quant_conv=True,
    ),
    unet=UNetConfig(
        channels=(16, 32), layers=1, heads=(2, 0), middle_heads=4, context_features=24,
        context_tokens=7, time_features=64, norm="group", groups=4, scale_shift=False,
        prediction="v", prior=False,
    ),
)  # fmt: skip
"""Stable Diffusion's architecture in a size that is measured in a second: to try the benchmark."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One implementation at one task.

    Attributes:
      task: "UNet step" or "VAE decode".
      cells: height and width of the latent.
      name: the implementation.
      seconds: of every timed call.
      median_s: their median.
      best_s: the shortest, which on a shared machine says more of the program.
      compile_s: what the first call took longer than the median.
      flops: operations of the task, as the scalar network needs them; the same for every name.
      of_peak: time at the measured peaks over `median_s`.
    """

    task: str
    cells: tuple[int, int]
    name: str
    seconds: tuple[float, ...]
    median_s: float
    best_s: float
    compile_s: float
    flops: int
    of_peak: float


@dataclasses.dataclass(frozen=True)
class Task:
    """What is measured.

    Attributes:
      name: for people.
      what: for the peer, "unet" or "decode".
      cells: height and width of the latent.
      flops: of one call.
      ours: implementations in this process; a call ends when its result is there.
    """

    name: str
    what: str
    cells: tuple[int, int]
    flops: Flops
    ours: dict[str, Callable[[], Any]]


class TorchPeer:
    """diffusers in a process of its own, idle unless asked; a context manager.

    Raises:
      RcodecError: the interpreter does not start, or its networks cannot be built.
    """

    def __init__(self, python: str, job: dict[str, Any]) -> None:
        script = Path(__file__).with_name("torchpeer.py")
        try:
            self._process = subprocess.Popen(
                [python, str(script), json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError as error:
            raise RcodecError(f"expected a Python interpreter, got {python!r}: {error}") from error
        try:
            self.about = self._read()
        except RcodecError:
            self.close()
            raise

    @property
    def missing(self) -> str | None:
        """Package that the interpreter does not have."""
        return self.about.get("missing")

    def measure(self, task: Task, how: str) -> float:
        """Seconds of one call.

        Raises:
          RcodecError: the call failed.
        """
        height, width = task.cells
        request = {"what": task.what, "how": how, "height": height, "width": width}
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it may have ended: reading says how
            print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._read()
        if "error" in answer:
            raise RcodecError(answer["error"])
        return float(answer["seconds"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RcodecError(f"the process with torch ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> TorchPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # what it was asked last, it will never read
                stream.close()


def tasks(config: ModelConfig, sizes: Sequence[tuple[int, int]], dtype: str) -> Iterator[Task]:
    """UNet steps, then VAE decodes, of random parameters; the next frees what the last held."""
    networks = Networks(config, jnp.dtype(dtype), folded=True)
    shapes = jax.eval_shape(Networks(config).init, jax.random.key(0))
    for name, what in (("UNet step", "unet"), ("VAE decode", "decode")):
        part = "unet" if what == "unet" else "decoder"
        host = _filled(shapes[part])
        host = fold_context(host) if what == "unet" else host
        params = {part: jax.tree.map(lambda a: jnp.asarray(a, jnp.dtype(dtype)), host)}
        del host
        make = _denoise if what == "unet" else _decode
        for cells in sizes:
            yield Task(name, what, cells, *make(networks, params, cells))


def run(
    config: ModelConfig,
    sizes: Sequence[tuple[int, int]],
    *,
    dtype: str,
    repeats: int,
    peaks: Peaks,
    peer: TorchPeer | None = None,
    compiled: bool = True,
    progress: Progress = no_progress,
    note: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Measures.

    Args:
      config: the model.
      sizes: heights and widths of latents.
      dtype: of parameters and computation.
      repeats: timed calls of each implementation at each task, after one that compiles.
      peaks: what the device reaches in `dtype`.
      peer: diffusers, None to leave it out.
      compiled: whether to measure `torch.compile` as well.
      progress: called with (done, total, what comes next).
      note: called with a line about an implementation that failed and is left out.

    Returns:
      Rows by task, in the order of implementations.
    """
    rows = []
    total = 2 * len(sizes)
    for done, task in enumerate(tasks(config, sizes, dtype)):
        progress(done, total, f"{task.name} {task.cells[0]}x{task.cells[1]}")
        calls = {name: functools.partial(_seconds, call) for name, call in task.ours.items()}
        if peer is not None:
            wanted = [name for name in TORCH if compiled or name != COMPILED]
            calls |= {name: functools.partial(peer.measure, task, TORCH[name]) for name in wanted}
        rows += [
            _row(task, name, first, seconds, peaks)
            for name, (first, seconds) in _in_turns(calls, repeats, note).items()
        ]
    progress(total, total, "")
    return rows


def slower(rows: Sequence[Row], name: str, than: str) -> dict[str, float]:
    """By task, median time of one implementation over another's."""
    medians = {(row.task, row.cells, row.name): row.median_s for row in rows}
    return {
        f"{task} {cells[0]}x{cells[1]}": median / medians[task, cells, than]
        for (task, cells, which), median in medians.items()
        if which == name and (task, cells, than) in medians
    }


def _in_turns(
    calls: Mapping[str, Callable[[], float]], repeats: int, note: Callable[[str], None]
) -> dict[str, tuple[float, list[float]]]:
    """First and timed calls of each name: A B C, A B C, ...; those that fail are left out."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(1 + repeats):
        for name in list(seconds):
            try:
                seconds[name].append(calls[name]())
            except RcodecError as error:
                note(f"{name} is left out: {error}")
                del seconds[name]
    return {name: (first, timed) for name, (first, *timed) in seconds.items()}


def _row(task: Task, name: str, first: float, seconds: list[float], peaks: Peaks) -> Row:
    median = statistics.median(seconds)
    at_peak = task.flops.matmul / peaks.matmul_flops + task.flops.conv / peaks.conv_flops
    compile_s = max(first - median, 0.0)
    return Row(
        task=task.name,
        cells=task.cells,
        name=name,
        seconds=tuple(seconds),
        median_s=median,
        best_s=min(seconds),
        compile_s=compile_s,
        flops=task.flops.total,
        of_peak=at_peak / median,
    )


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def _denoise(
    networks: Networks, params: Any, cells: tuple[int, int]
) -> tuple[Flops, dict[str, Callable[[], Any]]]:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, *cells, networks.config.latent_channels)), jnp.float32)

    def denoise(params: Any, x: jax.Array, t: jax.Array, level_map: jax.Array) -> jax.Array:
        return networks.denoise(params, x, t, level_map, None)

    program = jax.jit(denoise, compiler_options=compiler_options())

    def inputs(levels: int) -> tuple[jax.Array, ...]:
        t = jnp.linspace(100.0, 900.0, levels, dtype=jnp.float32)[None]
        return x, t, jnp.asarray(rng.integers(0, levels, (1, *cells)), jnp.int32)

    scalar, spatial = inputs(1), inputs(MAX_LEVELS)
    flops = count_flops(denoise, params, *scalar)
    return flops, {
        SCALAR: lambda: program(params, *scalar),
        SPATIAL: lambda: program(params, *spatial),
    }


def _decode(
    networks: Networks, params: Any, cells: tuple[int, int]
) -> tuple[Flops, dict[str, Callable[[], Any]]]:
    rng = np.random.default_rng(0)
    config = networks.config
    x, hints = (
        jnp.asarray(rng.normal(size=(1, *cells, channels)), jnp.float32)
        for channels in (config.latent_channels, config.hint_channels)
    )
    program = jax.jit(networks.decode, compiler_options=compiler_options())
    flops = count_flops(networks.decode, params, x, hints)
    return flops, {DECODER: lambda: program(params, x, hints)}


def _filled(shapes: Any) -> Any:
    """Parameters that keep activations in range: an evaluation's time depends on little else."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(1 << 20, np.float32)

    def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if len(leaf.shape) == 1:
            return np.full(leaf.shape, float(path[-1].key == "scale"), np.float32)
        fan_in = leaf.size // leaf.shape[-1]
        # the same million numbers over and over: drawing 900 million takes longer than the rest
        return np.resize(noise, leaf.shape) * np.float32(fan_in**-0.5)

    return jax.tree_util.tree_map_with_path(fill, shapes)
