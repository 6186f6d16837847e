"""Cached latents: those of the encoder, resumable, tied to it, and trained on."""

import dataclasses

import jax
import numpy as np
import pytest

from rcodec_jax.config.train import DataConfig, SourceConfig
from rcodec_jax.data import LatentSet, Mixture, make_dataset, open_source
from rcodec_jax.data.storage.manifest import check, read_manifest
from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.model.networks import Networks, parameter_shapes, tracked_ranges
from rcodec_jax.model.trained import load_trained
from rcodec_jax.model.weights_writer import WeightsWriter
from rcodec_jax.ops.pixels import to_signed
from rcodec_jax.train import run
from rcodec_jax.train.input import latent_cache
from rcodec_jax.train.input.batches import open_sources, stage_mixture
from rcodec_jax.train.input.latent_cache import Crops, cache_latents, check_latents, encoder_digest

CROPS = Crops(crop_px=64, records=22, batch_size=8, seed=3)


@pytest.fixture(scope="module")
def model(tools, tmp_path_factory):
    """A folder of weights."""
    config = tools.config("codec").model
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("weights")
    statistics = {"shift": np.zeros(config.latent_channels, np.float32), "power": 1.0}
    ranges = dict.fromkeys(tracked_ranges(config), 1.0)
    with WeightsWriter(folder, config, **statistics, ranges=ranges) as writer:
        for name, shape in parameter_shapes(config).items():
            writer.add(name, 0.3 * rng.standard_normal(shape).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def cached(pictures, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("cached")
    cache_latents(mixture_of(pictures), out, load_trained(model), CROPS)
    return out


def mixture_of(folder):
    return Mixture((open_source(folder),), (1.0,))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_latents_are_those_of_the_crops_that_training_would_draw(pictures, model, cached):
    trained = load_trained(model)
    networks = Networks(trained.config)
    source = LatentSet(cached)
    assert len(source) == 22 and source.shape == (8, 8, trained.config.latent_channels)
    batches = make_dataset(mixture_of(pictures), crop_px=64, batch_size=1, seed=3)
    params = {"encoder": jax.tree.map(np.asarray, trained.params["encoder"])}
    encode = jax.jit(lambda image: networks.encode(params, to_signed(image))[0])
    for index in range(22):
        expected = np.asarray(encode(next(batches)["image"]))[0]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(source[index], expected, rtol=1e-3, atol=1e-3 * scale)
    batches.close()


@pytest.mark.parametrize("done", [0, 1, 2])
def test_caching_goes_on_with_the_same_bytes(pictures, model, cached, tmp_path, monkeypatch, done):
    # One shard of the default length would hold all; three show the resuming.
    monkeypatch.setattr(latent_cache, "SHARD_ROWS", 8)
    whole, out = tmp_path / "whole", tmp_path / "out"
    trained = load_trained(model)
    cache_latents(mixture_of(pictures), whole, trained, CROPS)
    assert len(read_manifest(whole).shards) == 3 and not check(whole)
    assert [row.tobytes() for row in LatentSet(whole)] == [
        row.tobytes() for row in LatentSet(cached)
    ]
    seen = []

    def interrupt(count, total, what):
        seen.append(count)
        if len(seen) > done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_latents(mixture_of(pictures), out, trained, CROPS, progress=interrupt)
    assert len(list((out / ".unfinished").glob("0*.json"))) == done
    seen.clear()
    cache_latents(
        mixture_of(pictures), out, trained, CROPS, progress=lambda *words: seen.append(words)
    )
    assert len(seen) == 3 - done + 1
    assert contents(out) == contents(whole)


def test_a_stage_trains_on_latents_of_its_own_encoder_only(
    pictures, model, cached, tools, tmp_path
):
    config = tools.config("codec", init_from=str(model))
    stage = dataclasses.replace(config.train.stages[0], latents=True)
    sources = (SourceConfig(str(pictures), 2.0), SourceConfig(str(cached)))
    train = dataclasses.replace(config.train, stages=(stage,), data=DataConfig(sources=sources))
    config = dataclasses.replace(config, train=train)
    assert run(config, workdir=tmp_path / "run") == 2
    assert all(np.isfinite(row["loss"]) for row in tools.metrics(tmp_path / "run") if "loss" in row)

    params = load_trained(model).params
    check_latents(mixture_of(cached), params)
    other = {"encoder": jax.tree.map(lambda leaf: np.asarray(leaf) + 1, params["encoder"])}
    digest = LatentSet(cached).encoder_digest
    with pytest.raises(UsageError, match=f"this model's encoder, .*those of {digest}"):
        check_latents(mixture_of(cached), other)


def test_stages_take_the_sources_of_their_kind(pictures, cached, tools):
    config = tools.config("codec")
    sources = (SourceConfig(str(pictures), 2.0), SourceConfig(str(cached)))
    train = dataclasses.replace(config.train, data=DataConfig(sources=sources))
    config = dataclasses.replace(config, train=train)
    (stage,) = train.stages
    cases = {False: "images", True: "latents"}
    for latents, kind in cases.items():
        mixture = stage_mixture(open_sources(config), dataclasses.replace(stage, latents=latents))
        assert mixture.kind == kind and len(mixture.sources) == 1
    with pytest.raises(UsageError, match="source of cached latents"):
        stage_mixture(open_sources(config, pictures), dataclasses.replace(stage, latents=True))
    with pytest.raises(UsageError, match="--data or train.data.sources"):
        open_sources(tools.config("codec"))


def test_the_digest_is_of_the_encoders_values_however_they_lie(model):
    params = load_trained(model).params
    digest = encoder_digest(params)
    assert len(digest) == 16
    mesh = jax.make_mesh((8,), ("data",))
    everywhere = jax.NamedSharding(mesh, jax.P())
    placed = jax.device_put(jax.tree.map(np.asarray, params["encoder"]), everywhere)
    assert encoder_digest({"encoder": placed}) == digest
    changed = jax.tree.map(np.array, params["encoder"])
    leaf = jax.tree.leaves(changed)[-1]
    leaf.flat[0] += 1e-6 + 1e-6 * abs(leaf.flat[0])
    assert encoder_digest({"encoder": changed}) != digest


def test_clear_errors(pictures, cached, model, tmp_path):
    trained = load_trained(model)
    with pytest.raises(UsageError, match="cached already"):
        cache_latents(mixture_of(cached), tmp_path / "out", trained, CROPS)
    encoder = jax.tree.map(lambda leaf: np.asarray(leaf) * 1e6, trained.params["encoder"])
    large = dataclasses.replace(trained, params={"encoder": encoder})
    with pytest.raises(RcodecError, match="within float16, got up to"):
        cache_latents(mixture_of(pictures), tmp_path / "out", large, CROPS)
