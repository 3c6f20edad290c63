"""Which runs of a sweep can share a compiled step: layer subsets as one set with weights of zero.

A layer of weight zero costs its part of every evaluation, a step of its own costs a compilation.
Runs whose structures differ in nothing but layers share one structure, the union of their layers,
as long as that costs them less together than the compilation they save. Not so with
`style_losses.CrossLayerGram`: which layers make pairs depends on all of them.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from nstyle.losses import CrossLayerGram
from nstyle.networks import extent, gradient_flops, layer_names, width
from nstyle.objective import Structure

#: Of one compilation, in seconds, and of an evaluation, in operations a second; orders of magnitude
#: (two CPU cores: 4 s and 1.3e11).
COMPILE_SECONDS = 4.0
OPERATIONS_PER_SECOND = 1.3e11

_LARGE = 1024  # side of a picture whose borders hardly count; every stride divides it

_BYTES_AS_OPERATIONS = 10.0  # reading or writing a number takes about as long as ten operations


def operations_per_pixel(structure: Structure) -> float:
    """Returns about how many operations one loss and its gradient take for each pixel."""
    network, shape = structure.network, (_LARGE, _LARGE)
    total = float(gradient_flops(structure.layers, network, shape))
    for layer in structure.style_layers:  # the Gram matrix of each region, and its gradient
        positions = math.prod(extent(layer, network, shape))
        total += 4.0 * structure.region_count * width(layer, network) ** 2 * positions
    for layer in structure.content_layers:
        numbers = width(layer, network) * math.prod(extent(layer, network, shape))
        total += 4.0 * _BYTES_AS_OPERATIONS * numbers
    return total / math.prod(shape)


def shared(structures: Sequence[Structure], pixels: int, steps: int) -> list[Structure]:
    """Returns for each run the structure to compile for it, its own or one that others share.

    Args:
      structures: of the runs of a sweep, one for each run.
      pixels: of the largest picture.
      steps: of the longest run.
    """

    def seconds(structure: Structure) -> float:
        return operations_per_pixel(structure) * pixels * steps / OPERATIONS_PER_SECOND

    groups: list[tuple[Structure, list[int]]] = []  # the union, and the runs in it
    by_cost = sorted(range(len(structures)), key=lambda i: -operations_per_pixel(structures[i]))
    for i in by_cost:
        own = structures[i]
        for number, (union, members) in enumerate(groups):
            if (
                isinstance(own.style_loss, CrossLayerGram)
                or own.network != union.network  # whose layers have other names
                or replace(union, content_layers=own.content_layers, style_layers=own.style_layers)
                != own
            ):
                continue
            joined = _union(union, own)
            extra = sum(seconds(joined) - seconds(structures[j]) for j in [*members, i])
            before = sum(seconds(union) - seconds(structures[j]) for j in members)
            if extra - before < COMPILE_SECONDS:
                groups[number] = (joined, [*members, i])
                break
        else:
            groups.append((own, [i]))
    found = dict(enumerate(structures))
    for union, members in groups:
        found |= dict.fromkeys(members, union)
    return [found[i] for i in range(len(structures))]


def _union(first: Structure, second: Structure) -> Structure:
    order = layer_names(first.network)

    def joined(name: str) -> tuple[str, ...]:
        layers = {*getattr(first, name), *getattr(second, name)}
        return tuple(sorted(layers, key=order.index))

    return replace(
        first, content_layers=joined("content_layers"), style_layers=joined("style_layers")
    )
