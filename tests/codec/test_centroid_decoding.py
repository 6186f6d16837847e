"""A model with centroids: files decode to what training foresaw, and configuration agrees."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.codec.codec import Codec
from rcodec_jax.codec.tablefit import fit_tables
from rcodec_jax.entropy import Centroids, dither_indices
from rcodec_jax.entropy.distributions.rdoq import RDOQ_LAMBDA, expected_quantiser
from rcodec_jax.errors import BundleError
from rcodec_jax.model.bundle import Bundle, load_bundle, save_bundle
from rcodec_jax.model.networks import LevelInputs, Networks
from rcodec_jax.model.relaxed import code_latent
from rcodec_jax.model.rounding import Trimmed, tables_of
from rcodec_jax.ops.pixels import to_bytes


@pytest.fixture(scope="module")
def central(bundle: Bundle) -> Bundle:
    """The nano bundle with centroids."""
    gaussian, centroids = expected_quantiser(RDOQ_LAMBDA)
    part = dataclasses.replace(
        bundle.integers, gaussian=gaussian, centroids=centroids, _stored_digest=None
    )
    hyper = dataclasses.replace(bundle.config.hyper, centroids=True)
    unet = dataclasses.replace(bundle.config.unet, prediction="residual")
    config = dataclasses.replace(bundle.config, hyper=hyper, unet=unet)
    return dataclasses.replace(bundle, config=config, integers=part)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "hints"])
def coder(request, central, with_hints, floats):
    """A codec, and how training sees symbols and a latent, compiled for any levels."""
    central = with_hints(central) if request.param else central
    networks = Networks(central.config)
    params = dict(central.params) | {name: floats[name] for name in floats if name != "ranges"}
    tables = tables_of(central.integers.gaussian, RDOQ_LAMBDA, central.integers.centroids)
    shift, scale = (a.reshape(1, 1, 1, -1) for a in (central.shift, central.scale))

    @jax.jit
    def seen(y, z, dither, level_map, nodes):
        quantiser = Trimmed(tables, dither, RDOQ_LAMBDA)
        levels = LevelInputs.of(level_map, nodes)
        coded = code_latent(networks, params, y, z, levels, quantiser=quantiser)
        return to_bytes(networks.decode(params, coded.clean / scale + shift, coded.hints))

    return Codec(central), seen


@pytest.mark.parametrize("importance", [False, True])
def test_a_file_decodes_to_what_training_sees(coder, astronaut, importance) -> None:
    """Sides that fill their bucket, so that the device sees what the file has and no more."""
    image = np.ascontiguousarray(astronaut[:128, 160:288])
    codec, seen = coder
    weights = np.linspace(0, 1, 128, dtype=np.float32)[None].repeat(128, 0) if importance else None
    encoded = codec.encode_detailed(image, importance=weights, quality=70, effort=1)
    s = encoded.symbols
    nodes = np.pad(s.levels.nodes, (0, 16 - s.levels.nodes.size), mode="edge")
    y, dither = codec._programs.latent(image), dither_indices(*s.j.shape)
    given = y, np.asarray(s.z, np.float32), dither, s.levels.level_map, nodes
    expected = np.asarray(seen(*(jnp.asarray(value)[None] for value in given)))[0].astype(float)
    decoded = codec.decode(encoded.data)
    # An integer in thousands differs where two cost the same in single precision.
    assert np.median(np.abs(decoded - expected)) == 0
    assert np.square(decoded - expected).mean() < 0.01 * np.square(image - expected).mean()


def test_fitting_makes_better_centroids(central, astronaut) -> None:
    pictures = [astronaut[:256, :256].copy()]
    fitted, _ = fit_tables(central, pictures, rounds=1)
    before = central.integers.centroids
    assert fitted.centroids is not None and before is not None
    changed = fitted.centroids.table != before.table
    assert changed.any() and not changed[-8:].any()
    assert fitted.digest != central.integers.digest


def test_configuration_and_integers_agree(central, bundle, tmp_path) -> None:
    parts = (central.params, central.shift, central.scale, {}, {})
    save_bundle(tmp_path / "good", central.config, central.integers, *parts)
    read = load_bundle(tmp_path / "good").integers.centroids
    assert isinstance(read, Centroids)
    np.testing.assert_array_equal(read.table, central.integers.centroids.table)
    for name, config, integers in (
        ("without", central.config, bundle.integers),
        ("with", bundle.config, central.integers),
    ):
        save_bundle(tmp_path / name, config, integers, *parts)
        with pytest.raises(BundleError, match="do not agree on centroids"):
            load_bundle(tmp_path / name)
