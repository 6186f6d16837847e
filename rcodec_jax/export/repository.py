"""Where a model in diffusers' layout lies: a folder, or a repository of the Hugging Face hub."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.limits import MAX_JSON_BYTES
from rcodec_jax.model.tensorstream import Entry, read_header, read_tensor

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WEIGHTS = re.compile(r"diffusion_pytorch_model(\.fp16)?\.safetensors(\.index(\.fp16)?\.json)?")
"""Whole or in shards with an index, in full or half precision."""


ANSWER_S = 4.0
"""Seconds within which the hub has to answer."""


class Repository:
    """The files of a model.

    Attributes:
      name: as the user gave it.
    """

    def __init__(self, name: str) -> None:
        """A folder of that name if there is one, else the hub.

        Raises:
          UsageError: neither a folder nor a hub id, no `huggingface_hub`, or none of that name.
        """
        self.name = name
        self._folder: Path | None = None
        if Path(name).is_dir():
            self._folder = Path(name)
            files = (*Path(name).glob("*"), *Path(name).glob("*/*"))
            self._files = {path.relative_to(name).as_posix() for path in files}
        elif _HUB_ID.fullmatch(name) and not Path(name).exists():
            self._files = set(_listed(name))
        else:
            raise UsageError(
                f"expected a folder in diffusers' layout or a hub id such as owner/name, "
                f"got {name!r}"
            )

    def __contains__(self, file: str) -> bool:
        return file in self._files

    def below(self, folder: str) -> list[str]:
        """Files right in a folder, "unet/config.json" and so on."""
        return sorted(f for f in self._files if re.fullmatch(rf"{folder}/[^/]+", f))

    def path(self, file: str) -> Path:
        """Where a file lies on this machine; fetched first if it is on the hub.

        Raises:
          UsageError: there is none of that name, or it cannot be fetched.
        """
        if file not in self._files:
            raise UsageError(f"{self.name}: expected diffusers' layout, got no {file}")
        if self._folder is not None:
            return self._folder / file
        import huggingface_hub

        try:
            return Path(huggingface_hub.hf_hub_download(self.name, file))
        except Exception as error:  # of the hub, of the network, of the cache
            raise _unreachable(self.name, error) from error

    def json(self, file: str) -> dict[str, Any]:
        """Reads a JSON object.

        Raises:
          UsageError: there is none, or something else.
        """
        path = self.path(file)
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UsageError(f"{file}: more than {MAX_JSON_BYTES} bytes")
        try:
            data = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{self.name}: {file}: expected JSON, got: {error}") from error
        if not isinstance(data, dict):
            raise UsageError(f"{self.name}: {file}: expected an object")
        return data

    def tensors(self, folder: str) -> Tensors:
        """The tensors of "unet" or "vae", full precision before half.

        Raises:
          UsageError: no safetensors there, or damaged ones.
        """
        names = [file.partition("/")[2] for file in self.below(folder)]
        found = sorted((n for n in names if _WEIGHTS.fullmatch(n)), key=lambda n: ("fp16" in n, n))
        if not found:
            unsafe = any(name.endswith((".bin", ".ckpt", ".pt")) for name in names)
            got = "pickles only, which may run anything when opened" if unsafe else "none"
            raise UsageError(
                f"{self.name}: {folder}: expected diffusion_pytorch_model.safetensors, got {got}"
            )
        shards: Iterable[str] = found[:1]
        if found[0].endswith(".json"):
            weight_map = self.json(f"{folder}/{found[0]}").get("weight_map")
            if not isinstance(weight_map, dict):
                raise UsageError(f"{self.name}: {folder}/{found[0]}: expected a weight_map")
            shards = sorted({str(shard) for shard in weight_map.values()})
        return Tensors([self.path(f"{folder}/{shard}") for shard in shards])


class Tensors:
    """Tensors in safetensors files, read one at a time."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Reads the headers.

        Raises:
          UsageError: a file that is damaged, or holds anything but floats and integers.
        """
        self._where: dict[str, tuple[Path, Entry]] = {}
        for path in paths:
            try:
                with path.open("rb") as file:
                    _, entries = read_header(file, path.stat().st_size)
            except (OSError, RcodecError) as error:
                raise UsageError(f"{path}: {error}") from error
            self._where |= {name: (path, entry) for name, entry in entries.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor."""
        return {name: entry.shape for name, (_, entry) in self._where.items()}

    def read(self, name: str) -> np.ndarray:
        """One tensor, as it is stored."""
        path, entry = self._where[name]
        with path.open("rb") as file:
            return read_tensor(file, entry)


def _listed(name: str) -> list[str]:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UsageError(
            f"{name}: expected a folder, as models of the hub need the package huggingface_hub "
            "(pip install 'rcodec-jax[hub]'), got neither"
        ) from error
    check_reachable(name, huggingface_hub.constants.ENDPOINT)
    try:
        return list(huggingface_hub.list_repo_files(name))
    except Exception as error:  # of the hub, of the network
        raise _unreachable(name, error) from error


def check_reachable(name: str, address: str) -> None:
    """Whether a machine answers at all: the hub's own library tries again and again for minutes.

    Behind a proxy, or told to stay offline (HF_HUB_OFFLINE), the library is left to find out.

    Raises:
      UsageError: nobody answers within `ANSWER_S`.
    """
    url = urllib.parse.urlsplit(address)
    port = url.port or (80 if url.scheme == "http" else 443)
    if urllib.request.getproxies() or os.environ.get("HF_HUB_OFFLINE") or not url.hostname:
        return
    found: list[OSError | None] = []

    def connect() -> None:
        try:
            socket.create_connection((url.hostname, port), ANSWER_S).close()
            found.append(None)
        except OSError as error:
            found.append(error)

    # In a thread, as looking up a name has no bound of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    fault = found[0] if found else TimeoutError(f"no answer within {ANSWER_S:g} s")
    if fault is not None:
        raise UsageError(
            f"{name}: expected a folder, or the hub within reach, got neither: "
            f"{url.hostname}: {fault.strerror or fault}"
        ) from fault


def _unreachable(name: str, error: Exception) -> UsageError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UsageError(f"{name}: expected a folder or a repository of the hub, got: {reason}")
