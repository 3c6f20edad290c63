"""Names, order and geometry of the layers of the networks: VGG-16, VGG-19 and AlexNet.

Without the fully connected layers:

- VGG: Simonyan and Zisserman 2014 (arXiv 1409.1556), table 1, columns D and E. Layers are
  `conv{block}_{index}`; the Keras spelling `block{block}_conv{index}` names the same.
- AlexNet: Krizhevsky 2014 (arXiv 1404.5997), the one tower of torchvision, whose widths differ from
  the two of 2012. Layers are `conv1` to `conv5`.

A layer stands for its features *after* the ReLU, and may also be spelt `relu...`. Besides these
there are `conv4_2.pre`, before the ReLU; `pool3`, what the pool after block 3 makes (`pool1` of
AlexNet: after conv1); `input`, the preprocessed picture; and `features.21`, as torchvision numbers
its modules. `hyper(conv1_1,conv2_1)` is a hypercolumn (Hariharan et al. 2015): layers side by side,
each resized to the positions of the shallowest.
"""

import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from nstyle.errors import NstyleError, check_choice, nearest


class Convolution(NamedTuple):
    """A square convolution.

    Attributes:
      name: of the layer, as it is spelt everywhere but by users.
      width: output channels.
      kernel: edge of the kernel.
      stride: positions between two of its outputs.
      padding: zeros at every side.
      pooled: whether a pool comes before it.
    """

    name: str
    width: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    pooled: bool = False


class Architecture(NamedTuple):
    """A chain of convolutions and pools.

    Attributes:
      convolutions: in order, each with its ReLU.
      pool: edge of the pools' windows. They go by 2 and drop a last row or column that fills none.
      evaluation_bytes: most memory of one evaluation, for each pixel of the picture: the features
        kept for the way back and the gradients beside them (measured up to conv5_1 and conv5).
    """

    convolutions: tuple[Convolution, ...]
    pool: int
    evaluation_bytes: int

    @property
    def is_tileable(self) -> bool:
        """Whether convolutions keep their input's size, and pools halve it without overlap."""
        own = {(layer.stride, layer.kernel - 2 * layer.padding) for layer in self.convolutions}
        return own == {(1, 1)} and self.pool == 2


def _vgg(*counts: int) -> Architecture:
    """Returns a VGG network with so many convolutions in each of its five blocks."""
    widths = (64, 128, 256, 512, 512)
    return Architecture(
        tuple(
            Convolution(f"conv{block}_{index}", width, pooled=index == 1 < block)
            for block, (count, width) in enumerate(zip(counts, widths, strict=True), start=1)
            for index in range(1, count + 1)
        ),
        pool=2,
        evaluation_bytes=2600,
    )


NETWORKS: dict[str, Architecture] = {
    "vgg16": _vgg(2, 2, 3, 3, 3),
    "vgg19": _vgg(2, 2, 4, 4, 4),
    "alexnet": Architecture(
        (
            Convolution("conv1", 64, kernel=11, stride=4, padding=2),
            Convolution("conv2", 192, kernel=5, padding=2, pooled=True),
            Convolution("conv3", 384, pooled=True),
            Convolution("conv4", 256),
            Convolution("conv5", 256),
        ),
        pool=3,
        evaluation_bytes=300,
    ),
}

#: What users call layers, and how the tables here spell it.
_SPELLINGS = {
    r"(?:conv|relu)(\d(?:_\d)?)": r"conv\1",
    r"block(\d)_conv(\d)": r"conv\1_\2",
    r"block(\d)_pool": r"pool\1",
}

#: Layers side by side.
_HYPER = re.compile(r"hyper\((.+)\)")


def layer_names(network: str) -> tuple[str, ...]:
    """Returns the convolutions of `network` in order: `("conv1_1", "conv1_2", "conv2_1", ...)`."""
    check_choice("network", network, NETWORKS)
    return tuple(layer.name for layer in NETWORKS[network].convolutions)


@functools.cache
def taps(network: str) -> tuple[str, ...]:
    """Returns all layers of `network` in order: `input`, `conv1_1.pre`, `conv1_1`, ..., `pool5`."""
    found, before = ["input"], ""
    for name in layer_names(network):
        if geometry(name, network).pooled:
            found.append(_pool_after(before))
        found += [f"{name}.pre", name]
        before = name
    return (*found, _pool_after(before))


def taps_to(layers: tuple[str, ...], network: str) -> tuple[str, ...]:
    """Returns the `taps` of a network up to the deepest of some layers."""
    return taps(network)[: depth(deepest(layers, network), network) + 1]


def is_pool(tap: str) -> bool:
    """Says whether a layer is what a pool makes."""
    return tap.startswith("pool")


def _pool_after(convolution: str) -> str:
    return f"pool{convolution.removeprefix('conv')[0]}"


def canonical(layer: str, network: str) -> str:
    """Returns `layer` as the network's own table spells it.

    Raises:
      NstyleError: `network` has no such layer; the line gives the nearest name and all of them.
    """
    names = taps(network)
    if match := _HYPER.fullmatch(layer):
        parts = tuple(canonical(part.strip(), network) for part in match[1].split(","))
        if len(set(parts)) < max(2, len(parts)):
            raise NstyleError(f"layer: {layer!r} is to name two layers or more, each once")
        return f"hyper({','.join(parts)})"
    name, dot, place = layer.partition(".")
    if name == "features" and place.isdecimal() and int(place) < len(names) - 1:
        return names[1 + int(place)]
    for spelling, own in _SPELLINGS.items():
        if match := re.fullmatch(spelling, name):
            name = match.expand(own)
            break
    if name + dot + place in names:
        return name + dot + place
    raise NstyleError(
        f"layer: {network} has no layer {layer!r}{nearest(layer, names)} (its layers:"
        f" {', '.join(layer_names(network))}; each with .pre before its ReLU; input,"
        f" {', '.join(name for name in names if is_pool(name))})"
    )


def members(layer: str) -> tuple[str, ...]:
    """Returns the layers of a hypercolumn; of another layer itself."""
    match = _HYPER.fullmatch(layer)
    return tuple(match[1].split(",")) if match else (layer,)


def depth(layer: str, network: str) -> int:
    """Returns the place of a layer among the network's `taps`; of a hypercolumn the deepest's."""
    return max(taps(network).index(name) for name in members(layer))


def geometry(layer: str, network: str) -> Convolution:
    """Returns a convolution by its name."""
    return NETWORKS[network].convolutions[layer_names(network).index(layer)]


def width(layer: str, network: str) -> int:
    """Returns the number of channels of a layer in the canonical spelling."""

    def own(name: str) -> int:
        before = needed((name,), network)
        return geometry(before[-1], network).width if before else 3

    return sum(map(own, members(layer)))


def kernel_shape(layer: str, network: str) -> tuple[int, int, int, int]:
    """Returns the shape (height, width, in, out) of the kernel of `layer`."""
    *before, own = needed((layer,), network)
    inputs = width(before[-1], network) if before else 3
    edge = geometry(own, network).kernel
    return (edge, edge, inputs, width(own, network))


def needed(layers: tuple[str, ...], network: str) -> tuple[str, ...]:
    """Returns the convolutions that `layers` need: all of `network` up to the deepest of them."""
    passed = taps_to(layers, network)
    return tuple(name for name in layer_names(network) if f"{name}.pre" in passed)


def blocks(layers: tuple[str, ...], network: str) -> list[tuple[str, ...]]:
    """Returns the convolutions that `layers` need, parted where a pool lies between them.

    Where the deepest layer is a pool or the picture, the convolution that it goes into is in a
    block of its own.
    """
    names, last = layer_names(network), deepest(layers, network)
    count = len(needed(layers, network)) + (last == "input" or is_pool(last))
    found: list[tuple[str, ...]] = [()]
    for name in names[:count]:
        if geometry(name, network).pooled:
            found.append(())
        found[-1] += (name,)
    return found


def entry(convolution: str, network: str) -> str:
    """Returns the layer that goes into a convolution."""
    return taps(network)[depth(f"{convolution}.pre", network) - 1]


def pool_counts(layers: tuple[str, ...], network: str) -> tuple[int, int]:
    """Returns how many pools there are up to the deepest of `layers`, and how many at most.

    The one after the last convolution counts where it is a layer.
    """
    needed = sum(map(is_pool, taps_to(layers, network)))
    between = sum(map(is_pool, taps(network)[:-1]))
    return needed, max(needed, between)


def deepest(layers: tuple[str, ...], network: str) -> str:
    """Returns the layer of `layers` that comes last in `network`, itself or one of its members."""
    found = (name for layer in layers for name in members(layer))
    return max(found, key=lambda name: depth(name, network))


def extent(layer: str, network: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the height and width of a layer's features for a picture of some shape."""
    height, width = shape[:2]
    for window, step, padding in windows(layer, network):
        height, width = (
            max(0, (length + 2 * padding - window) // step + 1) for length in (height, width)
        )
    return height, width


def minimum_size(layer: str, network: str) -> int:
    """Returns the least height and width of a picture of which a layer has a position."""
    length = 1
    for window, step, padding in reversed([*windows(layer, network)]):
        length = max(1, (length - 1) * step + window - 2 * padding)
    return length


def windows(layer: str, network: str) -> Iterator[tuple[int, int, int]]:
    """Yields edge, stride and padding of every pool and convolution from a picture to a layer.

    Of a hypercolumn those of the shallowest layer, whose positions it has.
    """
    shallowest = min(members(layer), key=lambda name: depth(name, network))
    for name in taps_to((shallowest,), network):
        if is_pool(name):
            yield NETWORKS[network].pool, 2, 0
        elif name.endswith(".pre"):
            own = geometry(name.removesuffix(".pre"), network)
            yield own.kernel, own.stride, own.padding


def gradient_flops(layers: tuple[str, ...], network: str, shape: tuple[int, ...]) -> int:
    """Returns the operations of the convolutions in a loss of `layers` and its gradient.

    A multiplication and an addition for each entry of a kernel at each position of its layer, on
    the way forward and again on the way back to the picture; kernels have no gradient here.

    Args:
      layers: canonical names.
      network: a key of `NETWORKS`.
      shape: height and width of the picture.
    """
    return sum(
        4 * math.prod(kernel_shape(layer, network)) * math.prod(extent(layer, network, shape))
        for layer in needed(layers, network)
    )
