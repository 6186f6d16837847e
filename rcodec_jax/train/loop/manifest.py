"""What a run was made with: a line of JSON in the workdir for each start of it."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

import rcodec_jax
from rcodec_jax.config import Change, to_dict
from rcodec_jax.config.train import Config
from rcodec_jax.files import atomic_write, read_json_lines
from rcodec_jax.versions import installed_versions

MANIFEST = "manifest.jsonl"

_PACKAGES = (
    "jax",
    "jaxlib",
    "libtpu",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "array-record",
    "numpy",
    "pillow",
)
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def describe_start(
    config: Config, mesh: Mesh, data: dict[str, Any], step: int, changes: Sequence[Change] = ()
) -> dict[str, Any]:
    """One entry of a run's manifest.

    Args:
      config: the run.
      mesh: its devices.
      data: what it reads from; "digest" is compared by the next start.
      step: finished steps at the start.
      changes: what differs from the configuration of the start before.

    Returns:
      JSON values: time and command, versions, digest of the code and its commit, devices, seeds,
      data, and the whole configuration.
    """
    devices = mesh.devices.flat
    return {
        "step": step,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": installed_versions(_PACKAGES),
        "code": code_digest(),
        "commit": git_commit(),
        "devices": {
            "kind": devices[0].device_kind,
            "platform": devices[0].platform,
            "count": mesh.devices.size,
            "processes": jax.process_count(),
            "mesh": dict(mesh.shape),
        },
        "flags": {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)},
        "seed": config.train.seed,
        "data": data,
        "changes": [str(change) for change in changes],
        "config": to_dict(config),
    }


def git_commit(root: Path | None = None) -> str | None:
    """The commit that the package's checkout is at, "+" after it where the code was edited since.

    None for an installed package, or without git.

    Args:
      root: of the package.
    """
    root = Path(rcodec_jax.__file__).parent if root is None else root
    if not (root.parent / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout

    try:
        edited = git("status", "--porcelain", "--", ".").strip()
        return git("rev-parse", "HEAD").strip() + "+" * bool(edited)
    except (OSError, subprocess.SubprocessError):
        return None


def append_start(workdir: Path, entry: dict[str, Any]) -> None:
    """Adds an entry to the manifest of a run; from the first process only."""
    if jax.process_index() == 0:
        entries = [*read_starts(workdir), entry]  # without a line cut off by a crash
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        atomic_write(workdir / MANIFEST, lines.encode())


def read_starts(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The entries of a run's manifest, in order; none where there is no manifest."""
    return read_json_lines(Path(workdir) / MANIFEST)


def code_digest() -> str:
    """SHA-256 over the package's Python files, names and contents."""
    root = Path(rcodec_jax.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()
