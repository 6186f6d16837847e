"""API reference of what the packages offer, from their docstrings, as pages in a folder.

python .ci/docs.py FOLDER
"""

import importlib
import sys
import warnings
from pathlib import Path
from typing import get_type_hints

import pdoc

# Without `pillow` and `export`: pdoc cannot read annotations of Pillow or of modules loaded late.
PACKAGES = """bitstream checkpoint codec config data diffusion entropy errors levels metrics
model nn ops regions scale train"""


def main(folder: Path) -> None:
    warnings.simplefilter("error")
    names = ["rcodec_jax", *(f"rcodec_jax.{name}" for name in PACKAGES.split())]
    for module in map(importlib.import_module, names):
        for name in getattr(module, "__all__", ()):
            # pdoc looks into a module's dictionary only, where names imported late are not yet
            setattr(module, name, getattr(module, name))
    for name in [name for name in sys.modules if name.startswith("rcodec_jax")]:
        for value in list(vars(sys.modules[name]).values()):
            if isinstance(value, type) and hasattr(value, "_fields"):
                # the constructor of a named tuple does not know its module's names
                value.__new__.__annotations__ = get_type_hints(value)
    pdoc.pdoc(*names, output_directory=folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
