"""Fuzzes what reads strangers' bytes: the decoder of files, and the loader of integer parts.

    python tests/fuzz/fuzz_decoder.py --damages 100000 [--processes N] [--seed S] [--parts]
    python tests/fuzz/fuzz_decoder.py CORPUS [-max_total_time=60 ...]

The first form damages the golden files at random. The second runs `atheris` (coverage-guided, with
libFuzzer's options) on a folder of inputs, which is filled with the golden files if it is empty;
where atheris is not installed it falls back to the first form. Every input has to end in symbols or
in an error of rcodec with an offset, within bounds of time and memory. Nothing here imports JAX.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import multiprocessing
import signal
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parents[1])]

try:
    import atheris
except ImportError:
    atheris = None

# atheris sees only what is imported under its eyes
with atheris.instrument_imports(include=["rcodec_jax"]) if atheris else contextlib.nullcontext():
    from rcodec_jax.codec.symbols import read_symbols
    from rcodec_jax.entropy import IntegerPart, Limits
    from rcodec_jax.errors import BitstreamError, BundleError

from damages import damage, damage_part  # noqa: E402

GOLDEN = HERE.parent / "golden"
PART = GOLDEN / "nano" / "integer.safetensors"
LIMITS = Limits(max_pixels=2**17, max_side=2**12, max_payload_bytes=2**16, max_file_bytes=2**17)
"""What the decoder is told to accept: a little more than the largest golden file."""

SECONDS = 5.0
"""CPU time that no input may exceed."""

FILE_PEAK_BYTES = 2**20 + 48 * LIMITS.max_pixels
"""Memory that no file may need beyond what was held before: see Limits."""

PART_PEAK_FACTOR = 40
"""Memory that an integer part may need, in units of its bytes."""


class BrokenPromiseError(AssertionError):
    """An input that broke a promise; the message has it in full."""


def golden_files(largest: int = 2**20) -> dict[str, bytes]:
    """The golden files of at most so many bytes, by name."""
    found = {path.name: path.read_bytes() for path in sorted(GOLDEN.glob("*.rdc"))}
    return {name: data for name, data in found.items() if len(data) <= largest}


def read_file(data: bytes, part: IntegerPart) -> str:
    """Decodes a hostile file; returns the name of its outcome.

    Raises:
      BrokenPromiseError: no offset within the file, or symbols that cannot be.
    """
    try:
        container, levels, symbols = read_symbols(data, part, limits=LIMITS)
    except BitstreamError as error:
        if type(error.offset) is not int or not 0 <= error.offset <= len(data):
            raise BrokenPromiseError(
                f"{error!r}: offset {error.offset} of {len(data)} bytes"
            ) from error
        return type(error).__name__
    shape = (container.header.height_cells, container.header.width_cells)
    if symbols.j.shape[:2] != shape or levels.level_map.shape != shape:
        raise BrokenPromiseError(f"symbols of shape {symbols.j.shape} for {shape} cells")
    if max(np.abs(symbols.j).max(), np.abs(symbols.z).max()) >= 2**15:
        raise BrokenPromiseError("a symbol is outside its range")
    return "symbols"


def read_part(blob: bytes, part: IntegerPart) -> str:
    """Loads a hostile integer part; returns the name of its outcome."""
    try:
        found = IntegerPart.from_bytes(blob)
    except BundleError as error:
        return type(error).__name__
    if (found.digest == part.digest) != (blob == part.to_bytes()):
        raise BrokenPromiseError("two parts with one digest")
    return "part"


@contextlib.contextmanager
def bounded(data: bytes, peak_bytes: int | None) -> Iterator[None]:
    """Turns whatever breaks a promise into BrokenPromiseError.

    Args:
      data: the input, for the message.
      peak_bytes: memory allowed; None leaves it unmeasured, which is several times as fast.
    """

    def expired(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s of CPU time")

    timer = getattr(signal, "setitimer", None)
    if timer:
        before = signal.signal(signal.SIGVTALRM, expired)
        timer(signal.ITIMER_VIRTUAL, SECONDS)
    if peak_bytes is not None:
        tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] if peak_bytes is not None else 0
        if peak > (peak_bytes or 0):
            raise MemoryError(f"{peak} bytes, allowed are {peak_bytes}")
    except (Exception, RecursionError) as error:
        shown = data.hex() if len(data) < 4096 else f"{len(data)} bytes"
        raise BrokenPromiseError(f"{type(error).__name__}: {error}\ninput: {shown}") from error
    finally:
        if peak_bytes is not None:
            tracemalloc.stop()
        if timer:
            timer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)


def run(
    count: int,
    seed: int,
    *,
    parts: bool = False,
    measure_every: int = 10,
    progress: Callable[[int], None] = lambda done: None,
) -> collections.Counter[str]:
    """Reads damaged golden files, or damaged integer parts.

    Args:
      count: how many.
      seed: of the damage; input n depends on (seed, n) alone.
      parts: integer parts instead of files.
      measure_every: memory is measured of every so many inputs.
      progress: called with the number done, now and then.

    Returns:
      How often each outcome came.

    Raises:
      BrokenPromiseError: a promise was broken; the message names seed and number.
    """
    part = IntegerPart.from_bytes(PART.read_bytes())
    files = [part.to_bytes()] if parts else list(golden_files().values())
    work, spoil = (read_part, damage_part) if parts else (read_file, damage)
    for data in files:  # what is made once per process is not the input's
        work(data, part)

    def outcome(number: int) -> str:
        rng = np.random.default_rng([seed, number])
        data = spoil(files[int(rng.integers(len(files)))], rng, files)
        peak = PART_PEAK_FACTOR * len(data) + 2**20 if parts else FILE_PEAK_BYTES
        try:
            with bounded(data, None if number % measure_every else peak):
                return work(data, part)
        except BrokenPromiseError as error:
            raise BrokenPromiseError(f"seed {seed}, input {number}: {error}") from error

    outcomes: collections.Counter[str] = collections.Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an overflow is not an outcome
        for number in range(count):
            outcomes[outcome(number)] += 1
            if number % 500 == 499:
                progress(number + 1)
    return outcomes


def _share(arguments: tuple[int, int, bool, bool]) -> collections.Counter[str]:
    count, seed, parts, loud = arguments
    start = time.monotonic()

    def progress(done: int) -> None:
        if loud and sys.stderr.isatty():
            rate = done / (time.monotonic() - start)
            print(f"\r{done} of {count}, {rate:.0f} per second", end="", file=sys.stderr)

    return run(count, seed, parts=parts, progress=progress)


def random_damage(count: int, seed: int, processes: int, *, parts: bool) -> int:
    """The random loop as a command: shares the work out, prints a summary; 1 if one broke."""
    start = time.monotonic()
    size = -(-count // processes)
    sizes = [min(size, count - first) for first in range(0, count, size)]
    shares = [(n, seed + i, parts, i == 0) for i, n in enumerate(sizes)]
    try:
        if len(shares) == 1:
            results = [_share(shares[0])]
        else:
            with multiprocessing.get_context("spawn").Pool(len(shares)) as pool:
                results = pool.map(_share, shares, chunksize=1)
    except BrokenPromiseError as error:
        print(f"\nbroken: {error}", file=sys.stderr)
        return 1
    total = sum(results, collections.Counter())
    seconds = time.monotonic() - start
    what = "integer parts" if parts else "files"
    shown = ", ".join(f"{name} {n}" for name, n in total.most_common())
    print(f"{total.total()} damaged {what} in {seconds:.0f} s, none broke a promise: {shown}")
    return 0


def fill_corpus(folder: Path) -> None:
    """Puts the golden files and one damage of each into an empty or missing folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        return
    for number, data in enumerate(golden_files().values()):
        for seed in (data, damage(data, np.random.default_rng(number))):
            (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def guided(corpus: Path, options: list[str]) -> int:
    """Coverage-guided fuzzing by atheris; half of its mutations keep the checksums right."""
    part = IntegerPart.from_bytes(PART.read_bytes())
    files = list(golden_files().values())

    def one(data: bytes) -> None:
        with bounded(data, None):
            read_file(data, part)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, max_size))
        try:
            changed = damage(data, rng, files)
        except BitstreamError:  # its sections cannot be told apart any more
            changed = damage(files[seed % len(files)], rng, files)
        return changed[:max_size]

    atheris.Setup([sys.argv[0], str(corpus), *options], one, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


def main(arguments: list[str]) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", nargs="?", type=Path, help="folder of inputs, for atheris")
    parser.add_argument("--damages", type=int, default=None, help="random damages, no atheris")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", action="store_true", help="integer parts instead of files")
    args, options = parser.parse_known_args(arguments)
    if args.corpus is not None and args.damages is None:
        fill_corpus(args.corpus)
        if atheris:
            return guided(args.corpus, options)
        print("atheris is not installed: random damage instead", file=sys.stderr)
    return random_damage(args.damages or 2000, args.seed, args.processes, parts=args.parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
