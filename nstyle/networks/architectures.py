"""Names, order and geometry of the convolutions of the networks: VGG-16, VGG-19 and AlexNet.

Without the fully connected layers:

- VGG: Simonyan and Zisserman 2014 (arXiv 1409.1556), table 1, columns D and E. Layers are
  `conv{block}_{index}`; the Keras spelling `block{block}_conv{index}` names the same.
- AlexNet: Krizhevsky 2014 (arXiv 1404.5997), the one tower of torchvision, whose widths differ from
  the two of 2012. Layers are `conv1` to `conv5`.

A layer stands for its features *after* the ReLU, and may also be spelt `relu...`.
"""

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

_SPELLINGS = {r"(?:conv|relu)(\d(?:_\d)?)": r"conv\1", r"block(\d)_conv(\d)": r"conv\1_\2"}


def layer_names(network: str) -> tuple[str, ...]:
    """Returns the convolutions of `network` in order: `("conv1_1", "conv1_2", "conv2_1", ...)`."""
    check_choice("network", network, NETWORKS)
    return tuple(layer.name for layer in NETWORKS[network].convolutions)


def canonical(layer: str, network: str) -> str:
    """Returns `layer` as the network's own table spells it.

    Raises:
      NstyleError: `network` has no such layer; the line gives the nearest name and all of them.
    """
    names = layer_names(network)
    for spelling, name in _SPELLINGS.items():
        if (match := re.fullmatch(spelling, layer)) and (found := match.expand(name)) in names:
            return found
    raise NstyleError(
        f"layer: {network} has no layer {layer!r}{nearest(layer, names)} (its layers:"
        f" {', '.join(names)})"
    )


def geometry(layer: str, network: str) -> Convolution:
    """Returns the convolution of a layer in the canonical spelling."""
    return NETWORKS[network].convolutions[layer_names(network).index(layer)]


def width(layer: str, network: str) -> int:
    """Returns the number of channels of a layer in the canonical spelling."""
    return geometry(layer, network).width


def kernel_shape(layer: str, network: str) -> tuple[int, int, int, int]:
    """Returns the shape (height, width, in, out) of the kernel of `layer`."""
    *before, own = needed((layer,), network)
    inputs = width(before[-1], network) if before else 3
    edge = geometry(own, network).kernel
    return (edge, edge, inputs, width(own, network))


def needed(layers: tuple[str, ...], network: str) -> tuple[str, ...]:
    """Returns the convolutions that `layers` need: all of `network` up to the deepest of them."""
    names = layer_names(network)
    return names[: names.index(deepest(layers, network)) + 1]


def blocks(layers: tuple[str, ...], network: str) -> list[tuple[str, ...]]:
    """Returns the convolutions that `layers` need, parted where a pool lies between them."""
    found: list[tuple[str, ...]] = [()]
    for name in needed(layers, network):
        if geometry(name, network).pooled:
            found.append(())
        found[-1] += (name,)
    return found


def pool_counts(layers: tuple[str, ...], network: str) -> tuple[int, int]:
    """Returns how many pools there are before the deepest of `layers`, and in all of `network`."""
    before = sum(geometry(name, network).pooled for name in needed(layers, network))
    return before, sum(layer.pooled for layer in NETWORKS[network].convolutions)


def deepest(layers: tuple[str, ...], network: str) -> str:
    """Returns the layer of `layers` that comes last in `network`."""
    return max(layers, key=layer_names(network).index)


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
    """Yields edge, stride and padding of every pool and convolution from a picture to a layer."""
    for name in needed((layer,), network):
        own = geometry(name, network)
        if own.pooled:
            yield NETWORKS[network].pool, 2, 0
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
