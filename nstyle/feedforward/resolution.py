"""Pictures made smaller, as super-resolution is given them, and larger, as it begins and ends.

Linear filters (Johnson, Alahi and Fei-Fei 2016, arXiv 1603.08155, section 4.2). Training, scores
and tests take these, so that they speak of the same small pictures.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

#: Standard deviation of the Gaussian before a picture is made smaller, in its pixels, and how far
#: its kernel reaches.
SIGMA, _REACH = 1.0, 4

#: How far `back_projected` sees, in pixels of the small picture: both cubics reach over two of
#: them, the blur over one at most.
BACK_REACH = 5


def reduced(pictures: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h_ w_ c"]:
    """Returns pictures `factor` times as small: a Gaussian blur, then bicubic down-sampling.

    The blur mirrors borders, edge pixels included, as SciPy's `gaussian_filter` does. The cubic is
    Keys' with a = -1/2, stretched by the factor against aliasing, as Pillow's `BICUBIC` is.

    Args:
      pictures: float; heights and widths are multiples of `factor` and at least 4.
      factor: how many times.
    """
    batch, height, width, channels = pictures.shape
    shape = batch, height // factor, width // factor, channels
    return jax.image.resize(_blurred(pictures), shape, "cubic")


def enlarged(pictures: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h_ w_ c"]:
    """Returns pictures `factor` times as large, by the same cubic; it may overshoot their range."""
    batch, height, width, channels = pictures.shape
    return jax.image.resize(pictures, (batch, factor * height, factor * width, channels), "cubic")


def back_projected(
    pictures: Float[Array, "b h w c"], small: Float[Array, "b h_ w_ c"], factor: int
) -> Float[Array, "b h w c"]:
    """Returns pictures that, reduced, are closer to the small ones.

    What they lack is enlarged and added, once (Irani and Peleg 1991, Improving Resolution by Image
    Registration).
    """
    return pictures + enlarged(small - reduced(pictures, factor), factor)


def _blurred(pictures: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    kernel = np.exp(-0.5 * np.square(np.arange(-_REACH, _REACH + 1) / SIGMA))
    kernel /= kernel.sum()
    for axis in (1, 2):
        border = [(_REACH, _REACH) if axis == other else (0, 0) for other in range(4)]
        wide, length = jnp.pad(pictures, border, mode="symmetric"), pictures.shape[axis]
        pictures = sum(
            (
                share * jax.lax.slice_in_dim(wide, start, start + length, axis=axis)
                for start, share in enumerate(kernel.tolist())
            ),
            start=jnp.zeros_like(pictures),
        )
    return pictures
