"""Content, style (Gram) and total-variation losses, each in every normalisation in use.

Pure functions of arrays. Gatys et al. write F (M positions x N channels) for the features of the
generated picture and P for those of the content picture; G = F^T F, and A is the same of the style
picture (arXiv 1508.06576, equations 1 to 5). Tools in use differ from the paper only in what they
divide by, so the divisor is a named choice; the names are the keys of `CONTENT_REDUCTIONS`,
`GRAM_NORMALIZATIONS`, `STYLE_REDUCTIONS` and `TOTAL_VARIATIONS`.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Features = Float[Array, "h w c"]
Gram = Float[Array, "c c"]
FeatureMaps = dict[str, Float[Array, "_ _ _"]]  # by layer; each has its own size
Image = Float[Array, "h w 3"]
Scalar = Float[Array, ""]

CONTENT_REDUCTIONS: dict[str, Callable[[Features], Scalar]] = {
    "half_sum": lambda squares: 0.5 * jnp.sum(squares),
    "sum": jnp.sum,
    "mean": jnp.mean,
}

#: What `gram_matrix` divides by, given positions and channels.
GRAM_NORMALIZATIONS: dict[str, Callable[[int, int], float]] = {
    "none": lambda positions, channels: 1.0,
    "positions": lambda positions, channels: float(positions),
    "size": lambda positions, channels: float(positions) * channels,
}

#: What `style_loss` divides the sum of squares by, given channels and pixels of the picture.
STYLE_REDUCTIONS: dict[str, Callable[[float, int], float]] = {
    "sum": lambda channels, pixels: 1.0,
    "mean": lambda channels, pixels: float(channels) ** 2,
    "gatys": lambda channels, pixels: 4.0 * float(channels) ** 2,
    "image": lambda channels, pixels: 4.0 * 3.0**2 * float(pixels) ** 2,
}


def matrix_product(a: Float[Array, "... n k"], b: Float[Array, "k m"]) -> Float[Array, "... n m"]:
    """Returns a b; sums have at least float32, also of numbers with fewer bits, on every device."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST, preferred_element_type=_wide(a))


def at_least_float32(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns numbers with fewer bits as float32, others as they are."""
    return x.astype(_wide(x))


def _wide(x: Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def softmax_smoothing(features: Features, temperature: float = 1.0) -> Features:
    """Returns the softmax over all entries of a feature map, times their number.

    SWAG of Wang, Li and Vasconcelos 2021 (arXiv 2104.05623): exp(F_ik / T) over the sum of
    exp(F_mn / T) over all channels and positions of the layer, with T = 1. The number of entries is
    ours: the mean is 1 whatever the size of the picture, where the paper's entries, and with them
    its losses, shrink as it grows. So is T: the exponential smooths activations below T, which then
    lie between 1 and e, and sharpens those far above it.

    Args:
      features: F, of any float type.
      temperature: T, in the units of the features.

    Returns:
      At least float32, none negative.
    """
    features = at_least_float32(features)
    return features.size * jax.nn.softmax(features / temperature, axis=None)


def content_loss(
    features: Features,
    target: Features,
    reduction: str = "half_sum",
    weights: Float[Array, "h w 1"] | float = 1.0,
) -> Scalar:
    """Returns the squared distance between two feature maps (Gatys et al. 2015, equation 1).

    Args:
      features: F, of the generated picture.
      target: P, of the content picture, of the same shape.
      reduction: `half_sum`, 1/2 sum (F - P)^2, as in the paper; `sum`; or `mean` over positions
        and channels, which does not change with the size of the picture.
      weights: what the square at each position is multiplied by; a mean is still over all.
    """
    return CONTENT_REDUCTIONS[reduction](weights * jnp.square(features - target))


def gram_matrix(features: Features, normalization: str = "positions") -> Gram:
    """Returns the Gram matrix F^T F of a feature map (Gatys et al. 2015, equation 3).

    Args:
      features: F, of height h, width w and c channels.
      normalization: `none`, as in the paper; `positions`, over h w, so that pictures of different
        sizes compare; `size`, over h w c (Johnson et al. 2016, equation 3).
    """
    height, width, channels = features.shape
    flat = features.reshape(height * width, channels)
    divisor = GRAM_NORMALIZATIONS[normalization](height * width, channels)
    return matrix_product(flat.T, flat) / divisor


def style_loss(gram: Gram, target: Gram, reduction: str = "gatys", pixels: int = 1) -> Scalar:
    """Returns the squared distance between two Gram matrices (Gatys et al. 2015, equation 4).

    Args:
      gram: G, of the generated picture.
      target: A, of the style picture, normalised like G.
      reduction: `sum`; `mean` over the c^2 entries; `gatys`, the sum over 4 c^2, which is the
        paper's E_l when both Gram matrices are over their own number of positions; `image`, the sum
        over 4 3^2 pixels^2, as in the Keras example, for Gram matrices without a normalisation.
      pixels: height times width of the generated picture; only `image` reads it.
    """
    divisor = STYLE_REDUCTIONS[reduction](gram.shape[0], pixels)
    return jnp.sum(jnp.square(gram - target)) / divisor


#: Added to a squared length before its root, whose slope at zero is infinite.
LENGTH_FLOOR = 1e-8


def unit_rows(points: Float[Array, "n c"]) -> Float[Array, "n c"]:
    """Returns vectors over their lengths; those of zero, and all but so, stay short."""
    return points * jax.lax.rsqrt(jnp.sum(jnp.square(points), axis=1, keepdims=True) + LENGTH_FLOOR)


def squared_distances(
    first: Float[Array, "n c"], second: Float[Array, "m c"]
) -> Float[Array, "n m"]:
    """Returns |x - y|^2 of all pairs, in memory of that size."""
    lengths = [jnp.sum(jnp.square(points), axis=1) for points in (first, second)]
    products = matrix_product(first, second.T)
    return jnp.maximum(lengths[0][:, None] + lengths[1] - 2.0 * products, 0.0)


def grid_sample(features: Features, samples: int) -> Float[Array, "n c"]:
    """Returns features at the positions of the finest square grid with at most so many of them."""
    height, width, channels = features.shape
    step = next(k for k in itertools.count(1) if -(-height // k) * -(-width // k) <= samples)
    top, left = (min(step // 2, (length - 1) // 2) for length in (height, width))
    return at_least_float32(features[top::step, left::step].reshape(-1, channels))


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
