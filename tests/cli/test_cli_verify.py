"""`rcodec verify`: exit codes, words and JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rcodec_jax
from rcodec_jax.cli.main import main
from rcodec_jax.model.bundle import load_bundle

GOLDEN = Path(__file__).parents[1] / "golden"
NANO = str(GOLDEN / "nano")
KINDS = {f"photo-{kind}.rdc" for kind in ("coarse", "box", "slope", "halved")}


@pytest.fixture
def nano(monkeypatch) -> SimpleNamespace:
    """The nano model, with one file and one picture for everything."""
    bundle = load_bundle(NANO)
    data = (GOLDEN / "odd_box.rdc").read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    digests = {
        "integer_digest": bundle.integers.digest.hex(),
        "float_digest": bundle.float_digest.hex(),
    }
    stub = SimpleNamespace(
        bundle=bundle, card=digests, encode=lambda *_, **__: data, decode=lambda _: pixels
    )
    monkeypatch.setitem(rcodec_jax.__dict__, "load", lambda model=None: stub)
    return stub


@pytest.fixture
def some(tmp_path) -> Path:
    """Two of the golden files as a set of their own."""
    folder = tmp_path / "some"
    folder.mkdir()
    record = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))
    record["files"] = {name: record["files"][name] for name in ("line.rdc", "odd_box.rdc")}
    (folder / "verify.json").write_text(json.dumps(record))
    for name in record["files"]:
        shutil.copyfile(GOLDEN / name, folder / name)
    return folder


def test_golden_files_verify_without_jax() -> None:
    code = (
        "import sys\n"
        "from rcodec_jax.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "sys.exit('imported JAX' if {'jax', 'jaxlib', 'flax'} & set(sys.modules) else code)\n"
    )
    words = ["verify", str(GOLDEN), "--model", NANO, "--symbols-only", "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["agrees"] and len(figures["files"]) == len(list(GOLDEN.glob("*.rdc")))
    assert figures["checked_with"]["format_version"] == 0


@pytest.mark.parametrize(
    "order", ["F w P m", "w F m P", "w F P m", "m w F P", "F P w m", "m F w P"]
)
def test_options_and_paths_in_any_order(nano, photo, tmp_path, capsys, order) -> None:
    folder = tmp_path / "set"
    words = {"F": [str(folder)], "P": [photo], "w": ["--write"], "m": ["--model", NANO]}
    given = [word for letter in order.split() for word in words[letter]]
    assert main(["verify", *given, "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert set(files) == KINDS


def test_unknown_options_stay_errors(capsys) -> None:
    assert main(["verify", "set", "--wrote", "photo.png"]) == 2
    assert "unknown option --wrote, did you mean --write?" in capsys.readouterr().err
    assert main(["verify", "--write"]) == 2
    assert "FOLDER" in capsys.readouterr().err


def test_write_then_check(nano, photo, tmp_path, capsys) -> None:
    folder = tmp_path / "set"
    assert main(["verify", "--write", str(folder), photo, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures["files"]) == KINDS
    assert figures["made_with"]["device"].startswith("cpu")
    assert main(["verify", str(folder), "--model", NANO]) == 0
    out = capsys.readouterr().out
    assert "4 of 4 files agree" in out
    assert main(["verify", "--write", str(folder), photo]) == 2
    assert "--force" in capsys.readouterr().err


def test_a_mismatch_has_a_code_of_its_own_and_a_name(some, capsys) -> None:
    record = json.loads((some / "verify.json").read_text())
    record["files"]["line.rdc"]["j"] = "0" * 64
    (some / "verify.json").write_text(json.dumps(record))
    words = ["verify", str(some), "--model", NANO, "--symbols-only"]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert "1 of 2 files agree" in out and err.count("\n") == 1
    assert "mismatch: line.rdc: j: expected 000000000000.., got 41ca64aa5e21.." in err
    assert main([*words, "--json"]) == 1
    figures = json.loads(capsys.readouterr().out)
    assert not figures["agrees"]
    assert [bool(row["problems"]) for row in figures["files"]] == [True, False]


def test_a_picture_that_differs_is_a_mismatch(nano, some, capsys) -> None:
    from PIL import Image

    Image.fromarray(255 - nano.decode(b"")).save(some / "odd_box.png")
    assert main(["verify", str(some), "--model", NANO]) == 1
    assert "odd_box.rdc: picture: differs by up to" in capsys.readouterr().err


def test_other_networks_cannot_check_pictures(nano, some, capsys) -> None:
    nano.card["float_digest"] = "00000000"
    assert main(["verify", str(some), "--model", NANO]) == 2
    assert "--symbols-only" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [[], ["missing"], ["."], [".", "a.png"], ["--write", "out", "missing.png"],
     ["--write", "out", "--symbols-only"], ["--write", "out", "a.png", "b/a.png"]],
    ids=lambda words: "-".join(words) or "nothing",
)  # fmt: skip
def test_bad_usage(nano, words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["verify", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
