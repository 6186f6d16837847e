"""Golden files of a model whose integers stand for centroids: centroids/, beside those of halves/.

python tests/golden/centroids.py hashes   what the files there hold, as JSON (imports no JAX)
python tests/golden/centroids.py write    makes the model, the files and golden.json anew
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import halves
import varying

from rcodec_jax.entropy import Centroids, IntegerPart

HERE = Path(__file__).parent
FOLDER = HERE / "centroids"
PART = FOLDER / varying.PART.name
RECORD = FOLDER / varying.RECORD.name
CASES = {name: halves.CASES[name] for name in ("pixel", "odd_box", "gradient")}


def make_part() -> IntegerPart:
    """The model of halves/, with centroids drawn from Philox."""
    raw = np.random.Philox(key=33).random_raw(64 * 192) >> np.uint64(49)
    table = raw.astype(np.int16).reshape(64, 192)
    return dataclasses.replace(halves.make_part(), centroids=Centroids(table))


def main(arguments: list[str]) -> int:
    return varying.command(arguments, __doc__, FOLDER, make_part, CASES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
