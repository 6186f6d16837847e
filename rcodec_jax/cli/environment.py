"""What must be in the process environment before NumPy and JAX are imported.

Thread pools and the device are read once, when the libraries start. Standard library only at first;
a variable that the user has set already wins over a default, an option given on the command
line wins over both.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from rcodec_jax.errors import UsageError

Environment = MutableMapping[str, str]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NPROC",  # XLA's CPU client sizes its thread pools by these two
    "PJRT_NPROC",
)

PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "rocm": "rocm", "tpu": "tpu"}

_M_ARENA_MAX = -8  # of malloc.h

_TRANSPARENT = Path("/sys/kernel/mm/transparent_hugepage/enabled")

_QUIET_LIBTPU = {
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
"""Where libtpu is installed and no TPU is here, it asks the network for one and complains."""


def set_threads(count: int, environ: Environment | None = None) -> None:
    """Limits every thread pool to `count` threads (BLAS, OpenMP and XLA on CPU)."""
    target = os.environ if environ is None else environ
    for name in THREAD_VARIABLES:
        target[name] = str(count)


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_device(device: str, environ: Environment | None = None) -> None:
    """Makes JAX use one kind of device: a key of PLATFORMS.

    Raises:
      UsageError: an unknown name.
    """
    target = os.environ if environ is None else environ
    if device not in PLATFORMS:
        raise UsageError(f"--device: expected one of {', '.join(PLATFORMS)}, got {device!r}")
    target["JAX_PLATFORMS"] = PLATFORMS[device]


def require_device(device: str, *, joins: bool = False) -> None:
    """Starts JAX on the device that `set_device` chose; imports it.

    Args:
      device: a key of PLATFORMS.
      joins: whether this process works with others, which it must join before it has devices.

    Raises:
      UsageError: there is none of that kind here.
    """
    import jax

    if joins:
        from rcodec_jax.scale import initialize_from_environment

        initialize_from_environment()

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # a missing CUDA plug-in is a bare assertion
        reason = str(error).partition("(set JAX_PLATFORMS")[0] or "JAX has no plug-in for it"
        raise UsageError(
            f"--device: expected an available device, got {device!r}: {reason}"
        ) from error


def set_cpu_devices(count: int, environ: Environment | None = None) -> None:
    """Splits the CPU into `count` JAX devices, to try a sharded run on one machine."""
    target = os.environ if environ is None else environ
    target["JAX_NUM_CPU_DEVICES"] = str(count)


def cache_folder(environ: Environment | None = None) -> Path:
    """Where compiled programs are kept: RCODEC_CACHE_DIR, else the user's cache folder."""
    target = os.environ if environ is None else environ
    if target.get("RCODEC_CACHE_DIR"):
        return Path(target["RCODEC_CACHE_DIR"])
    if target.get("XDG_CACHE_HOME"):
        return Path(target["XDG_CACHE_HOME"]) / "rcodec"
    return Path(os.path.expanduser("~")) / ".cache" / "rcodec"


def set_compilation_cache(environ: Environment | None = None) -> Path | None:
    """Turns on JAX's persistent compilation cache, so that a second command compiles nothing.

    A folder that cannot be written turns it off without a word: a cache is never worth an error.

    Returns:
      The folder in use, None where there is none.
    """
    target = os.environ if environ is None else environ
    if target.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(target["JAX_COMPILATION_CACHE_DIR"])
    folder = cache_folder(target) / "jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return None
    target["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    # By default only programs that took a second to compile are kept; a codec has many smaller.
    target.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    target.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    return folder


def prepare(
    *,
    threads: int | None = None,
    device: str | None = None,
    cpu_devices: int | None = None,
    uses_jax: bool = False,
    environ: Environment | None = None,
) -> None:
    """Sets up the environment for one command; to be called before anything heavy is imported.

    Args:
      threads: size of every thread pool, None for the libraries' own choice.
      device: a key of PLATFORMS, None for JAX's own choice.
      cpu_devices: JAX devices to make of the CPU, None for one.
      uses_jax: whether the command compiles programs, which the cache then keeps.
      environ: the environment to change, `os.environ` by default.
    """
    target = os.environ if environ is None else environ
    if threads is not None:
        set_threads(threads, target)
    if device is not None:
        set_device(device, target)
    if cpu_devices is not None:
        set_cpu_devices(cpu_devices, target)
    if uses_jax:
        # XLA's own log lines would drown a one-line error message.
        target.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if not _has_tpu():
            for name, value in _QUIET_LIBTPU.items():
                target.setdefault(name, value)
        set_compilation_cache(target)
        share_heap(target)


def share_heap(environ: Environment | None = None) -> None:
    """Gives all threads of this process one heap, where the C library is glibc.

    It has one for each thread, and each keeps what it has had: 230 of the 1,300 MiB that decoding
    24 megapixels took. Settings of the user's own stay.
    """
    target = os.environ if environ is None else environ
    if "MALLOC_ARENA_MAX" in target or "GLIBC_TUNABLES" in target:
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def restart_with_huge_pages(transparent: Path = _TRANSPARENT) -> None:
    """Starts this process's program anew, once, such that its heap lies on huge pages.

    XLA's CPU back end asks for the memory of a step, hundreds of megabytes, and gives it back, in
    every step; in pages of 4 kB that is 100,000 faults and a fifth of the time. The C library takes
    huge pages when it is told to before a program starts (glibc 2.35 and later; others do not
    mind), and where the system gives them to those that ask. A setting of the user's own stays.
    """
    if "GLIBC_TUNABLES" in os.environ or not sys.executable or not sys.orig_argv:
        return
    try:
        if "[madvise]" not in transparent.read_text():
            return  # all have them, none can, or it is not Linux
    except OSError:
        return
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    sys.stdout.flush()
    sys.stderr.flush()
    # Where that fails the program continues as it is.
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _has_tpu(devices: Path = Path("/dev")) -> bool:
    """Whether a TPU's driver has left a device file."""
    return any(devices.glob("accel*")) or (devices / "vfio").exists()
