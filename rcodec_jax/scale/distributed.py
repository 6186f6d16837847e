"""Start-up of several processes from the environment; nothing happens for a process alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from rcodec_jax.errors import UsageError

_ADDRESS = "JAX_COORDINATOR_ADDRESS"
_COUNT = "JAX_NUM_PROCESSES"
_INDEX = "JAX_PROCESS_ID"
_AUTO = "RCODEC_DISTRIBUTED"


def initialize_from_environment(environ: Mapping[str, str] | None = None) -> bool:
    """Joins the other processes of this run, if there are any. Call it before any use of a device.

    Either all of `JAX_COORDINATOR_ADDRESS` (host:port of process 0), `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID` are set, or `RCODEC_DISTRIBUTED=auto` asks JAX to find them out from the
    cluster (Slurm, Open MPI, Kubernetes, TPU pods).

    Args:
      environ: the environment; `os.environ` if None.

    Returns:
      Whether processes were joined: False for a process alone, and on a second call.

    Raises:
      UsageError: only some of the variables are set, or their values make no sense.
    """
    environ = os.environ if environ is None else environ
    if jax.distributed.is_initialized():
        return False
    mode = environ.get(_AUTO, "")
    if mode not in ("", "auto"):
        raise UsageError(f"{_AUTO}: expected 'auto' or nothing, got {mode!r}")
    if mode == "auto":
        jax.distributed.initialize()
        return True
    given = [name for name in (_ADDRESS, _COUNT, _INDEX) if environ.get(name)]
    if not given:
        return False
    if len(given) < 3:
        raise UsageError(
            f"expected all of {_ADDRESS}, {_COUNT} and {_INDEX}, got only {', '.join(given)}"
        )
    count, index = _number(environ, _COUNT), _number(environ, _INDEX)
    if not 0 <= index < count:
        raise UsageError(f"expected {_INDEX} in 0..{_COUNT} - 1, got {index} of {count}")
    jax.distributed.initialize(environ[_ADDRESS], num_processes=count, process_id=index)
    return True


def check_agreement(facts: Mapping[str, str]) -> None:
    """Makes sure that all processes of a run were given the same; every process calls it.

    Args:
      facts: name -> a text that has to be the same everywhere.

    Raises:
      UsageError: in every process; names the fact and a process that differs from the first.
    """
    if jax.process_count() == 1:
        return
    digests = [hashlib.sha256(text.encode()).digest() for text in facts.values()]
    mine = np.frombuffer(b"".join(digests), np.uint8).reshape(len(facts), -1)
    everyone = np.asarray(multihost_utils.process_allgather(mine))
    for index, theirs in enumerate(everyone):
        for name, expected, got in zip(facts, everyone[0], theirs, strict=True):
            if not np.array_equal(got, expected):
                raise UsageError(
                    f"expected the same {name} in all processes, got another in process {index}"
                )


def _number(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ[name])
    except ValueError:
        raise UsageError(f"{name}: expected a whole number, got {environ[name]!r}") from None
