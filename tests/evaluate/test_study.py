"""Studies: fair trials, pages that stand alone, and answers counted as they were given."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate import command, study
from rcodec_jax.evaluate.run import Row
from rcodec_jax.metrics.intervals import share_interval


def row(picture: str, codec: str, size: int) -> Row:
    return Row(picture, codec, "1", 8, 8, size, 1.0, {"psnr_db": 20.0}, 0.1, 0.1)


def test_sides_are_even_and_the_seed_decides() -> None:
    pairs = [(f"{i}", row(f"{i}", "rcodec", 10), row(f"{i}", "jpeg", 12)) for i in range(20)]
    trials = study._shuffled(pairs, 0)
    assert sum(trial.left == "rcodec" for trial in trials) == 10
    assert sorted(int(trial.picture) for trial in trials) == list(range(20))
    assert [int(trial.picture) for trial in trials] != list(range(20))
    for trial in trials:
        assert {(trial.left, trial.left_bytes), (trial.right, trial.right_bytes)} == {
            ("rcodec", 10),
            ("jpeg", 12),
        }
    assert study._shuffled(pairs, 0) == trials and study._shuffled(pairs, 1) != trials


def test_a_page_shows_each_trial_and_fetches_nothing(tmp_path: Path, fake_codec: Any) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"</script>{i}.png".replace("/", "-"))
    settings = command.Settings()
    command.evaluate_folder(
        fake_codec, folder, out, settings, qualities=(30,), peer_names=("jpeg",), study_seed=3
    )
    text = (out / "study.html").read_text()
    assert "http" not in text and not re.search(r"(src|href)=", text.replace("a.href", ""))
    found = re.search(r"const study = (.*?), trials = (.*), images = (.*);\n", text)
    assert found is not None
    name, trials, images = (json.loads(part) for part in found.groups())
    assert len(name) == 12 and len(trials) == 2 and len(images) == 2 * 3
    for trial in trials:
        assert {trial["left"], trial["right"]} == {"rcodec", "jpeg"}
        original, left, _ = (_pixels(images[i]) for i in trial["images"])
        with Image.open(folder / trial["picture"]) as picture:
            np.testing.assert_array_equal(original, np.asarray(picture))
        if trial["left"] == "rcodec":
            file = out / "files" / trial["picture"] / "rcodec_quality=30.rdc"
            assert trial["left_bytes"] == file.stat().st_size
            np.testing.assert_array_equal(left, fake_codec.decode(file.read_bytes()))
    # No codec is named where people see it.
    assert "rcodec" not in re.sub(r"const study.*\n|rcodec-study-", "", text)
    with pytest.raises(UsageError, match="got no such pair"):
        command.evaluate_folder(
            fake_codec, folder, out, settings, qualities=(30,), peer_names=(), study_seed=3
        )


def _pixels(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))) as image:
        return np.asarray(image.convert("RGB"))


def saved(path: Path, person: str, chosen: list[tuple[str, str, bool]], name: str = "s") -> str:
    answers = [
        {
            "picture": picture,
            "left": "rcodec" if i % 2 else other,
            "right": other if i % 2 else "rcodec",
            "chosen": "rcodec" if win else other,
        }
        for i, (picture, other, win) in enumerate(chosen)
    ]
    path.write_text(json.dumps({"study": name, "person": person, "answers": answers}))
    return str(path)


def test_answers_become_rates_with_intervals(tmp_path: Path) -> None:
    first = [("a", "avif", True), ("b", "avif", False), ("a", "jpeg", True)]
    second = [("a", "avif", True), ("b", "avif", True)]
    paths = [saved(tmp_path / "1", "x", first), saved(tmp_path / "2", "y", second)]
    results = study.read_results(paths)
    avif, jpeg = results.preferences
    assert (avif.against, avif.wins, avif.trials, avif.share) == ("avif", 3, 4, 0.75)
    assert avif.interval == share_interval(3, 4)
    assert (jpeg.wins, jpeg.trials) == (1, 1) and results.people == 2
    assert results.by_picture == {"a": (3, 3), "b": (1, 2)}


def test_other_files_are_refused(tmp_path: Path) -> None:
    good = saved(tmp_path / "1", "x", [("a", "avif", True)])
    for content in (
        "no JSON",
        "[]",
        '{"study": "s"}',
        '{"study": "s", "person": "x", "answers": 3}',
    ):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(UsageError, match="expected answers that a study's page saved"):
            study.read_results([good, tmp_path / "bad"])
    with pytest.raises(UsageError, match="cannot be read"):
        study.read_results([tmp_path / "missing"])
    with pytest.raises(UsageError, match="those of one twice"):
        study.read_results([good, good])
    with pytest.raises(UsageError, match="expected answers to study s, got other"):
        study.read_results([good, saved(tmp_path / "2", "y", [("a", "avif", True)], "other")])
