"""Names, order, widths and strides of the convolutions of VGG-16 and VGG-19.

Simonyan and Zisserman 2014 (arXiv 1409.1556), table 1, columns D and E, without the fully connected
layers. A layer `conv{block}_{index}` stands for its features *after* the ReLU; the Keras spelling
`block{block}_conv{index}` and the ReLU spelling `relu{block}_{index}` name the same layer.
"""

import math
import re

from nstyle.errors import NstyleError, check_choice, nearest

#: Convolutions in each of the five blocks.
BLOCKS: dict[str, tuple[int, ...]] = {
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}

#: Output channels of the convolutions of each block.
WIDTHS = (64, 128, 256, 512, 512)

_SPELLINGS = (r"(?:conv|relu)(\d)_(\d)", r"block(\d)_conv(\d)")


def layer_names(network: str) -> tuple[str, ...]:
    """Returns the convolutions of `network` in order: `("conv1_1", "conv1_2", "conv2_1", ...)`."""
    check_choice("network", network, BLOCKS)
    return tuple(
        f"conv{block}_{index}"
        for block, count in enumerate(BLOCKS[network], start=1)
        for index in range(1, count + 1)
    )


def canonical(layer: str, network: str) -> str:
    """Returns `layer` in the spelling `conv{block}_{index}`.

    Raises:
      NstyleError: `network` has no such layer; the line gives the nearest name and all of them.
    """
    names = layer_names(network)
    for spelling in _SPELLINGS:
        if match := re.fullmatch(spelling, layer):
            name = f"conv{match[1]}_{match[2]}"
            if name in names:
                return name
    raise NstyleError(
        f"layer: {network} has no layer {layer!r}{nearest(layer, names)} (its layers:"
        f" {', '.join(names)})"
    )


def block(layer: str) -> int:
    """Returns the block, from 1 to 5, of a layer in the canonical spelling."""
    return int(layer[len("conv")])


def width(layer: str) -> int:
    """Returns the number of channels of a layer in the canonical spelling."""
    return WIDTHS[block(layer) - 1]


def stride(layer: str) -> int:
    """Returns how many pixels lie between two positions of a layer: 1, 2, 4, 8 or 16."""
    return 2 ** (block(layer) - 1)


def kernel_shape(layer: str, network: str) -> tuple[int, int, int, int]:
    """Returns the shape (height, width, in, out) of the kernel of `layer`."""
    names = layer_names(network)
    position = names.index(layer)
    inputs = width(names[position - 1]) if position else 3
    return (3, 3, inputs, width(layer))


def needed(layers: tuple[str, ...], network: str) -> tuple[str, ...]:
    """Returns the convolutions that `layers` need: all of `network` up to the deepest of them."""
    names = layer_names(network)
    return names[: names.index(deepest(layers, network)) + 1]


def deepest(layers: tuple[str, ...], network: str) -> str:
    """Returns the layer of `layers` that comes last in `network`."""
    return max(layers, key=layer_names(network).index)


def gradient_flops(layers: tuple[str, ...], network: str, shape: tuple[int, ...]) -> int:
    """Returns the operations of the convolutions in a loss of `layers` and its gradient.

    A multiplication and an addition for each entry of a kernel at each position of its layer, on
    the way forward and again on the way back to the picture; kernels have no gradient here.

    Args:
      layers: canonical names.
      network: `vgg16` or `vgg19`.
      shape: height and width of the picture.
    """
    return sum(
        4
        * math.prod(kernel_shape(layer, network))
        * math.prod(length // stride(layer) for length in shape[:2])
        for layer in needed(layers, network)
    )
