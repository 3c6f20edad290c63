"""How much memory evaluations, tiles and batches take; measured on x86 Linux."""

import bisect
import math
from collections.abc import Sequence

import jax
import numpy as np

from nstyle.errors import NstyleError
from nstyle.networks import NETWORKS, extent, kernel_shape, members, needed, width
from nstyle.objective.terms import Structure
from nstyle.objective.tiling import Block, blocks_of
from nstyle.solvers import Solver

_FLOAT_BYTES = 4

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


#: Copies of layers side by side that exist at a time, measured at 192 px.
_HYPER_COPIES = 4


#: Memory taken over memory in use, measured with glibc.
HEADROOM = 1.05


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
    parts = blocks_of(structure, shape, tile)
    picture = 4 * 3 * math.prod(shape[:2])
    maps = [_map_bytes(part, shape) for part in parts]
    targets = _target_bytes(structure, shape)
    most = max(picture + sum(maps), 2 * picture + maps[0], 8 * picture)
    at_work = max(_work_bytes(part, shape) for part in parts)
    return PROGRAM_BYTES + int(HEADROOM * (targets + most)) + at_work


def _target_bytes(structure: Structure, shape: tuple[int, ...]) -> int:
    """Returns the size of the content targets."""
    network = structure.network
    return sum(
        _FLOAT_BYTES * width(layer, network) * math.prod(extent(layer, network, shape))
        for layer in structure.content_layers
    )


def _map_bytes(part: Block, shape: tuple[int, ...]) -> int:
    """Returns the size of what a block's forward pass keeps: the gates and the pooled map."""
    channels = part.channels
    height, width_ = part.extent(shape)
    pooled = 4 * channels * (height // 2) * (width_ // 2) if part.pools else 0
    return pooled + len(part.gated) * channels // 8 * height * width_


def _work_bytes(part: Block, shape: tuple[int, ...]) -> int:
    rows, columns = (edge + 2 * halo for edge, halo in zip(part.tile, part.halo, strict=True))
    inputs = kernel_shape(part.layers[0], part.structure.network)[2]
    band = 4 * inputs * rows * (part.extent(shape)[1] + columns)
    uneven = part.pools and part.pooling.even_share is None
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


#: Photograph, painting, start, and what of them is kept at smaller sizes; the command's libraries
#: and the programs of the smaller sizes. Measured at 1400 and 2048 px.
_RUN_PICTURES, _RUN_BYTES = 4, 320 * 2**20


def evaluation_bytes(structure: Structure, shape: tuple[int, ...], tile: int | None) -> int:
    """Returns the peak memory of a process for one evaluation, by tiles or whole."""
    if tile is not None:
        return estimate(structure, shape, tile)
    return PROGRAM_BYTES + _whole_bytes(structure, shape)


def _whole_bytes(structure: Structure, shape: tuple[int, ...]) -> int:
    """Returns the memory of one evaluation of the whole picture, without the program."""
    network = structure.network
    own = NETWORKS[network].evaluation_bytes * structure.pooling.memory_share
    beside = sum(
        width(layer, network) * math.prod(extent(layer, network, shape))
        for layer in structure.layers
        if len(members(layer)) > 1
    )
    return int(own * shape[0] * shape[1]) + _HYPER_COPIES * _FLOAT_BYTES * beside


def bytes_beside(solver: Solver, shape: tuple[int, ...]) -> int:
    """Returns the memory of a run beside an evaluation: its solver, its pictures."""
    pictures = _RUN_PICTURES * math.prod(shape) * np.float32().nbytes
    return solver.memory_bytes(shape) + pictures + _RUN_BYTES


#: Pixels of a batch on a CPU; more bring next to nothing. On two cores four members took 0.65 of
#: the processor time of one after another at 64 px, 0.84 at 128 px and 0.94 at 256 px, sixteen at
#: 64 px 0.55.
CPU_PIXELS = 256 * 256

#: Share of the memory that is counted on; the rest is for fragmentation and the compiler.
_USABLE_SHARE = 0.9


def member_bytes(structure: Structure, shape: tuple[int, ...], solver: Solver) -> int:
    """Returns about how much memory one member of a batch takes, rather too much than too little.

    One evaluation (`Architecture.evaluation_bytes`), what the solver keeps (`Solver.memory_bytes`),
    and the targets, features of the content layers and Gram matrices of the style layers.

    Args:
      structure: static part of the objective.
      shape: of the picture, height first.
      solver: the solver.
    """
    network = structure.network
    targets = len(structure.regions)
    style = targets * sum(width(layer, network) ** 2 for layer in structure.style_layers)
    return (
        _whole_bytes(structure, shape)
        + solver.memory_bytes(shape)
        + _target_bytes(structure, shape)
        + _FLOAT_BYTES * style
    )


def shared_bytes(structure: Structure) -> int:
    """Returns about how much memory all members share: the network, and its kernels turned round.

    The turned kernels take the gradient back through the convolutions.
    """
    used = needed(structure.layers, structure.network)
    return sum(2 * _FLOAT_BYTES * math.prod(kernel_shape(name, structure.network)) for name in used)


def batch_size(
    structure: Structure, shape: tuple[int, ...], solver: Solver, bytes_free: int
) -> int:
    """Returns how many members fit into the free memory of a device, at least one.

    See `member_bytes` and `shared_bytes`; a tenth of the memory is left alone.
    """
    usable = _USABLE_SHARE * bytes_free - shared_bytes(structure)
    return max(1, int(usable / member_bytes(structure, shape, solver)))


def automatic(
    structure: Structure,
    shape: tuple[int, ...],
    solver: Solver,
    devices: Sequence[jax.Device] | None = None,
) -> int:
    """Returns how many members to optimise together on these devices, by default the first one.

    On a GPU as many as fit. On a CPU so many that their pictures together have `CPU_PIXELS`: one
    evaluation reads and turns all kernels, which takes as long as some 4,000 pixels do.
    """
    devices = devices or jax.devices()[:1]
    stats = [device.memory_stats() for device in devices]
    if not all(stats):
        return len(devices) * max(1, CPU_PIXELS // (shape[0] * shape[1]))
    free = min(found["bytes_limit"] - found["bytes_in_use"] for found in stats)
    return len(devices) * batch_size(structure, shape, solver, free)
