"""The two compiled programs of a tile: a block of the network forward, and back."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from nstyle.arrays import FeatureMaps, Features, Gram, PyTree, Scalar, matrix_product
from nstyle.losses import gram_matrix
from nstyle.networks import Params, convolution, preprocess
from nstyle.objective.tiling import Block, Window


class Sums(NamedTuple):
    """What the tiles of a block add up to.

    Attributes:
      grams: F^T F of the style layers, not normalised.
      totals: the sum of F over positions of the same layers.
      squares: sum of (F - P)^2 of the content layers; empty while targets are computed.
    """

    grams: dict[str, PyTree]
    totals: dict[str, PyTree]
    squares: dict[str, PyTree]


class Maps(NamedTuple):
    """What the tiles of a block are put together to.

    Attributes:
      features: F of the content layers while targets are computed, else empty.
      gates: eight to a byte, which features of the gated layers reach the block's output.
      pooled: the next block's input; None for the last block.
    """

    features: dict[str, PyTree]
    gates: dict[str, PyTree]
    pooled: PyTree


class Slopes(NamedTuple):
    """Derivatives of the total loss: the cotangent of a layer's features is made of them.

    Attributes:
      gram: by style layer a matrix D, and
      shift: a vector d, so that the cotangent is F D + d.
      square: by content layer twice dL/d(F - P)^2, so that the cotangent is that times F - P.
    """

    gram: dict[str, Gram]
    shift: dict[str, Float[Array, " c"]]
    square: dict[str, Scalar]


@functools.partial(jax.jit, static_argnums=0)
def forward_tile(
    part: Block,
    params: Params,
    crop: Features,
    window: Window,
    size: tuple[int, int],
    content: FeatureMaps | None,
    options: PyTree,
) -> tuple[Sums, Maps]:
    """Runs a block over a tile's crop of its input; what it returns is the tile's alone."""
    features, x = _recompute(part, params, crop, window, size)
    style = part.structure.style_layers
    grams = {layer: gram_matrix(f, "none") for layer, f in features.items() if layer in style}
    totals = {layer: jnp.sum(features[layer], axis=(0, 1)) for layer in grams}
    kept = {layer: f for layer, f in features.items() if layer in part.structure.content_layers}
    active = {}
    for layer in part.gated:
        x = _layer(part, params, x, layer, window, size)
        active[layer] = _trim(x, part.beyond(layer)) > 0
    pooled = part.pool(x, options) if part.pools else None
    if pooled is not None and part.gated:
        _, pull = jax.vjp(lambda x: part.pool(x, options), x)
        active[part.layers[-1]] &= pull(jnp.ones_like(pooled))[0] > 0
    if content is None:
        return Sums(grams, totals, {}), Maps(kept, {}, pooled)
    squares = {layer: jnp.sum(jnp.square(f - content[layer])) for layer, f in kept.items()}
    gates = {layer: jnp.packbits(gate, axis=-1) for layer, gate in active.items()}
    return Sums(grams, totals, squares), Maps({}, gates, pooled)


@functools.partial(jax.jit, static_argnums=0)
def backward_tile(
    part: Block,
    params: Params,
    crop: Features,
    window: Window,
    size: tuple[int, int],
    content: FeatureMaps,
    slopes: Slopes,
    gates: dict[str, UInt8[Array, "_ _ _"]],
    pooled: Features | None,
    options: PyTree,
) -> Features:
    """Returns what a tile's losses, and the cotangent of its pooled output, add to its crop's."""
    (features, x), pull = jax.vjp(lambda crop: _recompute(part, params, crop, window, size), crop)
    cotangents = {layer: jnp.zeros_like(f) for layer, f in features.items()}
    for layer, f in features.items():
        if layer in slopes.gram:
            cotangents[layer] += matrix_product(f, slopes.gram[layer]) + slopes.shift[layer]
        if layer in slopes.square:
            cotangents[layer] += slopes.square[layer] * (f - content[layer])

    def rest(x: Features) -> Features:
        for layer in part.gated:
            gate = jnp.unpackbits(gates[layer], axis=-1)
            x = _convolve(part, params, x, layer) * gate
        return x

    if pooled is None:
        of_x = jnp.zeros_like(x)
    elif part.gated:
        # Less work than the derivative of a pool of any windows.
        pooling = part.pooling.bound(options)
        assert pooling.even_share is not None, "without it nothing is gated"
        share = pooling.scale * pooling.even_share
        spread = share * jnp.repeat(jnp.repeat(pooled, 2, axis=0), 2, axis=1)
        (of_x,) = jax.vjp(rest, x)[1](spread)
    else:
        (of_x,) = jax.vjp(lambda x: part.pool(x, options), x)[1](pooled)
    return pull((cotangents, of_x))[0]


def _recompute(
    part: Block, params: Params, crop: Features, window: Window, size: tuple[int, int]
) -> tuple[FeatureMaps, Features]:
    """Returns the tile's features of the layers with a loss, and all that the last one sees.

    That is the crop itself where the block has none.
    """
    x = crop
    if part.layers[0] == "conv1_1":
        x = preprocess(x / part.structure.value_range, part.structure.pixels)
        x = _bordered(x, part, window, size)
    features = {}

    def keep(name: str, x: Features, beyond: tuple[int, int]) -> None:
        if name in part.structure.layers:
            features[name] = _inside(_trim(x, beyond), (0, 0), window, size)

    keep(part.entry, x, part.halo)
    for layer in part.recomputed:
        x = _inside(_convolve(part, params, x, layer), part.beyond(layer), window, size)
        keep(f"{layer}.pre", x, part.beyond(layer))
        x = nn.relu(x)
        keep(layer, x, part.beyond(layer))
    return features, x


def _layer(
    part: Block, params: Params, x: Features, layer: str, window: Window, size: tuple[int, int]
) -> Features:
    """Returns a layer's features from the one before, with a halo one position narrower."""
    return _inside(nn.relu(_convolve(part, params, x, layer)), part.beyond(layer), window, size)


def _convolve(part: Block, params: Params, x: Features, layer: str) -> Features:
    # Cut off after a convolution that pads: XLA's on the CPU is 3 times slower without padding.
    own = params[layer]
    convolve = convolution(layer, part.structure.network, turned=own.get("turned"))
    features = convolve.apply({"params": own}, x)
    assert isinstance(features, jax.Array)
    return _trim(features, part.margin)


def _trim(x: Features, margin: tuple[int, int]) -> Features:
    above, beside = margin
    return x[above : x.shape[0] - above, beside : x.shape[1] - beside]


def _bordered(x: Features, part: Block, window: Window, size: tuple[int, int]) -> Features:
    """Sets what lies beyond the border of the picture, as `Structure.padding` says."""
    padding = part.structure.padding
    if padding == "zeros":
        return _inside(x, part.halo, window, size)
    for axis, first in enumerate((window.top - part.halo[0], window.left - part.halo[1])):
        places, last = first + jnp.arange(x.shape[axis]), size[axis] - 1
        within = jnp.clip(places, 0, last)
        mirrored = 2 * within - places if padding == "reflect" else within
        x = jnp.take(x, mirrored - first, axis=axis, mode="clip")
    return x


def _inside(x: Features, halo: tuple[int, int], window: Window, size: tuple[int, int]) -> Features:
    """Sets features to zero beyond the border of the picture."""
    rows = window.top - halo[0] + jnp.arange(x.shape[0])
    columns = window.left - halo[1] + jnp.arange(x.shape[1])
    inside = ((rows >= 0) & (rows < size[0]))[:, None] & ((columns >= 0) & (columns < size[1]))
    return jnp.where(inside[..., None], x, 0.0)
