"""The other side of `rcodec bench unet`: diffusers' UNet and VAE under PyTorch.

A script for an interpreter that has torch and diffusers, which need not be the one that runs
rcodec: it imports nothing of this package, and the package never imports it. Its argument is a job
in JSON: unet and vae (config.json of diffusers), context ([tokens, features]), dtype, threads.
It answers one JSON object a line: what it is, then for each request on standard input (what: "unet"
or "decode"; how: "eager" or "compile"; height and width in cells) the seconds of one call.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Answers requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the libraries print goes to standard error
    warnings.simplefilter("ignore")

    def answer(**figures: Any) -> None:
        print(json.dumps(figures), file=answers, flush=True)

    try:
        import diffusers
        import torch
    except ImportError as error:
        answer(missing=error.name)
        return
    peer = Peer(json.loads(sys.argv[1]))
    answer(
        name=f"diffusers {diffusers.__version__}, torch {torch.__version__}",
        device=peer.device,
        threads=torch.get_num_threads(),
    )
    for line in sys.stdin:
        try:
            answer(seconds=peer.measure(**json.loads(line)))
        except Exception as error:  # torch.compile raises whatever the compiler behind it does
            answer(error=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")


class Peer:
    """Random networks and what to call."""

    def __init__(self, job: dict[str, Any]) -> None:
        import torch
        from diffusers import AutoencoderKL, UNet2DConditionModel

        if job["threads"]:
            torch.set_num_threads(job["threads"])
        torch.manual_seed(0)
        torch.set_grad_enabled(False)
        self.device = "cuda" if job["accelerator"] and torch.cuda.is_available() else "cpu"
        self._to = {"device": self.device, "dtype": getattr(torch, job["dtype"])}
        unet = UNet2DConditionModel.from_config(job["unet"]).eval().to(**self._to)
        vae = AutoencoderKL.from_config(job["vae"]).eval().to(**self._to)
        context = torch.randn(1, *job["context"]).to(**self._to)
        t = torch.tensor([500], device=self.device)
        self._channels = job["unet"]["in_channels"]
        self._calls: dict[tuple[str, str], Callable[[Any], Any]] = {
            ("unet", "eager"): lambda x: unet(x, t, context).sample,
            ("decode", "eager"): lambda x: vae.decode(x).sample,
        }
        for what in ("unet", "decode"):
            eager = self._calls[what, "eager"]
            self._calls[what, "compile"] = torch.compile(eager, dynamic=False)

    def measure(self, what: str, how: str, height: int, width: int) -> float:
        """Seconds of one call, compilation included where it is the first."""
        import torch

        x = torch.randn(1, self._channels, height, width).to(**self._to)
        self._wait()
        start = time.perf_counter()
        self._calls[what, how](x)
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    main()
