"""Golden files of models that are made: varying/, halves/, centroids/, skipping/.

    python tests/golden/models.py hashes NAME   what the files there hold, as JSON (imports no JAX)
    python tests/golden/models.py write NAME    makes the model, its files and golden.json anew

The nano bundle's prior is nearly constant, so a mistake in the integer network would hardly show.
In varying/ means and spreads run over most of what the tables know, from cell to cell, from channel
to channel and with z, the node and the map. Each of the others adds to the one before it: symbols
that know of each other, integers that stand for centroids, symbols that are not coded. They are
integer parts alone: there are no pictures. They are kept compressed, for their bytes are what files
name them by.
"""

from __future__ import annotations

import dataclasses
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
    Centroids,
    ContextModel,
    Conv,
    DepthToSpace,
    Film,
    IntegerNetwork,
    IntegerPart,
    LeakyRelu,
    StaticTables,
)

HERE = Path(__file__).parent
NO_NETWORKS = bytes(4)
"""Float digest of the files."""

CHANNELS, HYPER = 32, 3

Case = tuple[int, int, str, int, int]
"""Height, width, map, lowest node, highest node."""


def drawer(key: int) -> Callable[..., np.ndarray]:
    """A source of integers in -reach .. reach, of the shape it is given."""
    words = np.random.Philox(key=key)

    def draw(reach: int, *shape: int) -> np.ndarray:
        raw = words.random_raw(int(np.prod(shape))) >> np.uint64(32)
        return (raw % np.uint64(2 * reach + 1)).astype(np.int64).reshape(shape) - reach

    return draw


def varying() -> IntegerPart:
    """The model: every kind of layer, drawn from Philox, with the nano bundle's Gaussian tables."""
    nano, _ = make.load_part()
    draw = drawer(20)

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


def halves() -> IntegerPart:
    """It with hyper-latents from coarse to fine, and a context network, drawn from Philox."""
    draw = drawer(21)

    def conv(side: int, cin: int, cout: int, shift: int) -> Conv:
        weight = draw(8000, side, side, cin, cout).astype(np.int16)
        return Conv(weight, draw(200 << shift, cout), shift)

    channels, width = CHANNELS, 8
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
    count = np.array([sizes] * HYPER)
    freq = [np.maximum(1, 20000 >> np.abs(np.arange(n) - n // 2)) for n in sizes]
    return dataclasses.replace(
        varying(),
        hyper_tables=StaticTables(-(count // 2), count, np.concatenate(freq * HYPER)),
        hyper_weight=np.array([256, 128, -77], np.int16),
        context=ContextModel(network, gain, step),
    )


def centroids() -> IntegerPart:
    """It with centroids drawn from Philox."""
    raw = np.random.Philox(key=33).random_raw(64 * 192) >> np.uint64(49)
    table = raw.astype(np.int16).reshape(64, 192)
    return dataclasses.replace(halves(), centroids=Centroids(table))


def skipping() -> IntegerPart:
    """It with a good part of its tables skipped: what is almost surely 0 is not coded."""
    return dataclasses.replace(centroids(), skip=2000)


@dataclasses.dataclass(frozen=True)
class Model:
    """A model and its golden files.

    Attributes:
      make: makes it.
      cases: of the files, by name.
    """

    make: Callable[[], IntegerPart]
    cases: dict[str, Case]

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return HERE / self.make.__name__

    @property
    def record(self) -> dict[str, object]:
        """golden.json there."""
        found: dict[str, object] = json.loads((self.folder / "golden.json").read_text("utf-8"))
        return found

    def load(self) -> IntegerPart:
        """The model as it is kept."""
        packed = (self.folder / "integer.safetensors.xz").read_bytes()
        return IntegerPart.from_bytes(lzma.decompress(packed))

    def hashes(self) -> dict[str, dict[str, str]]:
        """What the files there hold."""
        return make.hashes(self.load(), self.folder)

    def write(self) -> None:
        """The model, its files and their record."""
        self.folder.mkdir(exist_ok=True)
        part = self.make()
        packed = lzma.compress(part.to_bytes(), preset=9 | lzma.PRESET_EXTREME)
        (self.folder / "integer.safetensors.xz").write_bytes(packed)
        for name, case in self.cases.items():
            (self.folder / f"{name}.rdc").write_bytes(make.make(part, NO_NETWORKS, case))
        record = {
            "format_version": FORMAT_VERSION,
            "integer_digest": part.digest.hex(),
            "float_digest": NO_NETWORKS.hex(),
            "files": make.hashes(part, self.folder),
        }
        text = json.dumps(record, indent=1) + "\n"
        (self.folder / "golden.json").write_text(text, encoding="utf-8")


PIXEL = {"pixel": (1, 1, "uniform", 350, 350)}
ODD_BOX = {"odd_box": (37, 53, "box", 150, 700)}
GRADIENT = {"gradient": (296, 328, "gradient", 60, 960)}  # hyper-latents on all four grids
LANES_BOX = {"lanes_box": (776, 776, "box", 150, 500)}  # 301,088 values: both halves in lanes

MODELS = {
    "varying": Model(
        varying,
        {
            "cell": (8, 8, "uniform", 350, 350),
            "tall_fine": (72, 40, "uniform", 90, 90),
            "wide_coarse": (64, 160, "uniform", 820, 820),
            **ODD_BOX,
            "gradient": (96, 128, "gradient", 60, 960),
            "lanes_box": (776, 776, "box", 400, 900),
        },
    ),
    "halves": Model(halves, PIXEL | ODD_BOX | GRADIENT | LANES_BOX),
    "centroids": Model(centroids, PIXEL | ODD_BOX | GRADIENT),
    "skipping": Model(skipping, PIXEL | GRADIENT | LANES_BOX),
}


def main(arguments: list[str]) -> int:
    """The command line: an exit code."""
    if len(arguments) != 2 or arguments[0] not in ("hashes", "write") or arguments[1] not in MODELS:
        print(__doc__, file=sys.stderr)
        return 2
    model = MODELS[arguments[1]]
    if arguments[0] == "write":
        model.write()
    found = model.hashes()
    assert "jax" not in sys.modules  # symbols need none
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
