"""The README's Python example is run as it stands; the commands of all pages are parsed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rcodec_jax
from rcodec_jax.cli.main import build_parser

PACKAGE = Path(rcodec_jax.__file__).parent
README = PACKAGE.parent / "README.md"
PAGES = (README, PACKAGE / "TRAINING.md", PACKAGE / "EVALUATION.md")


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    astronaut = pytest.importorskip("skimage.data").astronaut()[:256, :256]
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


def command_blocks(page: Path) -> list[list[list[str]]]:
    """Arguments of the commands of each block of shell lines."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [block.replace("\\\n", " ").splitlines() for block in blocks]
    split = [[shlex.split(line, comments=True) for line in block] for block in lines]
    return [[words[1:] for words in block if words[:1] == ["rcodec"]] for block in split]


def test_every_command_in_the_documentation_is_taken() -> None:
    parser = build_parser()
    blocks = [block for page in PAGES for block in command_blocks(page)]
    assert sum(map(len, blocks)) > 15
    for block in blocks:
        parsed = [parser.parse_args(arguments) for arguments in block]  # or it ends the test
        # After a training and its freeze it is that model that is meant, not the shipped one.
        if any(one.command == "freeze" for one in parsed):
            models = [one.model for one in parsed if one.command in ("encode", "decode", "eval")]
            assert None not in models, block
