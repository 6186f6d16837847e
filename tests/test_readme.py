"""The README's Python example is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rcodec_jax

README = Path(rcodec_jax.__file__).parent.parent / "README.md"


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    astronaut = pytest.importorskip("skimage.data").astronaut()
    monkeypatch.chdir(tmp_path)
    Image.fromarray(astronaut).save("photo.png")
    (block,) = python_blocks()
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    data, back = names["data"], np.asarray(Image.open("back.png"))
    assert isinstance(data, bytes)
    assert len(data) <= 0.2 * astronaut.shape[0] * astronaut.shape[1] / 8
    assert back.shape == astronaut.shape
    error = np.mean((back.astype(float) - astronaut) ** 2)
    assert 10 * np.log10(255**2 / error) > 20


def test_every_command_in_the_readme_is_one() -> None:
    from rcodec_jax.cli.main import build_parser

    parser = build_parser()
    commands = set(re.findall(r"\brcodec ([a-z]+) ", README.read_text(encoding="utf-8")))
    choices = next(action.choices for action in parser._actions if action.dest == "command")
    assert commands <= set(choices)
