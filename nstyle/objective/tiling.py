"""How pictures and maps are cut into tiles."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from nstyle.arrays import Features, PyTree
from nstyle.errors import NstyleError
from nstyle.networks import (
    NETWORKS,
    PADDINGS,
    POOLINGS,
    Pooling,
    blocks,
    deepest,
    depth,
    entry,
    extent,
    layer_names,
    members,
    pool_counts,
    taps,
    width,
)
from nstyle.objective.terms import BY_MOMENTS, Structure

#: Features, a pooled map, a picture or the cotangent of one of these, in the host's memory.
Map = Float[np.ndarray, "h w c"]


T = TypeVar("T")


class Block(NamedTuple):
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

    def own_pooling(self, pooling: Pooling) -> Pooling:
        """Returns what a pooling of the whole network is for the pool after the block."""
        return pooling.at(pool_counts(self.layers[-1:], self.structure.network)[0])

    @property
    def pooling(self) -> Pooling:
        """Of the pool after it, if there is one; its traced options are at their defaults."""
        return self.own_pooling(self.structure.pooling)

    def pool(self, x: Features, options: PyTree) -> Features:
        """Returns what the pool after it makes of features, with traced options."""
        return self.pooling.bound(options)(x, NETWORKS[self.structure.network].pool)

    @property
    def halo(self) -> tuple[int, int]:
        """How many positions beyond a tile its features see."""
        return self._halo_of(len(self.layers))

    @property
    def recomputed(self) -> tuple[str, ...]:
        """The layers whose features the backward pass needs, as a rule to the last with a loss."""
        if self.pools and self.pooling.even_share is None:
            return self.layers
        with_loss = self.structure.layers
        losses = [
            i for i, name in enumerate(self.layers, 1) if {name, f"{name}.pre"} & {*with_loss}
        ]
        return self.layers[: max(losses, default=0)]

    @property
    def gated(self) -> tuple[str, ...]:
        """The layers after those: of them the backward pass needs the gates alone."""
        return self.layers[len(self.recomputed) :] if self.pools else ()

    @property
    def pools(self) -> bool:
        """Whether another block follows."""
        network = self.structure.network
        last = deepest(self.structure.layers, network)
        return depth(last, network) > depth(self.layers[-1], network)

    @property
    def entry(self) -> str:
        """The layer that is its input."""
        return entry(self.layers[0], self.structure.network)

    def own(self, by_layer: Mapping[str, T]) -> dict[str, T]:
        """The entries of this block's layers: its input's, and those before and after each ReLU."""
        names = [self.entry, *(name + part for name in self.layers for part in (".pre", ""))]
        return {layer: by_layer[layer] for layer in names if layer in by_layer}

    def beyond(self, layer: str) -> tuple[int, int]:
        """How many positions of a layer beyond a tile the block's output sees."""
        return self._halo_of(len(self.layers) - 1 - self.layers.index(layer))

    def _halo_of(self, convolutions: int) -> tuple[int, int]:
        return convolutions * self.margin[0], convolutions * self.margin[1]


#: Poolings that tiles can make, for messages.
_LOCAL = ", ".join(name for name, pooling in POOLINGS.items() if pooling.is_local)


class Window(NamedTuple):
    """A tile of a map: its first row and column, which may lie outside, and how many it has."""

    top: int
    left: int
    rows: int
    columns: int

    def halved(self) -> "Window":
        """The same tile of the map after the pool."""
        return Window(*(value // 2 for value in self))


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
    network = structure.network
    for layer in structure.layers:
        if len(members(layer)) > 1:
            raise NstyleError(f"{layer}: memory and tile do not work with layers side by side")
    last = deepest(structure.layers, network)
    if last == taps(network)[-1]:
        raise NstyleError(
            f"{last}: memory and tile work with layers up to {layer_names(network)[-1]}"
        )
    if not structure.pooling.is_local:
        raise NstyleError(
            f"pooling: {structure.pooling.name} may read beyond its windows, where memory and tile"
            f" see nothing, or draw (they work with {_LOCAL})"
        )
    if PADDINGS[structure.padding] is None:
        raise NstyleError(f"padding: memory and tile do not work with {structure.padding}")
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
            f" which tiles cannot add up exactly (memory and tile work with {BY_MOMENTS},"
            " each at its default options)"
        )


def blocks_of(structure: Structure, shape: tuple[int, ...], tile: int) -> list[Block]:
    """Returns the blocks up to the deepest layer, each with the shape of its tiles.

    A block k times as wide as the first has 1 / k as many positions in a tile, which so takes the
    same memory. The tiles of a map are as equal as even edges allow.
    """
    if tile < 2:
        raise NstyleError(f"tile: {tile} is not at least 2 pixels")
    # Without reductions and normalisations: tiles do not read them, so they compile nothing again.
    structure = Structure(
        structure.network,
        structure.pooling.static,
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
        found.append(Block(structure, layers, (rows, columns), margin))
    return found


def windows_of(part: Block, size: tuple[int, ...]) -> Iterator[Window]:
    """Yields the tiles of a map of some height and width, row by row."""
    rows, columns = part.tile
    for top in range(0, size[0], rows):
        for left in range(0, size[1], columns):
            yield Window(top, left, rows, columns)


def read(whole: np.ndarray, window: Window, halo: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Returns a copy of a window of a map and a halo, with zeros beyond the map's border."""
    above, beside = halo
    rows, columns = window.rows + 2 * above, window.columns + 2 * beside
    values = np.zeros((rows, columns, whole.shape[2]), whole.dtype)
    inside, outside = _overlap(whole, window.top - above, window.left - beside, rows, columns)
    values[outside] = whole[inside]
    return values


def read_all(whole: Mapping[str, Map], window: Window) -> dict[str, Map]:
    """Returns what `read` does, of each map."""
    return {layer: read(values, window) for layer, values in whole.items()}


def write(whole: np.ndarray, window: Window, values: np.ndarray) -> None:
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
