"""One pass of a network over a picture too large for memory.

The same numbers as `feedforward.paint`, up to rounding, borders included. Instance normalisation
needs the mean and variance of whole maps, so that a picture to paint can't be cut up beforehand:
each layer is convolved by tiles, its map is put together in the host's memory, and normalised
there. A network that makes pictures larger normalises nothing: each tile of its result is made from
all that it depends on. Python drives the tiles, all of one shape, so that they compile once.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import expit

from nstyle.feedforward.network import (
    EPSILON,
    Architecture,
    Layer,
    NetParams,
    convolution,
    layers_of,
    paint,
)
from nstyle.feedforward.resolution import BACK_REACH

#: A picture or features, in the host's memory.
Map = Float[np.ndarray, "h w c"]

#: Rows of a map that are normalised at a time.
_BAND = 64


def paint_by_tiles(
    architecture: Architecture,
    params: NetParams,
    image: Map,
    mixture: np.ndarray,
    tile: int,
    watch: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> Map:
    """Returns what `feedforward.paint` does, float32 (height, width, 3).

    Of a painting the maps of the first and the last but one layer are the largest: 4 `width` bytes
    a pixel, and half of that for the next. Of an enlarged picture no map is held but of one tile.

    Args:
      architecture: of the network.
      params: its parameters.
      image: float32, RGB in [0, 1], of any size from `feedforward.LEAST_SIDE` on.
      mixture: the share of every style.
      tile: edge of the tiles in positions of a layer's output, or of the enlarged picture.
      watch: yields what it is given, and shows how far that is: the layers of a painting, the tiles
        of an enlarged picture.
    """
    if architecture.upscale:
        return _enlarge(architecture, params, image, mixture, tile, watch)
    height, width = image.shape[:2]
    below, beside = -height % architecture.stride, -width % architecture.stride
    x = block = 2 * np.pad(image, ((0, below), (0, beside), (0, 0)), mode="reflect") - 1
    for layer in watch(layers_of(architecture)):
        if layer.opens:
            block = x
        x = _convolved(x, layer, params[layer.name], architecture, tile)
        if layer.normalised:
            norm = params[f"{layer.name}_norm"]
            _normalise(x, *(mixture @ np.asarray(norm[name]) for name in ("scale", "shift")))
        if layer.relu:
            np.maximum(x, 0, out=x)
        if layer.closes:
            x += block
    return expit(x, out=x)[:height, :width]


def _enlarge(
    architecture: Architecture,
    params: NetParams,
    image: Map,
    mixture: np.ndarray,
    tile: int,
    watch: Callable[[Sequence[Any]], Iterable[Any]],
) -> Map:
    factor, margin = architecture.upscale or 1, sight(architecture)
    sides = np.array(image.shape[:2])
    edges = np.minimum(max(1, tile // factor), sides)
    windows = np.minimum(edges + 2 * margin, sides)
    result = np.empty((*factor * sides, 3), np.float32)
    for start in watch(list(itertools.product(*map(_starts, sides, edges)))):
        first = np.clip(np.array(start) - margin, 0, sides - windows)
        window = image[_part(first, windows)]
        made = _paint(architecture, params, window[None], mixture[None])[0]
        inside = _part(factor * (start - first), factor * edges)
        result[_part(factor * np.array(start), factor * edges)] = np.asarray(made)[inside]
    return result


_paint = jax.jit(paint, static_argnums=0)


def _part(start: np.ndarray, lengths: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(*ends) for ends in zip(start, start + lengths, strict=True))


def sight(architecture: Architecture) -> int:
    """Returns how far an enlarged pixel sees at most, in pixels of the picture given.

    One more than the kernels reach together, as the middle of an enlarged pixel is not that of one
    given; and back-projection looks at pixels around. The cubic before that sees less than the
    first layer.
    """
    reach, scale = 1.0 + BACK_REACH, 1
    for layer in layers_of(architecture):
        scale *= layer.enlarged
        reach += layer.kernel // 2 / scale
    return math.ceil(reach)


def _convolved(
    x: Map, layer: Layer, params: Mapping[str, Array], architecture: Architecture, tile: int
) -> Map:
    height, width = (length * layer.enlarged // layer.stride for length in x.shape[:2])
    convolved = np.empty((height, width, layer.channels), np.float32)
    edges = min(tile, height), min(tile, width)
    for top in _starts(height, edges[0]):
        for left in _starts(width, edges[1]):
            window = _window(x, layer, (top, left), edges, architecture)
            convolved[top : top + edges[0], left : left + edges[1]] = _convolve(
                layer, params, window
            )
    return convolved


def _starts(length: int, edge: int) -> Iterator[int]:
    """Yields where tiles begin; the last one overlaps its neighbour rather than being smaller."""
    return (min(start, length - edge) for start in range(0, length, edge))


def _window(
    x: Map,
    layer: Layer,
    start: tuple[int, int],
    edges: tuple[int, int],
    architecture: Architecture,
) -> Map:
    """Returns what a tile of a layer's output sees: its map, enlarged and with its border."""
    sides = [length * layer.enlarged for length in x.shape[:2]]
    seen = [
        np.arange(edge * layer.stride + layer.kernel - layer.stride)
        + first * layer.stride
        - layer.kernel // 2
        for first, edge in zip(start, edges, strict=True)
    ]
    rows, columns = map(_reflected, seen, sides)
    source_rows, source_columns = rows // layer.enlarged, columns // layer.enlarged
    low, high = source_columns.min(), source_columns.max() + 1
    window = x[source_rows, low:high][:, source_columns - low]
    if layer.enlarged > 1 and architecture.upsampling == "transposed":
        window[rows % layer.enlarged > 0] = 0
        window[:, columns % layer.enlarged > 0] = 0
    if architecture.border == "zeros":
        window[rows != seen[0]] = 0
        window[:, columns != seen[1]] = 0
    return window


def _reflected(positions: np.ndarray, length: int) -> np.ndarray:
    """Returns positions outside a map as those inside that its border reflects."""
    return (length - 1) - np.abs((length - 1) - np.abs(positions))


@functools.partial(jax.jit, static_argnums=0)
def _convolve(
    layer: Layer, params: Mapping[str, Array], window: Float[Array, "h w c"]
) -> Float[Array, "edge edge_ out"]:
    return jnp.asarray(convolution(layer).apply({"params": params}, window[None])[0])


def _normalise(x: Map, scale: np.ndarray, shift: np.ndarray) -> None:
    """Normalises every channel of a map in place, by its mean and variance in float64."""
    bands = [x[top : top + _BAND] for top in range(0, len(x), _BAND)]
    positions = x.shape[0] * x.shape[1]
    mean = sum(band.sum(axis=(0, 1), dtype=np.float64) for band in bands) / positions
    squares = (np.square(band - mean.astype(np.float32)) for band in bands)
    variance = sum(square.sum(axis=(0, 1), dtype=np.float64) for square in squares) / positions
    factor = scale / np.sqrt(variance + EPSILON)
    for band in bands:
        band -= mean.astype(np.float32)
        band *= factor.astype(np.float32)
        band += shift.astype(np.float32)
