"""Networks: their layers, poolings and weights, and the features that they make of a picture.

To add a network, add an `Architecture` to `NETWORKS`; to add a pooling of your own, make a subclass
of `Pooling`.
"""

from nstyle.networks.architectures import (
    NETWORKS,
    Architecture,
    Convolution,
    blocks,
    canonical,
    deepest,
    extent,
    geometry,
    gradient_flops,
    kernel_shape,
    layer_names,
    minimum_size,
    needed,
    width,
    windows,
)
from nstyle.networks.features import (
    MEAN_PIXEL,
    PADDINGS,
    PRECISIONS,
    Params,
    convolution,
    mean_activations,
    network_features,
    preprocess,
    rescale,
    scale_pools,
    turned,
)
from nstyle.networks.pooling import L2, Average, Maximum, Pooling

#: The poolings of this package, by name.
POOLINGS: dict[str, type[Pooling]] = {pooling.name: pooling for pooling in (Average, Maximum, L2)}

__all__ = [
    "L2",
    "MEAN_PIXEL",
    "NETWORKS",
    "PADDINGS",
    "POOLINGS",
    "PRECISIONS",
    "Architecture",
    "Average",
    "Convolution",
    "Maximum",
    "Params",
    "Pooling",
    "blocks",
    "canonical",
    "convolution",
    "deepest",
    "extent",
    "geometry",
    "gradient_flops",
    "kernel_shape",
    "layer_names",
    "mean_activations",
    "minimum_size",
    "needed",
    "network_features",
    "preprocess",
    "rescale",
    "scale_pools",
    "turned",
    "width",
    "windows",
]
