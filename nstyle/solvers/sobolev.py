"""The inner product of Sobolev spaces, by which a smooth change of a picture is a short one."""

import jax.numpy as jnp
from jax.scipy.fft import dctn, idctn
from jaxtyping import Array, Float

from nstyle.arrays import Image


def smoothed(image: Image, order: float) -> Image:
    """Returns a picture with the frequencies of its cosine transform weighed by `f^-order`.

    That is the root of the operator that turns gradients of pixels into gradients of the Sobolev
    space H^order (Neuberger 1997, Sobolev Gradients and Differential Equations; of pictures:
    Calder, Mansouri and Yezzi 2010, SIAM J. Imaging Sciences 3). It is symmetric, its factors 1 in
    the mean square. Beyond its borders the picture is taken as mirrored.

    Args:
      image: float32 (height, width, 3).
      order: 0 leaves the picture as it is.
    """
    factors = _factors(image.shape[0], image.shape[1], order)
    return idctn(factors * dctn(image, axes=(0, 1), norm="ortho"), axes=(0, 1), norm="ortho")


def _factors(height: int, width: int, order: float) -> Float[Array, "h w 1"]:
    # In cycles a pixel; the mean colour, of frequency 0, counts as does the longest wave.
    rows, columns = (jnp.arange(side, dtype=jnp.float32) / (2 * side) for side in (height, width))
    square = jnp.square(rows)[:, None] + jnp.square(columns) + 1 / (2 * max(height, width)) ** 2
    factors = square ** (-order / 2)
    return (factors / jnp.sqrt(jnp.mean(jnp.square(factors))))[..., None]
