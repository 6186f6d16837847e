"""Golden files of a model whose symbols know of each other: halves/, beside those of varying/.

    python tests/golden/halves.py hashes   what the files there hold, as JSON (imports no JAX)
    python tests/golden/halves.py write    makes the model, the files and golden.json anew

To the varying model it adds what version 0 of the format allows beside it: hyper-latents from
coarse to fine, and a context network for the second half of the latent.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import varying

from rcodec_jax.entropy import (
    ContextModel,
    Conv,
    Film,
    IntegerNetwork,
    IntegerPart,
    LeakyRelu,
    StaticTables,
)

HERE = Path(__file__).parent
FOLDER = HERE / "halves"
PART = FOLDER / varying.PART.name
RECORD = FOLDER / varying.RECORD.name
CASES = {
    # name: (height, width, map, lowest node, highest node)
    "pixel": (1, 1, "uniform", 350, 350),
    "odd_box": (37, 53, "box", 150, 700),
    "gradient": (296, 328, "gradient", 60, 960),
    "lanes_box": (776, 776, "box", 150, 500),
}
"""The third has hyper-latents on all four grids; the last has both halves in lanes."""


def make_part() -> IntegerPart:
    """The varying model, with weights for neighbours and a context network drawn from Philox."""
    words = np.random.Philox(key=21)

    def draw(reach: int, *shape: int) -> np.ndarray:
        """Integers in -reach .. reach."""
        raw = words.random_raw(int(np.prod(shape))) >> np.uint64(32)
        return (raw % np.uint64(2 * reach + 1)).astype(np.int64).reshape(shape) - reach

    def conv(side: int, cin: int, cout: int, shift: int) -> Conv:
        weight = draw(8000, side, side, cin, cout).astype(np.int16)
        return Conv(weight, draw(200 << shift, cout), shift)

    channels, width = varying.CHANNELS, 8
    rows = np.concatenate([3072 + draw(2048, 1024, width), draw(300, 1024, width)], 1)
    network = IntegerNetwork(
        [
            conv(1, 3 * channels, width, 15),
            LeakyRelu(3),
            Film(rows.astype(np.int16), 11, 1),
            conv(3, width, width, 15),
            LeakyRelu(2),
            conv(1, width, 2 * channels, 12),
        ]
    )
    gain = (32768 * np.arange(64) // 63).astype(np.int32)
    step = (500 + 100 * np.arange(1024)).astype(np.int32)
    # four contexts by class: the first wide, the others narrower as neighbours agree more
    sizes = [41, 5, 9, 17] * 4
    count = np.array([sizes] * varying.HYPER)
    freq = [np.maximum(1, 20000 >> np.abs(np.arange(n) - n // 2)) for n in sizes]
    return dataclasses.replace(
        varying.make_part(),
        hyper_tables=StaticTables(-(count // 2), count, np.concatenate(freq * varying.HYPER)),
        hyper_weight=np.array([256, 128, -77], np.int16),
        context=ContextModel(network, gain, step),
    )


def main(arguments: list[str]) -> int:
    return varying.command(arguments, __doc__, FOLDER, make_part, CASES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
