"""Importance sources by name: a file and a line each, wherever importance is asked for."""

from __future__ import annotations

import dataclasses
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from rcodec_jax.errors import UsageError
from rcodec_jax.regions import MapSampler, from_boxes, from_gaze, sources
from rcodec_jax.regions.sources import SOURCES, faces, importance_by_name
from rcodec_jax.regions.sources.salient import saliency

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 64, 3)).astype(np.uint8)


def test_sources_by_name_are_those_of_the_functions() -> None:
    for spec, expected in (
        ("box:3,4,30,20", from_boxes([(3, 4, 30, 20)], 40, 64)),
        ("gaze:10,20", from_gaze(10, 20, 40, 64)),
        ("saliency", saliency(PICTURE)),
    ):
        np.testing.assert_array_equal(importance_by_name([spec], PICTURE), expected)
    both = importance_by_name(["box:3,4,30,20", "gaze:10,20"], PICTURE)
    np.testing.assert_array_equal(
        both, np.maximum(from_boxes([(3, 4, 30, 20)], 40, 64), from_gaze(10, 20, 40, 64))
    )
    centre = importance_by_name(["centre"], PICTURE)
    assert centre.dtype == np.float32 and centre[20, 32] > 0.99 > centre[0, 32] > centre[0, 0]
    np.testing.assert_allclose(centre, centre[::-1, ::-1], rtol=1e-6)


def test_each_source_is_one_file_and_one_line() -> None:
    folder = Path(sources.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "arguments"}
    assert {source.__module__.rpartition(".")[2] for source in SOURCES.values()} == files


def test_saliency_finds_what_stands_out():
    rng = np.random.default_rng(0)
    image = rng.normal(100, 4, (160, 240, 3))
    image[60:90, 150:180] += 120
    found = saliency(image.astype(np.uint8))
    assert found.shape == (160, 240) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    assert found[50:100, 140:190].mean() > 3 * found.mean()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (700, 3, 3), (64, 64)])
def test_saliency_of_odd_sizes_and_flat_pictures(shape):
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = saliency(noise)
    assert found.shape == shape[:2] and np.isfinite(found).all()
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_array_equal(saliency(np.full(shape, 9, np.uint8)), np.ones(shape[:2]))


def test_saliency_is_of_the_object_and_not_of_its_ground() -> None:
    """A disc that touches one side is found, wherever on it, whatever the colours."""
    rng = np.random.default_rng(1)
    rows, columns = np.indices((120, 160))
    for y, x in ((60, 80), (90, 50), (110, 80)):
        disc = (rows - y) ** 2 + (columns - x) ** 2 < 25**2
        ground, colour = rng.integers(40, 200, (2, 3))
        picture = np.where(disc[..., None], colour, ground) + rng.normal(0, 6, (120, 160, 3))
        found = saliency(picture.clip(0, 255).astype(np.uint8))
        assert found[disc].mean() > 0.5 > 0.2 > found[~disc].mean()


def test_faces_are_found_with_room_around_them() -> None:
    """Her face is at 175..270, 65..185; larger it is as well, and so is that of a mirror image."""
    astronaut = skimage.data.astronaut()
    (box,) = faces.find(astronaut)
    assert box[0] < 175 and box[1] < 65 and box[2] > 270 and box[3] > 185
    assert (box[2] - box[0]) * (box[3] - box[1]) < 0.25 * 512 * 512
    found = importance_by_name(["faces"], astronaut)
    np.testing.assert_array_equal(found, from_boxes([box], 512, 512))
    large = astronaut.repeat(3, 0).repeat(3, 1)
    np.testing.assert_allclose(faces.find(large), [np.multiply(box, 3)], atol=30)
    pair = np.concatenate([astronaut, astronaut[:, ::-1]], axis=1)
    assert len(faces.find(pair)) == 2


def test_faces_of_several_pictures_at_a_time() -> None:
    """Workers of a folder share the detectors."""
    astronaut = skimage.data.astronaut()
    pictures = [astronaut, astronaut[:, ::-1], astronaut[:400, :500], astronaut[20:, 10:]] * 2
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(faces.find, pictures))
    assert together == [faces.find(picture) for picture in pictures]


@pytest.mark.parametrize("shape", [(1, 1), (2, 900), (37, 53), (128, 128)])
def test_no_faces_where_there_are_none(shape) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert faces.find(noise) == [] and faces.find(np.full_like(noise, 128)) == []
    assert not importance_by_name(["faces"], noise).any()


@pytest.mark.parametrize("version", [None, "5.0.0"])
def test_faces_without_a_detector_name_what_helps(monkeypatch, version) -> None:
    other = version and types.SimpleNamespace(__version__=version)
    monkeypatch.setitem(sys.modules, "cv2", other)
    with pytest.raises(
        UsageError, match=r"expected OpenCV 4 \(pip install 'rcodec-jax\[faces\]'\)"
    ):
        faces.find(PICTURE)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("face", "expected a source out of box, centre, faces, gaze, saliency, got 'face'"),
        ("gaze:1", "gaze: expected gaze:x,y in pixels, got '1'"),
        ("box:a,b,c,d", "box: expected box:x0,y0,x1,y1 in pixels, got 'a,b,c,d'"),
        ("centre:3", "centre: expected nothing behind the name, got '3'"),
    ],
)
def test_names_and_arguments_that_do_not_exist(spec, text) -> None:
    with pytest.raises(UsageError, match=text):
        importance_by_name([spec], PICTURE)


def test_what_is_added_is_found_everywhere(monkeypatch, tmp_path, capsys) -> None:
    """A source of one's own: encoding has it, and a wrong one is named."""
    from rcodec_jax.cli.encode import importance_of
    from rcodec_jax.cli.main import build_parser

    monkeypatch.setitem(SOURCES, "left", lambda pixels, _: np.eye(*pixels.shape[:2]))
    words = ["encode", "a.png", "b.rdc", "--importance", "left", "--importance", "gaze:1,2"]
    found = importance_of(build_parser().parse_args(words), PICTURE, [])
    np.testing.assert_array_equal(found, np.maximum(np.eye(40, 64), from_gaze(1, 2, 40, 64)))
    monkeypatch.setitem(SOURCES, "wide", lambda pixels, _: np.full(pixels.shape[:2], 2.0))
    with pytest.raises(UsageError, match=r"source 'wide': expected values in 0\.\.1 .*got 2\.\.2"):
        importance_by_name(["wide"], PICTURE)


def test_maps_of_training_favour_what_a_source_finds() -> None:
    from rcodec_jax.train.input.batches import NamedMaps

    sampler, rng = MapSampler((100, 900)), np.random.default_rng(1)
    maps = NamedMaps(sampler, ("box:0,0,32,40",), 1.0)
    spans = []
    for _ in range(20):
        drawn = maps(rng, PICTURE)
        assert drawn is not None
        level_map, nodes = drawn
        node_map = nodes[level_map]
        assert level_map.shape == (5, 8) and nodes.shape == (16,)
        assert len({*node_map[:, :4].ravel()}) == len({*node_map[:, 4:].ravel()}) == 1
        spans.append(int(node_map[0, 7] - node_map[0, 0]))
    assert min(spans) >= 0 and max(spans) > 50
    half = dataclasses.replace(maps, share=0.5)
    kept = sum(half(rng, PICTURE) is None for _ in range(200))
    assert 70 < kept < 130
