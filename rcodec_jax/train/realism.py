"""Two copies of a decoder: one learns least error, one to make detail that looks real.

Encoder, entropy model, denoiser and bytes stay. The fidelity end is trained by squared error alone.
The realism end is trained against a discriminator and a perceptual distance, and how much squared
error it may add is a constraint: its weight in the loss follows what the copy does (a Lagrange
multiplier). At decoding the parameters of the decoder and of one end are mixed, which gives every
stage between them (network interpolation, Wang et al., ECCV Workshops 2018). A decoder and a good
end do not make a good mixture: one of trained networks is smoother than both. So each step of the
realism end trains the mixture of a random share, which is to have that share of the error that is
added, and that share of the discriminator; the end that is kept is such a mixture.

What an end differs in from its decoder carries over to the decoder of a later model that was
trained from that one, so that ends need not start from nothing (`carried_over`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rcodec_jax.data.loading.transforms import random_crop
from rcodec_jax.diffusion.forward import uniform_noise
from rcodec_jax.levels import CELL_PX
from rcodec_jax.model.networks import LevelInputs, Networks, Params
from rcodec_jax.model.relaxed import code_latent
from rcodec_jax.model.rounding import as_encoded
from rcodec_jax.model.trees import flatten, unflatten
from rcodec_jax.nn.discriminator import Discriminator
from rcodec_jax.ops.pixels import to_bytes, to_signed
from rcodec_jax.regions import MapSampler
from rcodec_jax.train.step.losses import Perceptual

Report = Callable[[float, int, dict[str, float]], None]
"""Called with minutes, steps and figures."""

_FLOOR = 1e-4  # of a squared error in a ratio, picture in -1..1: 52 dB
_COLLECTED_AT_A_TIME = 8
_REPORT_S = 30.0
_WEIGHT = 0.3  # of the error's ratio in the loss, at first


@dataclasses.dataclass(frozen=True)
class RealismConfig:
    """How the ends are trained.

    Attributes:
      minutes, fidelity_minutes: wall-clock time of the training of each end itself; 0 for none.
      crops, crop_px: crops that are coded once and trained on, and their side.
      batch: crops of a step.
      learning_rate: of the decoder at first, falling to a tenth with a cosine; the
        discriminator's is twice that.
      error_ratio: squared error that is aimed at, against that of the decoder: 1.2 is .8 dB.
        (Figures in reports are means over the mixtures that were trained, of share 2/3 on average.)
      kept: share of the way from the decoder to what was trained at which the realism end is.
        What lies further on sharpens without a gain by LPIPS.
      lpips, adversarial: weights of the perceptual distance and of the discriminator.
      average: decay of the average of the parameters that is kept.
      seed: of everything drawn.
    """

    minutes: float = 25.0
    fidelity_minutes: float = 8.0
    crops: int = 2048
    crop_px: int = 128
    batch: int = 8
    learning_rate: float = 2e-4
    error_ratio: float = 1.2
    kept: float = 0.5
    lpips: float = 1.0
    adversarial: float = 0.1
    average: float = 0.998
    seed: int = 0


class Crops(NamedTuple):
    """Crops as the decoder sees them.

    Attributes:
      original, decoded: uint8 [N, S, S, 3], before coding and by the model's decoder.
      raw: float16 [N, S/8, S/8, C], what the decoder is given.
      hints: float16 [N, S/8, S/8, hint_channels], what it is given beside that.
    """

    original: np.ndarray
    decoded: np.ndarray
    raw: np.ndarray
    hints: np.ndarray


class Batch(NamedTuple):
    """`Crops` as networks take them: pictures in -1..1, floats."""

    original: jax.Array
    decoded: jax.Array
    raw: jax.Array
    hints: jax.Array

    @classmethod
    def of(cls, crops: Crops) -> Batch:
        original, decoded = (to_signed(jnp.asarray(a)) for a in crops[:2])
        given = (jnp.asarray(a, jnp.float32) for a in crops[2:])
        return cls(original, decoded, *given)


class State(NamedTuple):
    """What a step of the realism end changes."""

    decoder: Params
    average: Params
    critic: Params
    decoder_moments: Any
    critic_moments: Any
    weight: jax.Array


def collect(
    networks: Networks,
    params: Params,
    shift: np.ndarray,
    scale: np.ndarray,
    pictures: Sequence[np.ndarray],
    config: RealismConfig,
) -> Crops:
    """Codes random crops at random maps.

    Args:
      networks, params: the model, all parts in floats.
      shift, scale: float32 [C], of its latent.
      pictures: uint8 [H, W, 3] each, no side below the crop's.
      config: of the training.
    """
    rng = np.random.default_rng(config.seed)
    side, cells = config.crop_px, config.crop_px // CELL_PX
    sampler = MapSampler(networks.config.node_range)
    shift, scale = (array.reshape(1, 1, 1, -1) for array in (shift, scale))
    sides = np.sqrt([float(p.shape[0] * p.shape[1]) for p in pictures])
    centroids = networks.config.hyper.centroids

    @jax.jit
    def code(
        params: Params, pixels: jax.Array, level_map: jax.Array, nodes: jax.Array, key: Any
    ) -> tuple[jax.Array, ...]:
        levels = LevelInputs.of(level_map, nodes)
        y = (networks.encode(params, to_signed(pixels))[0] - shift) * scale
        z = networks.hyper_encode(params, y, levels)
        quantiser = as_encoded(uniform_noise(key, y.shape), centroids=centroids)
        coded = code_latent(networks, params, y, z, levels, quantiser=quantiser)
        raw = coded.clean / scale + shift
        return to_bytes(networks.decode(params, raw, coded.hints)), raw, coded.hints

    found: list[tuple[np.ndarray, ...]] = []
    for n in range(-(-config.crops // _COLLECTED_AT_A_TIME)):
        chosen = rng.choice(len(pictures), _COLLECTED_AT_A_TIME, p=sides / sides.sum())
        pixels = np.stack([random_crop(pictures[i], side, rng=rng) for i in chosen])
        maps = [sampler(rng, cells, cells) for _ in chosen]
        level_map, nodes = (np.stack([m[i] for m in maps]) for i in (0, 1))
        decoded, raw, hints = code(
            params, pixels, level_map, nodes, jax.random.fold_in(jax.random.key(config.seed), n)
        )
        given = (np.asarray(a, np.float16) for a in (raw, hints))
        found.append((pixels, np.asarray(decoded), *given))
    return Crops(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def carried_over(end: Params, before: Params, decoder: Params) -> Params:
    """An end for a decoder: what an earlier end differs in from its own decoder, added to it.

    Args:
      end, before: parameters of an earlier model's end and decoder.
      decoder: those of the model's decoder; parameters that only it has stay as they are.
    """
    end, before, decoder = (flatten(_in_floats(tree)) for tree in (end, before, decoder))
    difference = {path: end[path] - before[path] for path in before}
    return unflatten(
        {path: np.asarray(leaf + difference.get(path, 0)) for path, leaf in decoder.items()}
    )


def extrapolated(end: Params, decoder: Params, share: float) -> Params:
    """A decoder beyond another, seen from an end: what it differs in from it, once more.

    Weights on the line through two decoders of one origin are decoders, too (Wang et al., CVPR
    2019, "Deep network interpolation"), also a little outside of it.

    Args:
      end, decoder: their parameters.
      share: of the difference that is added.
    """
    moved = _towards(_in_floats(end), _in_floats(decoder), 1.0 + share)
    return jax.tree.map(np.asarray, moved)


def train_fidelity(
    networks: Networks,
    decoder: Params,
    crops: Crops,
    config: RealismConfig,
    *,
    initial: Params | None = None,
    report: Report | None = None,
) -> Params:
    """Trains a fidelity end, by squared error alone, for `fidelity_minutes`.

    Args:
      networks, decoder, crops, config, initial, report: as for `train_realism`.

    Returns:
      Parameters of the same structure, averaged.
    """
    optimizer = optax.scale_by_adam(0.9, 0.99)

    def loss_of(decoder: Params, batch: Batch) -> jax.Array:
        made = networks.decode({"decoder": decoder}, batch.raw, batch.hints)
        return jnp.mean(_ratios(made, batch))

    @jax.jit
    def step(
        state: tuple[Params, Params, Any], crops: Crops, rate: jax.Array, share: jax.Array
    ) -> tuple[tuple[Params, Params, Any], dict[str, jax.Array]]:
        decoder, average, moments = state
        ratio, gradients = jax.value_and_grad(loss_of)(decoder, Batch.of(crops))
        updates, moments = optimizer.update(gradients, moments)
        decoder = jax.tree.map(lambda p, u: p - rate * u, decoder, updates)
        average = _towards(average, decoder, 1 - config.average)
        return (decoder, average, moments), {"ratio": ratio}

    start = _in_floats(decoder if initial is None else initial)
    state = start, start, optimizer.init(start)
    _, average, _ = _run(step, state, crops, config, config.fidelity_minutes, report)
    return jax.tree.map(np.asarray, average)


def train_realism(
    networks: Networks,
    decoder: Params,
    crops: Crops,
    perceptual: Perceptual,
    config: RealismConfig,
    *,
    initial: Params | None = None,
    report: Report | None = None,
) -> Params:
    """Trains a realism end, for `minutes`.

    Args:
      networks: the model's.
      decoder: parameters of the model's decoder.
      crops: what `collect` gives.
      perceptual: distance of two pictures [B, H, W, 3] in -1..1.
      config: of the training.
      initial: an end to start from; None for the decoder.
      report: told of progress now and then.

    Returns:
      Parameters of the same structure, averaged.
    """
    start = _in_floats(decoder)
    critic = Discriminator()
    optimizer, critic_optimizer = optax.scale_by_adam(0.5, 0.99), optax.scale_by_adam(0.5, 0.99)

    def losses_of_decoder(
        decoder: Params, critic_params: Params, weight: jax.Array, share: jax.Array, batch: Batch
    ) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array]]]:
        mixed = {"decoder": _towards(start, decoder, share)}
        made = networks.decode(mixed, batch.raw, batch.hints)
        ratio = jnp.mean(_ratios(made, batch))
        distance = jnp.mean(perceptual(batch.original, made))
        logits: Any = critic.apply({"params": critic_params}, made, batch.decoded)
        adversarial = -jnp.mean(logits)
        total = weight * ratio + config.lpips * distance
        total += share * config.adversarial * adversarial
        figures = {"ratio": ratio, "lpips": distance, "adversarial": adversarial}
        return total, (made, figures)

    def loss_of_critic(critic_params: Params, made: jax.Array, batch: Batch) -> jax.Array:
        real: Any = critic.apply({"params": critic_params}, batch.original, batch.decoded)
        fake: Any = critic.apply({"params": critic_params}, made, batch.decoded)
        return jnp.mean(jax.nn.relu(1.0 - real)) + jnp.mean(jax.nn.relu(1.0 + fake))

    @jax.jit
    def step(
        state: State, crops: Crops, rate: jax.Array, share: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        batch = Batch.of(crops)
        gradients, (made, figures) = jax.grad(losses_of_decoder, has_aux=True)(
            state.decoder, state.critic, state.weight, share, batch
        )
        updates, moments = optimizer.update(gradients, state.decoder_moments)
        new = jax.tree.map(lambda p, u: p - rate * u, state.decoder, updates)
        loss, gradients = jax.value_and_grad(loss_of_critic)(
            state.critic, jax.lax.stop_gradient(made), batch
        )
        updates, critic_moments = critic_optimizer.update(gradients, state.critic_moments)
        judge = jax.tree.map(lambda p, u: p - 2 * rate * u, state.critic, updates)
        average = _towards(state.average, new, 1 - config.average)
        aim = 1 + share * (config.error_ratio - 1)
        weight = state.weight * jnp.exp(0.02 * (figures["ratio"] - aim))
        figures |= {"critic": loss, "weight": weight}
        return State(new, average, judge, moments, critic_moments, weight), figures

    picture = jnp.zeros((1, config.crop_px, config.crop_px, 3))
    judge = critic.init(jax.random.key(config.seed), picture, picture)["params"]
    first = start if initial is None else _towards(start, _in_floats(initial), 1 / config.kept)
    moments = optimizer.init(first), critic_optimizer.init(judge)
    state = State(first, first, judge, *moments, jnp.float32(_WEIGHT))
    state = _run(step, state, crops, config, config.minutes, report)
    return jax.tree.map(np.asarray, _towards(start, state.average, config.kept))


def _run(
    step: Callable[..., tuple[Any, dict[str, jax.Array]]],
    state: Any,
    crops: Crops,
    config: RealismConfig,
    minutes: float,
    report: Report | None,
) -> Any:
    """The state after steps for so many minutes, compilation apart.

    Args:
      step: takes the state, a batch of crops, the learning rate and a share; gives state, figures.
    """
    rate_of, rng = _cosine(config.learning_rate), np.random.default_rng(config.seed + 1)
    begin, reported, seen = time.monotonic(), time.monotonic(), []
    done, steps = 0.0 if minutes else 1.0, 0
    while done < 1.0:
        at = rng.choice(crops.raw.shape[0], config.batch, replace=False)
        share = np.sqrt(rng.random())  # the far end most, as it is the one that is learnt
        batch = Crops(*(array[at] for array in crops))
        state, figures = step(state, batch, jnp.float32(rate_of(done)), jnp.float32(share))
        seen.append(jax.device_get(figures))
        steps += 1
        now = time.monotonic()
        if steps == 1:  # it compiled; its learning rate was 0
            begin = now
        done = (now - begin) / (60 * minutes)
        if report is not None and (now - reported > _REPORT_S or done >= 1.0):
            means = {name: float(np.mean([row[name] for row in seen])) for name in seen[0]}
            report((now - begin) / 60, steps, means)
            reported, seen = now, []
    return state


def _ratios(made: jax.Array, batch: Batch) -> jax.Array:
    """Squared error of each picture against that of the model's decoder: [B]."""
    error, before = (
        jnp.mean(jnp.square(picture - batch.original), axis=(1, 2, 3))
        for picture in (made, batch.decoded)
    )
    return (error + _FLOOR) / (before + _FLOOR)


def _towards(a: Params, b: Params, share: jax.Array | float) -> Params:
    mixed: Params = jax.tree.map(lambda a, b: a + share * (b - a), a, b)
    return mixed


def _in_floats(params: Params) -> Params:
    floats: Params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    return floats


def _cosine(peak: float) -> Callable[[float], float]:
    def rate(share: float) -> float:
        warm = min(1.0, share / 0.02)
        return peak * warm * (0.1 + 0.45 * (1 + float(np.cos(np.pi * min(share, 1.0)))))

    return rate
