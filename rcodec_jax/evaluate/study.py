"""A blind comparison by people: a page of two-alternative trials, and what its answers say.

Each trial shows the original and two decoded crops of about equal bytes, one of them rcodec's, and
asks which is closer to the original; there is no third answer (2-AFC). The order of the trials and
the sides are shuffled by a seed, each side equally often. The names of the codecs are not shown;
who reads the page's source can find them.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcodec_jax import files
from rcodec_jax.data import read_image
from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.evaluate.coders import Coder
from rcodec_jax.evaluate.crops import decoded_file, middle_row, nearest_row
from rcodec_jax.evaluate.page import centre, data_uri, render
from rcodec_jax.evaluate.run import Row
from rcodec_jax.metrics.intervals import Interval, share_interval

PICTURES = 12
SIDE_PX = 384
"""Most pictures of a study, and the side of a crop."""

NO_PAIR = "a study compares rcodec with peers on pictures, got no such pair"


@dataclass(frozen=True)
class Trial:
    """One question. `left` and `right` are names of codecs."""

    picture: str
    left: str
    right: str
    left_bytes: int
    right_bytes: int


@dataclass(frozen=True)
class Study:
    """Trials in the order they are asked, and what they show.

    Attributes:
      crops: pixels uint8 [h, w, 3] by picture and codec; "original" is one of the codecs.
    """

    trials: list[Trial]
    crops: dict[str, dict[str, np.ndarray]]

    @property
    def name(self) -> str:
        """Tells studies apart, by their trials and pixels."""
        whole = hashlib.sha256(repr(self.trials).encode())
        for by_codec in self.crops.values():
            for pixels in by_codec.values():
                whole.update(pixels.tobytes())
        return whole.hexdigest()[:12]


@dataclass(frozen=True)
class Preference:
    """How often `codec` was preferred to `against`.

    Attributes:
      share: of the trials.
      interval: Wilson's, 95 %. It takes trials for independent; those of one picture or one person
        are alike, so that the truth is a little wider.
    """

    codec: str
    against: str
    wins: int
    trials: int
    share: float
    interval: Interval


@dataclass(frozen=True)
class Results:
    """Answers of all people.

    Attributes:
      preferences: by the codec compared with.
      by_picture: how often rcodec was preferred, and of how many trials, by picture.
    """

    people: int
    preferences: list[Preference]
    by_picture: dict[str, tuple[int, int]]


def make_study(
    rows: Sequence[Row],
    own: Coder,
    peers: Sequence[Coder],
    *,
    root: Path,
    kept: Path,
    seed: int = 0,
) -> Study:
    """Trials of `own` against each peer on up to `PICTURES` pictures, at its middle setting.

    A picture whose coded files are gone is left out.

    Args:
      root, kept: folders of the pictures and of the coded files.
      seed: of the order of trials and of their sides.

    Raises:
      UsageError: there is nothing to compare.
    """
    names = list(dict.fromkeys(row.picture for row in rows))
    step = max(1, len(names) / PICTURES)
    pairs: list[tuple[str, Row, Row]] = []
    crops: dict[str, dict[str, np.ndarray]] = {}
    for name in (names[int(i * step)] for i in range(min(PICTURES, len(names)))):
        ours = middle_row(rows, name, own.name)
        if ours is None:
            continue
        others = [(peer, nearest_row(rows, name, peer.name, ours.size_bytes)) for peer in peers]
        try:
            original = read_image(root / name).pixels
            window = centre(original.shape[0], original.shape[1], SIDE_PX)
            shown = {"original": original[window], own.name: decoded_file(own, ours, kept)[window]}
            for peer, row in others:
                if row is not None:
                    shown[peer.name] = decoded_file(peer, row, kept)[window]
                    pairs.append((name, ours, row))
        except (OSError, RcodecError):
            pairs = [pair for pair in pairs if pair[0] != name]
            continue
        crops[name] = shown
    if not pairs:
        raise UsageError(NO_PAIR)
    return Study(_shuffled(pairs, seed), crops)


def _shuffled(pairs: Sequence[tuple[str, Row, Row]], seed: int) -> list[Trial]:
    draw = random.Random(seed)
    swapped = [i % 2 == 1 for i in range(len(pairs))]
    draw.shuffle(swapped)
    trials = []
    for (name, ours, theirs), swap in zip(pairs, swapped, strict=True):
        left, right = (theirs, ours) if swap else (ours, theirs)
        trials.append(Trial(name, left.codec, right.codec, left.size_bytes, right.size_bytes))
    draw.shuffle(trials)
    return trials


def write_study(path: Path, study: Study) -> bool:
    """Writes the page. False if jinja2 is not installed."""
    images: list[str] = []
    places: dict[tuple[str, str], int] = {}
    for picture, by_codec in study.crops.items():
        for codec, pixels in by_codec.items():
            places[picture, codec] = len(images)
            images.append(data_uri(pixels))
    trials: list[dict[str, Any]] = [
        {
            "picture": trial.picture,
            "left": trial.left,
            "right": trial.right,
            "left_bytes": trial.left_bytes,
            "right_bytes": trial.right_bytes,
            "images": [places[trial.picture, c] for c in ("original", trial.left, trial.right)],
        }
        for trial in study.trials
    ]
    text = render("study.html.j2", name=study.name, trials=trials, images=images)
    if text is None:
        return False
    files.atomic_write(path, text.encode())
    return True


def read_results(paths: Sequence[str | Path], *, own: str = "rcodec") -> Results:
    """What the answers that a study's page saved say together.

    Args:
      paths: one file for each person.
      own: the codec whose preference is told.

    Raises:
      UsageError: a file is missing or no such file, belongs to another study than the first, or
        holds the answers of a person that were read already.
    """
    study, people = None, set()
    answers: list[tuple[str, str, bool]] = []
    for path in paths:
        content = _read(Path(path))
        study = content["study"] if study is None else study
        if content["study"] != study:
            raise UsageError(f"{path}: expected answers to study {study}, got {content['study']}")
        if content["person"] in people:
            raise UsageError(f"{path}: expected another person's answers, got those of one twice")
        people.add(content["person"])
        for answer in content["answers"]:
            if own in (answer["left"], answer["right"]):
                other = answer["right"] if answer["left"] == own else answer["left"]
                answers.append((answer["picture"], other, answer["chosen"] == own))
    preferences = []
    for against in sorted({other for _, other, _ in answers}):
        won = [win for _, other, win in answers if other == against]
        share, interval = sum(won) / len(won), share_interval(sum(won), len(won))
        preferences.append(Preference(own, against, sum(won), len(won), share, interval))
    by_picture = {}
    for picture in sorted({name for name, _, _ in answers}):
        won = [win for name, _, win in answers if name == picture]
        by_picture[picture] = (sum(won), len(won))
    return Results(len(people), preferences, by_picture)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError:
        content = None
    if not _is_answers(content):
        raise UsageError(f"{path}: expected answers that a study's page saved")
    return dict(content)


def _is_answers(content: Any) -> bool:
    try:
        words = [content["study"], content["person"], *(a["picture"] for a in content["answers"])]
        chosen = all(a["chosen"] in (a["left"], a["right"]) for a in content["answers"])
    except (KeyError, TypeError):
        return False
    return chosen and all(isinstance(word, str) for word in words)
