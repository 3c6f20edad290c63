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

import bisect
import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from nstyle.arrays import FeatureMaps, Features, Gram, Image, Scalar, matrix_product
from nstyle.errors import NstyleError
from nstyle.images.colour import grey
from nstyle.losses import (
    Moments,
    gram_matrix,
    total_variation,
)
from nstyle.networks import (
    NETWORKS,
    Params,
    blocks,
    convolution,
    deepest,
    extent,
    kernel_shape,
    preprocess,
    width,
)
from nstyle.objective.balance import CONTENT_FLOOR, STYLE_FLOOR, worth
from nstyle.objective.terms import (
    BY_MOMENTS,
    Problem,
    References,
    Structure,
    Targets,
    Terms,
    blended,
    weighted_total,
)

#: Features, a pooled map, a picture or the cotangent of one of these, in the host's memory.
Map = Float[np.ndarray, "h w c"]

#: Edges of tiles to choose from. Larger ones are no faster, smaller ones overlap by more.
TILES = (512, 384, 256, 192, 128, 96, 64)

#: Memory of Python, JAX, its compiler and the weights of a network, measured on x86 Linux.
PROGRAM_BYTES = 700 * 2**20

#: What glibc keeps of a tile's memory for the next one (`huge_pages`), at most, measured.
KEPT_BYTES = 60 * 2**20

#: Copies of a tile's features that exist at a time, measured: inputs, outputs, XLA's temporaries.
TILE_COPIES = 8

#: More of them where a block's features are kept up to its pool, as the pool's slope is of them.
UNEVEN_COPIES = 2

#: Memory taken over memory in use, measured with glibc.
HEADROOM = 1.05

T = TypeVar("T")


class _Block(NamedTuple):
    """The static part of a block's work: what its compiled programs depend on.

    Attributes:
      structure: the objective but for its reductions and normalisations.
      layers: the block's convolutions, up to the last one needed.
      tile: height and width of a tile in positions of the block, even.
      margin: how many positions beyond its rows and columns a convolution reads on either side: 1,
        or 0 along a side as long as the map's.
    """

    structure: Structure
    layers: tuple[str, ...]
    tile: tuple[int, int]
    margin: tuple[int, int]

    @property
    def channels(self) -> int:
        """Of the features of all its layers."""
        return width(self.layers[0], self.structure.network)

    def extent(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The height and width of its features for a picture of some shape."""
        return extent(self.layers[0], self.structure.network, shape)

    def pool(self, x: Features) -> Features:
        """The pool after it."""
        return self.structure.pooling(x, NETWORKS[self.structure.network].pool)

    @property
    def halo(self) -> tuple[int, int]:
        """How many positions beyond a tile its features see."""
        return self._halo_of(len(self.layers))

    @property
    def recomputed(self) -> tuple[str, ...]:
        """The layers whose features the backward pass needs, as a rule to the last with a loss."""
        if self.structure.pooling.even_share is None and self.pools:
            return self.layers
        losses = [i for i, name in enumerate(self.layers, 1) if name in self.structure.layers]
        return self.layers[: max(losses, default=0)]

    @property
    def gated(self) -> tuple[str, ...]:
        """The layers after those: of them the backward pass needs the gates alone."""
        return self.layers[len(self.recomputed) :]

    @property
    def pools(self) -> bool:
        """Whether another block follows."""
        return self.layers[-1] != deepest(self.structure.layers, self.structure.network)

    def own(self, by_layer: Mapping[str, T]) -> dict[str, T]:
        """The entries of this block's layers."""
        return {layer: by_layer[layer] for layer in self.layers if layer in by_layer}

    def beyond(self, layer: str) -> tuple[int, int]:
        """How many positions of a layer beyond a tile the block's output sees."""
        return self._halo_of(len(self.layers) - 1 - self.layers.index(layer))

    def _halo_of(self, convolutions: int) -> tuple[int, int]:
        return convolutions * self.margin[0], convolutions * self.margin[1]


class _Window(NamedTuple):
    """A tile of a map: its first row and column, which may lie outside, and how many it has."""

    top: int
    left: int
    rows: int
    columns: int

    def halved(self) -> "_Window":
        """The same tile of the map after the pool."""
        return _Window(*(value // 2 for value in self))


class _Sums(NamedTuple):
    """What the tiles of a block add up to.

    Attributes:
      grams: F^T F of the style layers, not normalised.
      totals: the sum of F over positions of the same layers.
      squares: sum of (F - P)^2 of the content layers; empty while targets are computed.
    """

    grams: dict[str, Any]
    totals: dict[str, Any]
    squares: dict[str, Any]


class _Maps(NamedTuple):
    """What the tiles of a block are put together to.

    Attributes:
      features: F of the content layers while targets are computed, else empty.
      gates: eight to a byte, which features of the gated layers reach the block's output.
      pooled: the next block's input; None for the last block.
    """

    features: dict[str, Any]
    gates: dict[str, Any]
    pooled: Any


class _Slopes(NamedTuple):
    """Derivatives of the total loss: the cotangent of a layer's features is made of them.

    Attributes:
      gram: by style layer a matrix D, and
      shift: a vector d, so that the cotangent is F D + d.
      square: by content layer twice dL/d(F - P)^2, so that the cotangent is that times F - P.
    """

    gram: dict[str, Gram]
    shift: dict[str, Float[Array, " c"]]
    square: dict[str, Scalar]


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
    parts = _blocks(structure, image.shape, tile)
    inputs, gates = [np.asarray(image, np.float32)], []
    total = _Sums({}, {}, {})
    for part in parts:
        sums, maps = _forward(part, params, inputs[-1], content)
        for own, of_all in zip(sums, total, strict=True):
            of_all.update(own)
        inputs.append(maps.pooled)
        gates.append(maps.gates)
    terms, slopes = _terms(structure, problem, image.shape, total)

    cotangent = inputs.pop()
    for part in reversed(parts):
        # The cotangent of a map takes the map's place; only the picture is the caller's.
        above = inputs.pop()
        below = above if inputs else np.empty_like(above)
        _backward(part, params, above, below, content, slopes, gates.pop(), cotangent)
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
) -> dict[str, Any]:
    """Returns `objective.style_targets` of a large picture.

    Raises:
      NstyleError: the tile has less than two pixels, or a loss is not one of sums over positions.
    """
    found: dict[str, Any] = {}
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

    def of_style(layer: str, found: Any, target: Any) -> Scalar:
        channels = width(layer, structure.network)
        positions = math.prod(extent(layer, structure.network, photograph.shape))
        blank = Moments(jnp.zeros(channels), jnp.zeros((channels, channels)))
        energy = loss.compare(loss.of_moments(blank, positions), target, pixels)
        return worth(loss.compare(found, target, pixels), STYLE_FLOOR * energy)

    loss, pixels = structure.style_loss, photograph.shape[0] * photograph.shape[1]
    own = style_targets(structure, problem.params, photograph, tile)
    return References(
        {layer: of_content(layer) for layer in structure.content_layers},
        {
            layer: tuple(of_style(layer, own[layer][0], of) for of in problem.targets.style[layer])
            for layer in structure.style_layers
        },
    )


def check_structure(structure: Structure) -> None:
    """Refuses a network that tiles cannot take apart or evaluate, and losses they cannot add up.

    Raises:
      NstyleError: naming those that they can.
    """
    if not NETWORKS[structure.network].is_tileable:
        able = [name for name, network in NETWORKS.items() if network.is_tileable]
        raise NstyleError(
            f"network: memory and tile work with {' and '.join(able)} alone; the pools of"
            f" {structure.network} overlap, and tiles would too"
        )
    if not structure.pooling.is_local:
        raise NstyleError(
            f"pooling: {structure.pooling.name} may read beyond its windows, where memory and tile"
            " see nothing (they work with avg, max and l2)"
        )
    if structure.precision != "float32":
        raise NstyleError(
            f"precision: {structure.precision} is not for tiles, which memory or tile asks for here"
        )
    if not structure.smoothing.is_identity:
        raise NstyleError(
            f"smoothing: {structure.smoothing.name} is over all positions of the whole picture,"
            " which memory and tile do not have at once (with them: smoothing=none)"
        )
    if structure.content_layers and structure.content_loss.square_share((1, 1, 1)) is None:
        raise NstyleError(
            "content_loss: memory and tile work with euclidean alone; the others compare positions"
            " or read statistics of the whole picture"
        )
    if structure.content_weighted:
        raise NstyleError("content_weight_map: memory and tile do not work with it yet")
    if structure.guided:
        raise NstyleError("content_mask: memory and tile do not work with regions yet")
    if structure.style_layers and not structure.style_loss.by_moments:
        raise NstyleError(
            f"style_loss: {structure.style_loss.name} compares positions of the whole picture,"
            f" which tiles cannot add up exactly (memory and tile work with {BY_MOMENTS})"
        )


def _moments(sums: _Sums, layer: str, positions: int) -> Moments:
    """Returns a layer's moments; in float64 until the product of means is taken away."""
    mean = sums.totals[layer] / positions
    covariance = sums.grams[layer] / positions - np.outer(mean, mean)
    return Moments(jnp.asarray(mean, jnp.float32), jnp.asarray(covariance, jnp.float32))


def estimate(structure: Structure, shape: tuple[int, ...], tile: int) -> int:
    """Returns the peak memory of a process that calls `value_and_grad`, in bytes.

    It is the sum of

    - what the program takes without a picture, `PROGRAM_BYTES`;
    - the content targets: 4 bytes times the size of each content layer;
    - the most of: the picture, the pooled maps and the gates (at the end of the forward pass; for
      `Structure()` 12, 120 and 17 bytes a pixel); the picture and its gradient beside the first
      block's maps (at the end of the backward pass); and eight pictures (total variation);
    - a twentieth of both for what the allocator cannot use again, `HEADROOM`;
    - the tile at work: `TILE_COPIES` times the features of the largest one, what is kept of that
      for the next one, and the band of rows that its row of tiles adds its cotangents to.

    The caller's other arrays, such as the picture that the content targets are of, come on top.

    Args:
      structure: static part of the objective.
      shape: height and width of the picture, at least `structure.minimum_size` each.
      tile: as in `value_and_grad`.

    Raises:
      NstyleError: the tile has less than two pixels.
    """
    parts = _blocks(structure, shape, tile)
    picture = 4 * 3 * math.prod(shape[:2])
    maps = [_map_bytes(part, shape) for part in parts]
    targets = sum(
        4 * width(layer, structure.network) * math.prod(extent(layer, structure.network, shape))
        for layer in structure.content_layers
    )
    most = max(picture + sum(maps), 2 * picture + maps[0], 8 * picture)
    at_work = max(_work_bytes(part, shape) for part in parts)
    return PROGRAM_BYTES + int(HEADROOM * (targets + most)) + at_work


def _map_bytes(part: _Block, shape: tuple[int, ...]) -> int:
    """Returns the size of what a block's forward pass keeps: the gates and the pooled map."""
    channels = part.channels
    height, width_ = part.extent(shape)
    pooled = 4 * channels * (height // 2) * (width_ // 2) if part.pools else 0
    return pooled + len(part.gated) * channels // 8 * height * width_


def _work_bytes(part: _Block, shape: tuple[int, ...]) -> int:
    rows, columns = (edge + 2 * halo for edge, halo in zip(part.tile, part.halo, strict=True))
    inputs = kernel_shape(part.layers[0], part.structure.network)[2]
    band = 4 * inputs * rows * (part.extent(shape)[1] + columns)
    uneven = part.structure.pooling.even_share is None
    copies = TILE_COPIES + (UNEVEN_COPIES if uneven else 0)
    features = copies * 4 * part.channels * rows * columns
    return features + min(KEPT_BYTES, features) + band


def tile_for(structure: Structure, shape: tuple[int, ...], budget: int) -> int:
    """Returns the largest of `TILES` with which `value_and_grad` keeps to so many bytes.

    Args:
      structure: static part of the objective.
      shape: height and width of the picture.
      budget: most bytes that the process may take, as in `estimate`.

    Raises:
      NstyleError: not even the smallest tile does; the line names the largest size that would fit.
    """
    for tile in TILES:
        if estimate(structure, shape, tile) <= budget:
            return tile
    smallest, least, longest = TILES[-1], structure.minimum_size, max(shape[:2])

    def scaled(long: int) -> tuple[int, int]:
        height, width_ = (max(least, round(side * long / longest)) for side in shape[:2])
        return height, width_

    def taken(long: int) -> int:
        return estimate(structure, scaled(long), smallest)

    fitting = bisect.bisect_right(range(least, longest), budget, key=taken)
    height, width_ = scaled(least + fitting - 1)
    fits = f"at most {width_} x {height} fit" if fitting else "no size fits"
    raise NstyleError(
        f"memory: {shape[1]} x {shape[0]} pixels take {_gib(taken(longest))} by tiles of"
        f" {smallest} pixels, more than the {_gib(budget)} allowed; {fits}"
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _targets(
    structure: Structure, params: Params, image: Image | Map, tile: int
) -> Iterator[tuple[_Sums, _Maps]]:
    """Runs the network block by block as far as the structure's layers go."""
    inputs = np.asarray(image, np.float32)
    inputs = grey(inputs) if structure.luminance else inputs
    for part in _blocks(structure, image.shape, tile):
        sums, maps = _forward(part, params, inputs, None)
        yield sums, maps
        inputs = maps.pooled


def _blocks(structure: Structure, shape: tuple[int, ...], tile: int) -> list[_Block]:
    """Returns the blocks up to the deepest layer, each with the shape of its tiles.

    A block k times as wide as the first has 1 / k as many positions in a tile, which so takes the
    same memory. The tiles of a map are as equal as even edges allow.
    """
    if tile < 2:
        raise NstyleError(f"tile: {tile} is not at least 2 pixels")
    # Without reductions and normalisations: tiles do not read them, so they compile nothing again.
    structure = Structure(
        structure.network,
        structure.pooling,
        structure.pixels,
        structure.content_layers,
        structure.style_layers,
        value_range=structure.value_range,
        padding=structure.padding,
    )
    network = structure.network
    widest = width("conv1_1", network)
    found = []
    for layers in blocks(structure.layers, network):
        edge = max(2, int(tile / math.sqrt(width(layers[0], network) / widest)) // 2 * 2)
        counts = [math.ceil(length / edge) for length in extent(layers[0], network, shape)]
        rows, columns = (
            2 * math.ceil(length / count / 2)
            for length, count in zip(extent(layers[0], network, shape), counts, strict=True)
        )
        margin = int(counts[0] > 1), int(counts[1] > 1)
        found.append(_Block(structure, layers, (rows, columns), margin))
    return found


def _check_target(structure: Structure, layer: str, target: Map, shape: tuple[int, ...]) -> None:
    (rows, columns), found = extent(layer, structure.network, shape), target.shape
    if found[:2] != (rows, columns):
        raise NstyleError(
            f"image: {shape[1]} x {shape[0]} pixels are not of the content picture's size: {layer}"
            f" has {columns} x {rows} positions, its target {found[1]} x {found[0]}"
        )


def _terms(
    structure: Structure, problem: Problem, shape: tuple[int, ...], sums: _Sums
) -> tuple[Terms, _Slopes]:
    """Returns the terms, but for total variation, and their weighted derivatives."""
    targets, weights = problem.targets, problem.weights
    network, loss, pixels = structure.network, structure.style_loss, shape[0] * shape[1]
    worths = problem.references or _ones(targets)
    terms, slopes = Terms({}, {}, jnp.zeros(())), _Slopes({}, {}, {})
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
    part: _Block, params: Params, inputs: Map, content: Mapping[str, Map] | None
) -> tuple[_Sums, _Maps]:
    """Runs a block over its whole input; without content targets, in order to make targets."""
    size = inputs.shape[:2]
    own = jax.tree.map(jnp.asarray, part.own(params))
    sums, maps = _blank(part, size, for_targets=content is None)

    for window in _windows(part, size):
        targets = content if content is None else _read_all(part.own(content), window)
        crop = _read(inputs, window, part.halo)
        tile_sums, tile_maps = jax.device_get(_forward_tile(part, own, crop, window, size, targets))
        sums = jax.tree.map(np.add, sums, tile_sums)
        for layer, whole in maps.features.items():
            _write(whole, window, tile_maps.features[layer])
        for layer, whole in maps.gates.items():
            _write(whole, window, tile_maps.gates[layer])
        if part.pools:
            _write(maps.pooled, window.halved(), tile_maps.pooled)
    return sums, maps


def _blank(part: _Block, size: tuple[int, ...], for_targets: bool) -> tuple[_Sums, _Maps]:
    """Returns sums of zero, in float64 as they add up millions of positions, and empty maps."""

    def empty(channels: int, dtype: type = np.float32, pooled: int = 1) -> np.ndarray:
        return np.empty((size[0] // pooled, size[1] // pooled, channels), dtype)

    channels = part.channels
    content = part.own(dict.fromkeys(part.structure.content_layers))
    style = part.own(dict.fromkeys(part.structure.style_layers))
    pooled = empty(channels, pooled=2) if part.pools else None
    grams = {layer: np.zeros((channels, channels)) for layer in style}
    totals = {layer: np.zeros(channels) for layer in style}
    if for_targets:
        return _Sums(grams, totals, {}), _Maps(
            {layer: empty(channels) for layer in content}, {}, pooled
        )
    gates = {layer: empty(channels // 8, np.uint8) for layer in part.gated}
    squares = {layer: np.zeros(()) for layer in content}
    return _Sums(grams, totals, squares), _Maps({}, gates, pooled)


def _backward(
    part: _Block,
    params: Params,
    inputs: Map,
    outputs: Map,
    content: Mapping[str, Map],
    slopes: _Slopes,
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
    own_slopes = _Slopes(*map(part.own, slopes))

    channels = inputs.shape[2]
    band = np.zeros((rows + 2 * above, size[1] + columns + 2 * beside, channels), np.float32)
    for window in _windows(part, size):
        cotangent = _backward_tile(
            part,
            own,
            _read(inputs, window, part.halo),
            window,
            size,
            _read_all(part.own(content), window),
            own_slopes,
            {layer: _read(gate, window, part.beyond(layer)) for layer, gate in gates.items()},
            None if pooled is None else _read(pooled, window.halved()),
        )
        band[:, window.left : window.left + columns + 2 * beside] += np.asarray(cotangent)
        if window.left + columns < size[1]:
            continue
        done = rows if window.top + rows < size[0] else rows + 2 * above
        _write(outputs, _Window(window.top - above, -beside, done, band.shape[1]), band[:done])
        band[: 2 * above] = band[rows:]
        band[2 * above :] = 0.0


def _windows(part: _Block, size: tuple[int, ...]) -> Iterator[_Window]:
    """Yields the tiles of a map of some height and width, row by row."""
    rows, columns = part.tile
    for top in range(0, size[0], rows):
        for left in range(0, size[1], columns):
            yield _Window(top, left, rows, columns)


def _read(whole: np.ndarray, window: _Window, halo: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Returns a copy of a window of a map and a halo, with zeros beyond the map's border."""
    above, beside = halo
    rows, columns = window.rows + 2 * above, window.columns + 2 * beside
    values = np.zeros((rows, columns, whole.shape[2]), whole.dtype)
    inside, outside = _overlap(whole, window.top - above, window.left - beside, rows, columns)
    values[outside] = whole[inside]
    return values


def _read_all(whole: Mapping[str, Map], window: _Window) -> dict[str, Map]:
    return {layer: _read(values, window) for layer, values in whole.items()}


def _write(whole: np.ndarray, window: _Window, values: np.ndarray) -> None:
    """Writes as much of a window's values as lies inside the map."""
    inside, outside = _overlap(whole, *window)
    whole[inside] = values[outside]


def _overlap(
    whole: np.ndarray, top: int, left: int, rows: int, columns: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Returns the part of a window that lies in a map, as slices of the map and of the window."""
    spans = [
        (max(first, 0), min(first + count, length), first)
        for first, count, length in ((top, rows, whole.shape[0]), (left, columns, whole.shape[1]))
    ]
    (a, b, top), (c, d, left) = spans
    return (slice(a, b), slice(c, d)), (slice(a - top, b - top), slice(c - left, d - left))


@functools.partial(jax.jit, static_argnums=0)
def _forward_tile(
    part: _Block,
    params: Params,
    crop: Features,
    window: _Window,
    size: tuple[int, int],
    content: FeatureMaps | None,
) -> tuple[_Sums, _Maps]:
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
    pooled = part.pool(x) if part.pools else None
    if pooled is not None and part.gated:
        _, pull = jax.vjp(part.pool, x)
        active[part.layers[-1]] &= pull(jnp.ones_like(pooled))[0] > 0
    if content is None:
        return _Sums(grams, totals, {}), _Maps(kept, {}, pooled)
    squares = {layer: jnp.sum(jnp.square(f - content[layer])) for layer, f in kept.items()}
    gates = {layer: jnp.packbits(gate, axis=-1) for layer, gate in active.items()}
    return _Sums(grams, totals, squares), _Maps({}, gates, pooled)


@functools.partial(jax.jit, static_argnums=0)
def _backward_tile(
    part: _Block,
    params: Params,
    crop: Features,
    window: _Window,
    size: tuple[int, int],
    content: FeatureMaps,
    slopes: _Slopes,
    gates: dict[str, UInt8[Array, "_ _ _"]],
    pooled: Features | None,
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
        pooling = part.structure.pooling
        assert pooling.even_share is not None, "without it nothing is gated"
        share = pooling.scale * pooling.even_share
        spread = share * jnp.repeat(jnp.repeat(pooled, 2, axis=0), 2, axis=1)
        (of_x,) = jax.vjp(rest, x)[1](spread)
    else:
        (of_x,) = jax.vjp(part.pool, x)[1](pooled)
    return pull((cotangents, of_x))[0]


def _recompute(
    part: _Block, params: Params, crop: Features, window: _Window, size: tuple[int, int]
) -> tuple[FeatureMaps, Features]:
    """Returns the tile's features of the layers with a loss, and all that the last one sees.

    That is the crop itself where the block has none.
    """
    x = crop
    if part.layers[0] == "conv1_1":
        x = preprocess(x / part.structure.value_range, part.structure.pixels)
        x = _bordered(x, part, window, size)
    features = {}
    for layer in part.recomputed:
        x = _layer(part, params, x, layer, window, size)
        if layer in part.structure.layers:
            features[layer] = _trim(x, part.beyond(layer))
    return features, x


def _layer(
    part: _Block, params: Params, x: Features, layer: str, window: _Window, size: tuple[int, int]
) -> Features:
    """Returns a layer's features from the one before, with a halo one position narrower."""
    return _inside(nn.relu(_convolve(part, params, x, layer)), part.beyond(layer), window, size)


def _convolve(part: _Block, params: Params, x: Features, layer: str) -> Features:
    # Cut off after a convolution that pads: XLA's on the CPU is 3 times slower without padding.
    own = params[layer]
    convolve = convolution(layer, part.structure.network, turned=own.get("turned"))
    features = convolve.apply({"params": own}, x)
    assert isinstance(features, jax.Array)
    return _trim(features, part.margin)


def _trim(x: Features, margin: tuple[int, int]) -> Features:
    above, beside = margin
    return x[above : x.shape[0] - above, beside : x.shape[1] - beside]


def _bordered(x: Features, part: _Block, window: _Window, size: tuple[int, int]) -> Features:
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


def _inside(x: Features, halo: tuple[int, int], window: _Window, size: tuple[int, int]) -> Features:
    """Sets features to zero beyond the border of the picture."""
    rows = window.top - halo[0] + jnp.arange(x.shape[0])
    columns = window.left - halo[1] + jnp.arange(x.shape[1])
    inside = ((rows >= 0) & (rows < size[0]))[:, None] & ((columns >= 0) & (columns < size[1]))
    return jnp.where(inside[..., None], x, 0.0)
