"""Golden files: made of integer symbols and the nano bundle's integer part, by integers alone.

    python tests/golden/make.py hashes     what the files here hold, as JSON (imports no JAX)
    python tests/golden/make.py write      makes the files of CASES and golden.json anew
    python tests/golden/make.py photo      makes photo.rdc and photo.png anew (floats: needs JAX)

A change of a byte in any of them is a change of format and needs a new format version. The symbols
are drawn from the tables themselves, with a few outliers, so the files have a real file's sizes;
`photo.rdc` is a real one, part of a photo that comes with scikit-image.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from rcodec_jax.bitstream import FORMAT_VERSION, Header, write_container
from rcodec_jax.bitstream.container import coded_size
from rcodec_jax.codec.verify import symbol_hashes
from rcodec_jax.entropy import IntegerPart, dither_indices, encode_level_map, encode_symbols
from rcodec_jax.regions.levelmap import LevelMap, cell_shape, quantise_nodes, uniform_level_map

HERE = Path(__file__).parent
BUNDLE = HERE / "nano"
RECORD = HERE / "golden.json"
PHOTO = "photo.rdc"


class Case(NamedTuple):
    """What a golden file holds: sides in pixels, map, nodes, and whether the picture is halved."""

    height: int
    width: int
    kind: str
    low: int
    high: int
    resampling: int = 1


CASES = {
    "pixel": Case(1, 1, "uniform", 300, 300),
    "line": Case(1, 17, "uniform", 80, 80),
    "odd_fine": Case(37, 53, "uniform", 100, 100),
    "odd_box": Case(37, 53, "box", 150, 600),
    "tall_gradient": Case(129, 64, "gradient", 80, 880),
    "wide_middle": Case(200, 300, "uniform", 400, 400),
    "wide_coarse": Case(200, 300, "uniform", 880, 880),
    "wide_box": Case(200, 300, "box", 200, 600),
    "wide_gradient": Case(200, 300, "gradient", 120, 700),
    "ends": Case(64, 96, "gradient", 0, 1023),
    "halved_box": Case(75, 105, "box", 150, 600, 2),
}


def levels_of(case: Case) -> LevelMap:
    """Level map of a case."""
    _, _, kind, low, high, _ = case
    h, w = cell_shape(*coded_size(case.height, case.width, case.resampling))
    if kind == "uniform":
        return uniform_level_map(h, w, node=low)
    nodes = np.full((h, w), high, np.int32)
    if kind == "box":
        nodes[h // 4 : h // 4 + h // 2, w // 4 : w // 4 + w // 2] = low
    else:
        nodes[:] = low + (high - low) * np.arange(h * w).reshape(h, w) // (h * w - 1)
    return quantise_nodes(nodes)


def draw(part: IntegerPart, levels: LevelMap, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols (z, j) distributed as the tables say, with escapes near and far."""
    words = np.random.Philox(key=seed)

    def sample(cumulative: list[list[int]], minimum: np.ndarray, tables: np.ndarray) -> np.ndarray:
        raw = (words.random_raw(tables.size) >> np.uint64(48)).tolist()
        k = np.empty(tables.size, np.int64)
        for n, (word, table) in enumerate(zip(raw, tables.ravel().tolist(), strict=True)):
            place = bisect_right(cumulative[table], word) - 1
            # place 0 is the escape: some value below the list
            k[n] = minimum[table] + (place - 1 if place else -1 - word % 7)
        return k.reshape(tables.shape)

    bank = part.hyper_tables.bank
    z = part.read_hyper(
        levels,
        lambda tables: sample(bank.cumulative, bank.minimum, tables),
    )
    prior = part.predict(z, levels)
    gaussian = part.gaussian.bank
    dither = dither_indices(*prior.mean.shape)
    j = np.zeros(dither.shape, np.int64)
    for number, half in enumerate(part.halves(*levels.level_map.shape)):
        if number:
            prior = part.refine(prior, j, levels)
        index = part.sigma_index(prior, levels)
        tables, signs = part.gaussian.select(index[half], dither[half])
        drawn = sample(gaussian.cumulative, gaussian.minimum, tables) * signs
        drawn[-1] = 32767  # the far ends of what an escape can say
        if drawn.size > 100:
            drawn[50], drawn[99] = -32767, 1000
        j[half] = np.where(part.coded(index[half], dither[half]), drawn, 0)
    return z, j


def make(part: IntegerPart, float_digest: bytes, case: tuple[int, int, str, int, int]) -> bytes:
    """The file of a case."""
    case = Case(*case)
    levels = levels_of(case)
    z, j = draw(part, levels, seed=case.height + case.width + case.low)
    size = case.height, case.width
    return assemble(part, float_digest, size, levels, z, j, resampling=case.resampling)


def assemble(
    part: IntegerPart,
    float_digest: bytes,
    size: tuple[int, int],
    levels: LevelMap,
    z: np.ndarray,
    j: np.ndarray,
    *,
    resampling: int = 1,
) -> bytes:
    """A file from symbols."""
    header = Header(
        height_px=size[0],
        width_px=size[1],
        n_lo=levels.n_lo,
        n_hi=levels.n_hi,
        level_count=levels.level_count,
        integer_digest=part.digest,
        float_digest=float_digest,
        resampling=resampling,
    )
    payload = encode_symbols(part, z, j, levels)
    return write_container(header, encode_level_map(levels.level_map, levels.level_count), payload)


def load_part() -> tuple[IntegerPart, bytes]:
    """Integer part and float digest of the nano bundle."""
    manifest = json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8"))
    part = IntegerPart.from_bytes((BUNDLE / "integer.safetensors").read_bytes())
    return part, bytes.fromhex(manifest["float_digest"])


def hashes(part: IntegerPart, folder: Path = HERE) -> dict[str, dict[str, object]]:
    """What each file of a folder decodes to, by SHA-256 of little-endian int32."""
    files = sorted(folder.glob("*.rdc"))
    return {path.name: symbol_hashes(path.read_bytes(), lambda _: part) for path in files}


def make_photo() -> None:
    """Encodes a real photo with a region of interest and keeps what it decodes to."""
    from skimage.data import astronaut

    import rcodec_jax
    from rcodec_jax.data import write_image

    image = astronaut()[20:180, 110:330]
    importance = np.zeros(image.shape[:2], np.float32)
    importance[30:110, 80:150] = 1
    codec = rcodec_jax.load(BUNDLE)
    data = codec.encode(np.ascontiguousarray(image), importance=importance, quality=70, effort=1)
    (HERE / PHOTO).write_bytes(data)
    write_image(HERE / "photo.png", codec.decode(data))


def main(arguments: list[str]) -> int:
    if arguments not in (["hashes"], ["write"], ["photo"]):
        print(__doc__, file=sys.stderr)
        return 2
    if arguments == ["photo"]:
        make_photo()
        return 0
    part, float_digest = load_part()
    if arguments == ["write"]:
        for name, case in CASES.items():
            (HERE / f"{name}.rdc").write_bytes(make(part, float_digest, case))
        record = {
            "format_version": FORMAT_VERSION,
            "integer_digest": part.digest.hex(),
            "float_digest": float_digest.hex(),
            "files": hashes(part),
        }
        RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    assert "jax" not in sys.modules  # symbols need none
    print(json.dumps(hashes(part)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
