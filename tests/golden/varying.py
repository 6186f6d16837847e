"""Golden files of a model whose prior varies: varying/, beside those of the nano bundle.

    python tests/golden/varying.py hashes   what the files there hold, as JSON (imports no JAX)
    python tests/golden/varying.py write    makes the model, the files and golden.json anew

The nano bundle's prior is nearly constant, so a mistake in the integer network would hardly show.
Here means and spreads run over most of what the tables know, from cell to cell, from channel to
channel and with z, the node and the map. The model is made, not trained, and is an integer part
alone: there are no pictures. It is kept compressed, for its bytes are what files name it by.
"""

from __future__ import annotations

import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import make

from rcodec_jax.bitstream import FORMAT_VERSION
from rcodec_jax.entropy import (
    Conv,
    DepthToSpace,
    Film,
    IntegerNetwork,
    IntegerPart,
    LeakyRelu,
    StaticTables,
)

HERE = Path(__file__).parent
FOLDER = HERE / "varying"
PART = FOLDER / "integer.safetensors.xz"
RECORD = FOLDER / "golden.json"
NO_NETWORKS = bytes(4)
"""Float digest of the files."""

CHANNELS, HYPER = 32, 3
CASES = {
    # name: (height, width, map, lowest node, highest node)
    "cell": (8, 8, "uniform", 350, 350),
    "odd_box": (37, 53, "box", 150, 700),
    "tall_fine": (72, 40, "uniform", 90, 90),
    "wide_coarse": (64, 160, "uniform", 820, 820),
    "gradient": (96, 128, "gradient", 60, 960),
    "lanes_box": (776, 776, "box", 400, 900),
}
"""The last has 301,088 values, so its payload is in lanes."""


def make_part() -> IntegerPart:
    """The model: every kind of layer, drawn from Philox, with the nano bundle's Gaussian tables."""
    nano, _ = make.load_part()
    words = np.random.Philox(key=20)

    def draw(reach: int, *shape: int) -> np.ndarray:
        """Integers in -reach .. reach."""
        raw = words.random_raw(int(np.prod(shape))) >> np.uint64(32)
        return (raw % np.uint64(2 * reach + 1)).astype(np.int64).reshape(shape) - reach

    def conv(side: int, cin: int, cout: int, shift: int, bias: np.ndarray | int = 0) -> Conv:
        weight = draw(8000, side, side, cin, cout).astype(np.int16)
        return Conv(weight, bias + draw(1000 << shift, cout), shift)

    def film(channels: int, stride: int) -> Film:
        """Gains .5 .. 2 and offsets that go evenly from one end of the nodes to the other."""
        ends = np.concatenate([3072 + draw(2048, 2, channels), draw(5000, 2, channels)], 1)
        node = np.arange(1024)[:, None]
        rows = (ends[0] * (1023 - node) + ends[1] * node) // 1023
        return Film(rows.astype(np.int16), 11, stride)

    spread = np.repeat([0, -3 * 2048], CHANNELS)  # means about 0, log2 sigma about -3
    freq = np.concatenate([64 + (4000 >> abs(k - 8)) * np.ones(1, np.int64) for k in range(17)])
    wide = np.full(41, 1500)
    tables = [freq, wide, freq, wide] * HYPER
    count = np.array([len(table) for table in tables]).reshape(HYPER, 4)
    return IntegerPart(
        latent_channels=CHANNELS,
        hyper_channels=HYPER,
        hyper_stride=4,
        node_log2_s=nano.node_log2_s,
        node_class=(np.arange(1024) // 256).astype(np.uint8),
        gaussian=nano.gaussian,
        hyper_tables=StaticTables(-(count // 2), count, np.concatenate(tables)),
        network=IntegerNetwork(
            [
                conv(3, HYPER, 8, 4),
                film(8, 4),
                LeakyRelu(3),
                conv(3, 8, 16, 15),
                DepthToSpace(2),
                film(4, 2),
                LeakyRelu(2),
                conv(5, 4, 32, 15),
                DepthToSpace(2),
                film(8, 1),
                conv(1, 8, 2 * CHANNELS, 16, spread << 16),
            ]
        ),
    )


def load_part(path: Path = PART) -> IntegerPart:
    """The model as it is kept."""
    return IntegerPart.from_bytes(lzma.decompress(path.read_bytes()))


def write(
    folder: Path, part: IntegerPart, cases: dict[str, tuple[int, int, str, int, int]]
) -> None:
    """The model, its files and their record."""
    folder.mkdir(exist_ok=True)
    packed = lzma.compress(part.to_bytes(), preset=9 | lzma.PRESET_EXTREME)
    (folder / PART.name).write_bytes(packed)
    for name, case in cases.items():
        (folder / f"{name}.rdc").write_bytes(make.make(part, NO_NETWORKS, case))
    record = {
        "format_version": FORMAT_VERSION,
        "integer_digest": part.digest.hex(),
        "float_digest": NO_NETWORKS.hex(),
        "files": make.hashes(part, folder),
    }
    text = json.dumps(record, indent=1) + "\n"
    (folder / RECORD.name).write_text(text, encoding="utf-8")


def command(
    arguments: list[str],
    usage: str | None,
    folder: Path,
    make_part: Callable[[], IntegerPart],
    cases: dict[str, tuple[int, int, str, int, int]],
) -> int:
    """The command line of this file and of those that make other models: an exit code."""
    if arguments not in (["hashes"], ["write"]):
        print(usage, file=sys.stderr)
        return 2
    if arguments == ["write"]:
        write(folder, make_part(), cases)
    found = make.hashes(load_part(folder / PART.name), folder)
    assert "jax" not in sys.modules  # symbols need none
    print(json.dumps(found))
    return 0


def main(arguments: list[str]) -> int:
    return command(arguments, __doc__, FOLDER, make_part, CASES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
