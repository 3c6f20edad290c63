"""The total loss and its gradient tile by tile, for pictures too large for memory.

The same numbers as `objective.evaluate` and its gradient, up to rounding. Only the pooled maps
between the blocks of the network exist whole, as NumPy arrays; inside a block a tile of a map is
read with a halo of one position for every convolution, so tiles overlap by next to nothing:

1. Forward, block by block: each tile adds to the sums F^T F and F^T 1 and the content terms of its
   block, and writes its part of the next map.
2. All terms are known now, and with them their slopes by the moments of every style layer.
3. Backward, last block first: each tile recomputes its features (gradient checkpointing, Chen et
   al. 2016, arXiv 1604.06174) and pulls the cotangents back to its block's input.

Past the last layer with a loss of its own, a block's backward pass needs no features, only where
ReLU and pool let values through: one bit for each value, kept from the forward pass. Not so with a
pooling whose slope is of the features, as L2: there all of a block's are computed again.

A tile reads beyond the picture's border what `Structure.padding` says, and zeros beyond that of
every map, which is what the padding of a convolution over the whole picture amounts to. So all
tiles of a block have one shape and run one program; a side as long as the map's has no halo. Python
drives the tiles, as XLA on the CPU runs a convolution inside a loop several times slower than
outside; one after another, as what it copies meanwhile takes a core from XLA, and a tile ahead
takes memory.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from nstyle.arrays import Image, PyTree, Scalar
from nstyle.errors import NstyleError
from nstyle.images.colour import grey
from nstyle.losses import Moments, total_variation
from nstyle.networks import Params, Pooling, extent, width
from nstyle.objective.balance import CONTENT_FLOOR, STYLE_FLOOR, worth
from nstyle.objective.blocks import Maps, Slopes, Sums, backward_tile, forward_tile
from nstyle.objective.terms import (
    Problem,
    References,
    Structure,
    Targets,
    Terms,
    blended,
    weighted_total,
)
from nstyle.objective.tiling import (
    Block,
    Map,
    Window,
    blocks_of,
    check_structure,
    read,
    read_all,
    windows_of,
    write,
)


def value_and_grad(
    structure: Structure, image: Image | Map, problem: Problem, tile: int
) -> tuple[tuple[Scalar, Terms], Map]:
    """Returns the total loss, its terms before their weights, and its gradient, tile by tile.

    Equal to `jax.value_and_grad(evaluate, argnums=1, has_aux=True)(structure, image, problem)` up
    to rounding.

    Args:
      structure: static part of the objective.
      image: RGB in [0, `structure.value_range`], at least `structure.minimum_size` on each side.
      problem: weights of the network, targets, weights of the terms. Content targets in NumPy
        arrays, as `content_targets` makes them, stay where they are.
      tile: edge of the first block's tiles in pixels; see `tile_for`.

    Returns:
      As of `jax.value_and_grad`, the gradient as a NumPy array.

    Raises:
      NstyleError: the tile has less than two pixels, the picture is not of the size that the
        content targets were made of, or a loss is not one of sums over positions.
    """
    check_structure(structure)
    if structure.luminance:
        image, pull = jax.vjp(grey, jnp.asarray(image))
        alone = dataclasses.replace(structure, luminance=False)
        found, cotangent = value_and_grad(alone, image, problem, tile)
        return found, np.asarray(pull(jnp.asarray(cotangent))[0])
    params, targets, weights = problem[:3]
    content = {layer: np.asarray(target) for layer, target in targets.content.items()}
    for layer, target in content.items():
        _check_target(structure, layer, target, image.shape)
    bound = structure.bound(problem.options)
    parts = blocks_of(structure, image.shape, tile)
    inputs, gates = [np.asarray(image, np.float32)], []
    total = Sums({}, {}, {})
    for part in parts:
        sums, maps = _forward(part, bound.pooling, params, inputs[-1], content)
        for own, of_all in zip(sums, total, strict=True):
            of_all.update(own)
        inputs.append(maps.pooled)
        gates.append(maps.gates)
    terms, slopes = _terms(bound, problem, image.shape, total)

    cotangent = inputs.pop()
    for part in reversed(parts):
        # The cotangent of a map takes the map's place; only the picture is the caller's.
        above = inputs.pop()
        below = above if inputs else np.empty_like(above)
        _backward(
            part, bound.pooling, params, above, below, content, slopes, gates.pop(), cotangent
        )
        cotangent = below
    tv, tv_gradient = _total_variation(structure.tv_kind, structure.value_range, image, weights.tv)
    cotangent += np.asarray(tv_gradient)
    terms = terms._replace(tv=tv)
    return (weighted_total(terms, weights), terms), cotangent


def content_targets(
    structure: Structure, params: Params, content: Image | Map, tile: int
) -> dict[str, Map]:
    """Returns `objective.content_targets` of a large picture, in the host's memory.

    Raises:
      NstyleError: the tile has less than two pixels.
    """
    features: dict[str, Map] = {}
    if structure.content_layers:
        alone = dataclasses.replace(structure, style_layers=())
        for _, maps in _targets(alone, params, content, tile):
            features |= maps.features
    return features


def style_targets(
    structure: Structure, params: Params, style: Image | Map, tile: int
) -> dict[str, PyTree]:
    """Returns `objective.style_targets` of a large picture.

    Raises:
      NstyleError: the tile has less than two pixels, or a loss is not one of sums over positions.
    """
    found: dict[str, PyTree] = {}
    if structure.style_layers:
        alone = dataclasses.replace(structure, content_layers=())
        check_structure(structure)
        for sums, _ in _targets(alone, params, style, tile):
            for layer in sums.grams:
                positions = math.prod(extent(layer, structure.network, style.shape))
                own = _moments(sums, layer, positions)
                found[layer] = (structure.style_loss.of_moments(own, positions),)
    return found


def references(
    structure: Structure, problem: Problem, photograph: Image | Map, tile: int
) -> References:
    """Returns `balance.references` of a large picture.

    Args:
      structure: static part of the objective.
      problem: with the targets; those of content stay in the host's memory.
      photograph: in [0, `structure.value_range`], of the result's shape.
      tile: edge of the first block's tiles in pixels.

    Raises:
      NstyleError: the tile has less than two pixels, or a loss is not one of sums over positions.
    """

    def of_content(layer: str) -> Scalar:
        target = np.asarray(problem.targets.content[layer])
        energy = np.einsum("hwc,hwc->c", target, target, dtype=np.float64)
        mean = target.mean(axis=(0, 1), dtype=np.float64)
        variation = energy - math.prod(target.shape[:2]) * np.square(mean)
        share = _square_share(structure, target.shape)
        floor = CONTENT_FLOOR * energy.sum()
        return worth(share * np.float32(variation.sum()), share * np.float32(floor))

    def of_style(layer: str, found: PyTree, target: PyTree) -> Scalar:
        channels = width(layer, structure.network)
        positions = math.prod(extent(layer, structure.network, photograph.shape))
        blank = Moments(jnp.zeros(channels), jnp.zeros((channels, channels)))
        energy = loss.compare(loss.of_moments(blank, positions), target, pixels)
        return worth(loss.compare(found, target, pixels), STYLE_FLOOR * energy)

    loss = structure.bound(problem.options).style_loss
    pixels = photograph.shape[0] * photograph.shape[1]
    own = style_targets(structure, problem.params, photograph, tile)
    return References(
        {layer: of_content(layer) for layer in structure.content_layers},
        {
            layer: tuple(of_style(layer, own[layer][0], of) for of in problem.targets.style[layer])
            for layer in structure.style_layers
        },
    )


def _moments(sums: Sums, layer: str, positions: int) -> Moments:
    """Returns a layer's moments; in float64 until the product of means is taken away."""
    mean = sums.totals[layer] / positions
    covariance = sums.grams[layer] / positions - np.outer(mean, mean)
    return Moments(jnp.asarray(mean, jnp.float32), jnp.asarray(covariance, jnp.float32))


def _targets(
    structure: Structure, params: Params, image: Image | Map, tile: int
) -> Iterator[tuple[Sums, Maps]]:
    """Runs the network block by block as far as the structure's layers go."""
    inputs = np.asarray(image, np.float32)
    inputs = grey(inputs) if structure.luminance else inputs
    for part in blocks_of(structure, image.shape, tile):
        sums, maps = _forward(part, structure.pooling, params, inputs, None)
        yield sums, maps
        inputs = maps.pooled


def _check_target(structure: Structure, layer: str, target: Map, shape: tuple[int, ...]) -> None:
    (rows, columns), found = extent(layer, structure.network, shape), target.shape
    if found[:2] != (rows, columns):
        raise NstyleError(
            f"image: {shape[1]} x {shape[0]} pixels are not of the content picture's size: {layer}"
            f" has {columns} x {rows} positions, its target {found[1]} x {found[0]}"
        )


def _terms(
    structure: Structure, problem: Problem, shape: tuple[int, ...], sums: Sums
) -> tuple[Terms, Slopes]:
    """Returns the terms, but for total variation, and their weighted derivatives."""
    targets, weights = problem.targets, problem.weights
    network, loss, pixels = structure.network, structure.style_loss, shape[0] * shape[1]
    worths = problem.references or _ones(targets)
    terms, slopes = Terms({}, {}, jnp.zeros(())), Slopes({}, {}, {})
    for layer in structure.style_layers:
        positions = math.prod(extent(layer, network, shape))

        def term(found: Moments, n: int = positions, on: str = layer) -> Scalar:
            own = loss.of_moments(found, n)
            pairs = zip(targets.style[on], worths.style[on], strict=True)
            distances = [loss.compare(own, of, pixels) / worth for of, worth in pairs]
            return blended(problem.blend, distances)

        found = _moments(sums, layer, positions)
        terms.style[layer], slope = jax.value_and_grad(term)(found)
        # The cotangent of F is (F - mean) (D + D^T) / n + d / n for D and d by covariance and mean.
        share = weights.style[layer] / positions
        slopes.gram[layer] = share * (slope.covariance + slope.covariance.T)
        slopes.shift[layer] = share * slope.mean - found.mean @ slopes.gram[layer]
    for layer in structure.content_layers:
        features = (*extent(layer, network, shape), width(layer, network))
        share = _square_share(structure, features) / worths.content[layer]
        terms.content[layer] = share * jnp.float32(sums.squares[layer])
        slopes.square[layer] = 2.0 * weights.content[layer] * share
    return terms, slopes


def _ones(targets: Targets) -> References:
    """Returns the references of terms that stay in the units of their losses."""
    return References(
        dict.fromkeys(targets.content, jnp.ones(())),
        {layer: (jnp.ones(()),) * len(own) for layer, own in targets.style.items()},
    )


def _square_share(structure: Structure, shape: tuple[int, ...]) -> Scalar:
    share = structure.content_loss.square_share(shape)
    assert share is not None, "a structure that tiles take has checked its loss"
    return share


@functools.partial(jax.jit, static_argnums=(0, 1))
def _total_variation(
    kind: str, value_range: float, image: Image, weight: Scalar
) -> tuple[Scalar, Image]:
    value, gradient = jax.value_and_grad(total_variation)(image, kind, value_range)
    return value, weight * gradient


def _forward(
    part: Block,
    pooling: Pooling,
    params: Params,
    inputs: Map,
    content: Mapping[str, Map] | None,
) -> tuple[Sums, Maps]:
    """Runs a block over its whole input; without content targets, in order to make targets."""
    size = inputs.shape[:2]
    own = jax.tree.map(jnp.asarray, part.own(params))
    options = part.own_pooling(pooling).numbers if part.pools else {}
    sums, maps = _blank(part, size, for_targets=content is None)

    for window in windows_of(part, size):
        targets = content if content is None else read_all(part.own(content), window)
        crop = read(inputs, window, part.halo)
        made = forward_tile(part, own, crop, window, size, targets, options)
        tile_sums, tile_maps = jax.device_get(made)
        sums = jax.tree.map(np.add, sums, tile_sums)
        for layer, whole in maps.features.items():
            write(whole, window, tile_maps.features[layer])
        for layer, whole in maps.gates.items():
            write(whole, window, tile_maps.gates[layer])
        if part.pools:
            write(maps.pooled, window.halved(), tile_maps.pooled)
    return sums, maps


def _blank(part: Block, size: tuple[int, ...], for_targets: bool) -> tuple[Sums, Maps]:
    """Returns sums of zero, in float64 as they add up millions of positions, and empty maps."""

    def empty(channels: int, dtype: type = np.float32, pooled: int = 1) -> np.ndarray:
        return np.empty((size[0] // pooled, size[1] // pooled, channels), dtype)

    channels = part.channels
    widths = {layer: width(layer, part.structure.network) for layer in part.structure.layers}
    content = part.own(dict.fromkeys(part.structure.content_layers))
    style = part.own(dict.fromkeys(part.structure.style_layers))
    pooled = empty(channels, pooled=2) if part.pools else None
    grams = {layer: np.zeros((widths[layer], widths[layer])) for layer in style}
    totals = {layer: np.zeros(widths[layer]) for layer in style}
    if for_targets:
        return Sums(grams, totals, {}), Maps(
            {layer: empty(widths[layer]) for layer in content}, {}, pooled
        )
    gates = {layer: empty(channels // 8, np.uint8) for layer in part.gated}
    squares = {layer: np.zeros(()) for layer in content}
    return Sums(grams, totals, squares), Maps({}, gates, pooled)


def _backward(
    part: Block,
    pooling: Pooling,
    params: Params,
    inputs: Map,
    outputs: Map,
    content: Mapping[str, Map],
    slopes: Slopes,
    gates: Mapping[str, np.ndarray],
    pooled: Map | None,
) -> None:
    """Writes the cotangent of a block's input to `outputs`, which may be the input itself.

    Tiles add to a band of rows, as high as a tile with its halo. A row moves from the band to
    `outputs` once no tile to come adds to it, nor reads it from `inputs`.
    """
    size = inputs.shape[:2]
    rows, columns = part.tile
    above, beside = part.halo
    own = jax.tree.map(jnp.asarray, part.own(params))
    options = part.own_pooling(pooling).numbers if part.pools else {}
    own_slopes = Slopes(*map(part.own, slopes))

    channels = inputs.shape[2]
    band = np.zeros((rows + 2 * above, size[1] + columns + 2 * beside, channels), np.float32)
    for window in windows_of(part, size):
        cotangent = backward_tile(
            part,
            own,
            read(inputs, window, part.halo),
            window,
            size,
            read_all(part.own(content), window),
            own_slopes,
            {layer: read(gate, window, part.beyond(layer)) for layer, gate in gates.items()},
            None if pooled is None else read(pooled, window.halved()),
            options,
        )
        band[:, window.left : window.left + columns + 2 * beside] += np.asarray(cotangent)
        if window.left + columns < size[1]:
            continue
        done = rows if window.top + rows < size[0] else rows + 2 * above
        write(outputs, Window(window.top - above, -beside, done, band.shape[1]), band[:done])
        band[: 2 * above] = band[rows:]
        band[2 * above :] = 0.0
