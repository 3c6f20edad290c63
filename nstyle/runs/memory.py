"""How much memory runs take, and so how many are optimised together."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from omegaconf import DictConfig

from nstyle.config import (
    parse_memory,
)
from nstyle.errors import NstyleError
from nstyle.networks import (
    NETWORKS,
    extent,
    kernel_shape,
    needed,
    width,
)
from nstyle.objective import Structure, tiles
from nstyle.process.machine import memory_limit
from nstyle.solvers import Solver

_FLOAT_BYTES = 4

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
    content = sum(
        width(layer, network) * math.prod(extent(layer, network, shape))
        for layer in structure.content_layers
    )
    targets = len(structure.regions)
    style = targets * sum(width(layer, network) ** 2 for layer in structure.style_layers)
    evaluation = NETWORKS[network].evaluation_bytes * shape[0] * shape[1]
    return evaluation + solver.memory_bytes(shape) + _FLOAT_BYTES * (content + style)


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


#: Edge of the tiles that leave room for the solver's history.
_USUAL_TILE = 256


#: Photograph, painting, start, and what of them is kept at smaller sizes; the command's libraries
#: and the programs of the smaller sizes. Measured at 1400 and 2048 px.
_RUN_PICTURES, _RUN_BYTES = 4, 320 * 2**20


#: Time of an evaluation by tiles over that of the whole picture, measured at 1024 px.
TILED_COST = 1.3


def evaluation_bytes(structure: Structure, shape: tuple[int, ...], tile: int | None) -> int:
    """Returns the peak memory of a process for one evaluation, by tiles or whole."""
    if tile is not None:
        return tiles.estimate(structure, shape, tile)
    return tiles.PROGRAM_BYTES + NETWORKS[structure.network].evaluation_bytes * shape[0] * shape[1]


def bytes_beside(solver: Solver, shape: tuple[int, ...]) -> int:
    """Returns the memory of a run beside an evaluation: its solver, its pictures."""
    pictures = _RUN_PICTURES * math.prod(shape) * np.float32().nbytes
    return solver.memory_bytes(shape) + pictures + _RUN_BYTES


def fitting_solver(
    config: DictConfig, structure: Structure, shape: tuple[int, ...], asked: Solver
) -> Solver:
    """Returns the solver asked for, with as much memory of its own as there is room for.

    The room is what an evaluation by the tiles of `_USUAL_TILE` leaves: smaller ones for the sake
    of a longer history cost more time than it saves.
    """
    if config.memory is None:
        return asked
    ways = [None, config.tile or _USUAL_TILE] if _can_be_tiled(structure) else [None]
    room = parse_memory(config.memory) - min(
        evaluation_bytes(structure, shape, tile) for tile in ways
    )
    for solver in asked.ever_smaller():
        if bytes_beside(solver, shape) <= room:
            break
    return solver


def _can_be_tiled(structure: Structure) -> bool:
    try:
        tiles.check_structure(structure)
    except NstyleError:
        return False
    return True


def fitting_tile(
    config: DictConfig, structure: Structure, shape: tuple[int, ...], solver: Solver
) -> int | None:
    """Returns the edge of the tiles by which a size is evaluated; None evaluates it whole."""
    if config.tile is not None:
        tiles.check_structure(structure)
    if config.tile is not None or config.memory is None:
        return config.tile
    beside = bytes_beside(solver, shape)
    left = parse_memory(config.memory) - beside
    if left <= 0:
        raise NstyleError(
            f"memory: {config.memory} is too little: pictures and solver alone take"
            f" {beside / 2**30:.2f} GiB"
        )
    if evaluation_bytes(structure, shape, None) <= left:
        return None
    tiles.check_structure(structure)
    try:
        return tiles.tile_for(structure, shape, left)
    except NstyleError as error:
        raise NstyleError(f"{error}, the run's other {beside / 2**30:.2f} GiB apart") from error


def check_memory(config: DictConfig, shape: tuple[int, ...], beside: int) -> None:
    """Refuses a picture that the memory here does not hold whole, with what is beside it."""
    if config.memory is not None or config.tile is not None:
        return
    pixels = shape[0] * shape[1]
    have = memory_limit()
    need = NETWORKS[config.network].evaluation_bytes * pixels + beside
    if need > have:
        fits = int((have / need) ** 0.5 * max(shape[:2]))
        raise NstyleError(
            f"size: {shape[1]} x {shape[0]} pixels need about {need / 2**30:.0f} GiB of memory,"
            f" {have / 2**30:.1f} GiB are here (the largest long side that fits is {fits};"
            " memory=8GiB and the like evaluates larger ones by tiles)"
        )
