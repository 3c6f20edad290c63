"""Total variation: how much neighbouring pixels of a picture differ, in every form in use."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from nstyle.arrays import Image, Scalar


def _tv_power(image: Image, white: float) -> Scalar:
    return jnp.sum(_squared_slopes(image) ** 1.25)


def _tv_half_squared(image: Image, white: float) -> Scalar:
    return 0.5 * (jnp.sum(jnp.square(_dx(image))) + jnp.sum(jnp.square(_dy(image))))


def _tv_mean_squared(image: Image, white: float) -> Scalar:
    return jnp.mean(jnp.square(_dx(image))) + jnp.mean(jnp.square(_dy(image)))


def _tv_l1(image: Image, white: float) -> Scalar:
    return jnp.sum(jnp.abs(_dx(image))) + jnp.sum(jnp.abs(_dy(image)))


def _tv_isotropic(image: Image, white: float) -> Scalar:
    floor = ISOTROPIC_FLOOR * white
    return jnp.sum(jnp.sqrt(_squared_slopes(image) + floor**2) - floor)


def _tv_huber(image: Image, white: float) -> Scalar:
    bend = HUBER_BEND * white
    squares = _squared_slopes(image)
    steep = squares > bend**2
    lengths = jnp.sqrt(jnp.where(steep, squares, 1.0))  # of a flat one the root has no slope
    return jnp.sum(jnp.where(steep, lengths - bend / 2, squares / (2 * bend)))


def _squared_slopes(image: Image) -> Float[Array, "h_minus_1 w_minus_1 3"]:
    dx = image[:-1, 1:] - image[:-1, :-1]
    dy = image[1:, :-1] - image[:-1, :-1]
    return jnp.square(dx) + jnp.square(dy)


def _dx(image: Image) -> Float[Array, "h w_minus_1 3"]:
    return image[:, 1:] - image[:, :-1]


def _dy(image: Image) -> Float[Array, "h_minus_1 w 3"]:
    return image[1:] - image[:-1]


#: Slopes, in parts of white, below which `isotropic` and `huber` are about quadratic.
ISOTROPIC_FLOOR, HUBER_BEND = 1 / 255, 0.05

TOTAL_VARIATIONS: dict[str, Callable[[Image, float], Scalar]] = {
    "power": _tv_power,
    "half_squared": _tv_half_squared,
    "mean_squared": _tv_mean_squared,
    "l1": _tv_l1,
    "isotropic": _tv_isotropic,
    "huber": _tv_huber,
}


def total_variation(image: Image, kind: str = "mean_squared", value_range: float = 1.0) -> Scalar:
    """Returns the total variation of a picture, in the units of its pixels.

    Args:
      image: at least 2 x 2 pixels.
      kind: `power`, sum (dx^2 + dy^2)^1.25 over the positions that have both neighbours (the Keras
        example); `half_squared`, 1/2 sum d^2 over all neighbours (neural-style); `mean_squared`,
        mean dx^2 + mean dy^2, which does not change with the size of the picture; `l1`, sum |d|;
        `isotropic`, sum of s = sqrt(dx^2 + dy^2) over the positions of `power`, which minds edges
        as `l1` does, but alike in every direction (Rudin, Osher and Fatemi 1992), and is smooth
        near zero, sqrt(s^2 + e^2) - e; `huber`, the same with s^2 / 2b up to s = b and s - b/2
        beyond (Huber 1964), which has small ripples fade and leaves edges.
        Each has a finite gradient on a flat picture: the exponent 1.25 of `power` exceeds 1.
      value_range: the value of white, which e and b are parts of; see `ISOTROPIC_FLOOR`.
    """
    return TOTAL_VARIATIONS[kind](image, value_range)
