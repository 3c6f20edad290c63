"""How much memory runs take, and so how many are optimised together."""

import math
from collections.abc import Sequence

import jax

from nstyle.networks import NETWORKS, extent, kernel_shape, needed, width
from nstyle.objective import Structure
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
