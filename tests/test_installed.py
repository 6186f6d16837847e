"""What coding needs of an environment: few packages, and all of them named in the README."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "tests/golden/photo.png"

NAMED = (
    *("jax", "pillow", "safetensors", "absl-py", "msgpack", "pyyaml", "rich", "threadpoolctl"),
    "flax",
)
"""What the README says to install."""

ALLOWED = {
    *("PIL", "absl", "flax", "msgpack", "safetensors", "threadpoolctl", "yaml"),
    *("jax", "jaxlib", "ml_dtypes", "numpy", "opt_einsum", "scipy"),
    *("rich", "markdown_it", "mdurl", "pygments", "typing_extensions"),
}
"""Modules of these packages and of what `pip install jax rich` brings along."""

CODE = """
import importlib.machinery, sys
from pathlib import Path

class Fresh(importlib.machinery.PathFinder):
    'An environment that has nothing but what is allowed.'

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        own = name.partition(".")[0] in {"rcodec_jax", *allowed}
        return None if spec and "site-packages" in str(spec.origin) and not own else spec

allowed, model, folder = sys.argv[1].split(","), sys.argv[2], Path(sys.argv[3])
sys.meta_path[:] = [f for f in sys.meta_path if f is not importlib.machinery.PathFinder] + [Fresh]
from rcodec_jax.cli.main import main

options = ["--force", *(["--model", model] if model else [])]
back = str(folder / "back.png")
for words in (["encode", sys.argv[4], str(folder / "a.rdc"), "--effort", "1"],
              ["decode", str(folder / "a.rdc"), back]):
    if main([*words, *options]):
        sys.exit("failed: " + " ".join(words))
import rcodec_jax
print(rcodec_jax.__file__)
"""


def code(folder: Path, *, model: Path | str, **environ: str) -> str:
    """Encodes and decodes a photo in an environment of few packages; where rcodec was."""
    words = [sys.executable, "-c", CODE, ",".join(sorted(ALLOWED)), str(model), str(folder)]
    environment = os.environ | environ
    done = subprocess.run(  # away from the checkout, which would come first
        [*words, str(PHOTO)], capture_output=True, text=True, env=environment, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "back.png").is_file()
    return done.stdout.splitlines()[-1]


def test_coding_imports_nothing_that_only_training_needs(tmp_path: Path) -> None:
    code(tmp_path, model=ROOT / "tests/golden/nano")


def test_readme_names_what_coding_needs() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    *others, flax = NAMED
    assert f"pip install {' '.join(others)} && pip install --no-deps {flax} ." in text


@pytest.mark.slow
def test_wheel_has_all_that_coding_needs(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*words, "-w", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    place = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(place)  # what pip does for a wheel of Python files
    assert (place / "rcodec_jax/configs").is_dir()
    assert (place / "rcodec_jax/bitstream/FORMAT.md").is_file()
    found = code(tmp_path, model="", PYTHONPATH=str(place))
    assert Path(found).is_relative_to(place)
