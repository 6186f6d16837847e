"""Golden files of a model that does not code what is almost surely 0: skipping/.

python tests/golden/skipping.py hashes   what the files there hold, as JSON (imports no JAX)
python tests/golden/skipping.py write    makes the model, the files and golden.json anew
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import centroids
import halves
import varying

from rcodec_jax.entropy import IntegerPart

HERE = Path(__file__).parent
FOLDER = HERE / "skipping"
PART = FOLDER / varying.PART.name
RECORD = FOLDER / varying.RECORD.name
CASES = {name: halves.CASES[name] for name in ("pixel", "gradient", "lanes_box")}


def make_part() -> IntegerPart:
    """The model of centroids/, with a good part of its tables skipped."""
    return dataclasses.replace(centroids.make_part(), skip=2000)


def main(arguments: list[str]) -> int:
    return varying.command(arguments, __doc__, FOLDER, make_part, CASES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
