"""Accelerators that plans are made for: what a chip has, and topologies of chips that are not here.

Sources of the figures: Google Cloud's pages of the system architectures (cloud.google.com/tpu/docs/
v5e, v5p and v6e: peak bf16, HBM, interconnect in Gbit/s, network of a host or a pod), and NVIDIA's
H100 SXM data sheet. They are peaks; a bound made of them is never reached.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

from jax.experimental import topologies

from rcodec_jax.errors import UsageError

GB = 10**9


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device of a topology.

    Attributes:
      name: as users know it.
      memory_bytes: its HBM.
      peak_flops: bf16 products with fp32 sums, in FLOP/s.
      memory_bandwidth: of the HBM, in bytes/s.
      link_bandwidth: what it can send to the other chips of its slice over all links, in bytes/s.
      network_bandwidth: its share of what its host can send to other slices, in bytes/s.
    """

    name: str
    memory_bytes: int
    peak_flops: float
    memory_bandwidth: float
    link_bandwidth: float
    network_bandwidth: float


CHIPS = {
    # ICI of 1600 Gbit/s over 4 ports; pods of 256 chips have 6.4 Tbit/s to the outside.
    "v5e": Chip("TPU v5e", 16 * GB, 197e12, 819e9, 200e9, 3.1e9),
    # ICI of 4800 Gbit/s over 6 ports; hosts of 4 chips have 200 Gbit/s.
    "v5p": Chip("TPU v5p", 95 * GB, 459e12, 2765e9, 600e9, 6.2e9),
    # ICI of 3200 Gbit/s over 4 ports; pods of 256 chips have 25.6 Tbit/s.
    "v6e": Chip("TPU v6e", 32 * GB, 918e12, 1600e9, 400e9, 12.5e9),
    # NVLink of 900 GB/s, both directions together; 400 Gbit/s of network a GPU is usual.
    "h100": Chip("NVIDIA H100 SXM", 80 * GB, 989e12, 3350e9, 450e9, 50e9),
}
"""By the name that topologies start with."""

_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_STDERR_LOG_LEVEL": "3",
}
"""Said before libtpu is loaded, which else looks for a TPU of this machine and complains."""

_TPUS = re.compile(r"^(v5e|v5p|v6e):(\d+x\d+(?:x\d+)?)$")
_GPUS = re.compile(r"^(h100):([1-8])$")

_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132  fpus_per_core: 128  threads_per_warp: 32  clock_rate_ghz: 1.98
  threads_per_core_limit: 2048  threads_per_block_limit: 1024
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  shared_memory_per_core: 233472  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  l2_cache_size: 52428800  memory_bandwidth: 3350000000000  device_memory_size: 80000000000
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""The card as XLA wants it described (its GpuTargetConfigProto); figures of NVIDIA's H100 paper."""


def topology(name: str, slices: int = 1) -> tuple[Chip, Sequence[Any]]:
    """Devices of a topology, to compile for without having one.

    Args:
      name: generation and shape of a slice of TPUs, such as "v5e:16x16" or "v5p:4x4x4"; or
        "h100:8", a host of so many GPUs.
      slices: number of such slices or hosts.

    Returns:
      What a chip has, and the devices, which can be compiled for and not run on.

    Raises:
      UsageError: an unknown topology, or the compiler for it is not installed.
    """
    if found := _GPUS.match(name):
        return CHIPS[found[1]], _gpus(int(found[2]), slices)
    if found := _TPUS.match(name):
        return CHIPS[found[1]], _tpus(name, slices)
    raise UsageError(
        "topology: expected v5e:AxB, v6e:AxB, v5p:AxBxC or h100:N, such as v5e:16x16 or h100:8, "
        f"got {name!r}"
    )


def _tpus(name: str, slices: int) -> Sequence[Any]:
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    if importlib.util.find_spec("libtpu") is None:
        raise UsageError(
            "plans for TPUs need libtpu: expected it to be installed (the extra 'tpu'), got nothing"
        )
    options = {} if slices == 1 else {"num_slices": slices}
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
    except Exception as error:  # jaxlib has no narrower one in common for what libtpu refuses
        line = str(error).strip().partition("\n")[0]
        raise UsageError(f"topology {name!r} is unknown to libtpu: {line}") from error


def _gpus(count: int, hosts: int) -> Sequence[Any]:
    if importlib.util.find_spec("jax_cuda12_plugin") is None:
        raise UsageError(
            "plans for GPUs need the compiler of JAX for CUDA: expected jax-cuda12-plugin to be "
            "installed (no driver, no CUDA), got nothing"
        )
    shape = f"1x{hosts}x{count}"
    description = topologies.get_topology_desc(
        shape, platform="cuda", target_config=_H100, topology=shape
    )
    return description.devices
