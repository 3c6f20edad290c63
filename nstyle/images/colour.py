"""Keeping the photograph's colours (Gatys et al. 2016, arXiv 1606.05897; Gatys et al. 2017).

Either the network sees luminance alone and the written picture gets the photograph's chrominance
back, or the painting is given the photograph's colours before anything is compared with it.

Luminance is Y of YIQ; chrominance is I and Q. As grey has neither, two colours with the same I and
Q differ by the same amount in red, green and blue: the written picture is the photograph plus one
number a pixel.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from skimage.exposure import match_histograms

#: Y of YIQ by red, green and blue.
LUMINANCE = (0.299, 0.587, 0.114)

#: Steps of a channel of the pictures that are read and written.
STEPS = 255

#: Variance added to that of every colour, that of one step of a channel, so that a picture that
#: lacks a colour, a grey one say, does not get it from noise.
COLOUR_NOISE = STEPS**-2

AnyArray = TypeVar("AnyArray", jax.Array, np.ndarray)


def grey(image: AnyArray) -> AnyArray:
    """Returns a picture (height, width, 3) with its luminance in each channel."""
    weights = np.asarray(LUMINANCE, image.dtype)
    luminance = (image * weights).sum(axis=-1, keepdims=True)
    return luminance.repeat(3, axis=-1)


def with_chrominance(image: np.ndarray, photograph: np.ndarray) -> np.ndarray:
    """Returns a picture's luminance with a photograph's chrominance.

    The luminance gives way where the colour would not exist, so that clipping does not bend it:
    each pixel gets the nearest luminance that the photograph's I and Q have within [0, 1]. It moves
    by whole steps of 1 / 255: where the photograph is one of 8 bits, so is the result, and in a PNG
    file its I and Q are the photograph's exactly. Of another photograph they are kept in memory, to
    float32's rounding.

    Args:
      image: float (height, width, 3); values outside [0, 1] are fine.
      photograph: of the same shape, in [0, 1].
    """
    change = (grey(image) - grey(photograph))[..., :1]
    brighter = 1 - photograph.max(axis=-1, keepdims=True)
    darker = -photograph.min(axis=-1, keepdims=True)
    return photograph + np.clip(np.round(change * STEPS) / STEPS, darker, brighter)


def recoloured(style: np.ndarray, content: np.ndarray, colour: str) -> np.ndarray:
    """Returns the painting as it is compared with, float32 in [0, 1].

    Args:
      style: the painting, float32 (height, width, 3) in [0, 1].
      content: the photograph, of any size.
      colour: one of `COLOURS`. `none` and `luminance` leave the painting as it is;
        `matched_luminance` gives it the mean and variance of the photograph's luminance;
        `cholesky` and `square_root` the mean and covariance of its colours, see `match_moments`;
        `histogram` the histogram of each channel. Values are then clipped, after which mean and
        covariance are nearly the photograph's.
    """
    if colour not in _RECOLOURINGS:
        return style
    return np.clip(_RECOLOURINGS[colour](style, content), 0, 1).astype(np.float32)


def match_moments(
    points: np.ndarray, others: np.ndarray, root: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Returns points moved, by one linear map A and a shift, to the mean and covariance of others.

    A = R(others) R(points)^-1, where R R^T is the covariance (Gatys et al. 2016, section 5.1).
    Covariances have `COLOUR_NOISE` on their diagonal: A is finite for grey and flat pictures too,
    and colours that points lack stay lacking.

    Args:
      points: (n, channels).
      others: (m, channels).
      root: covariance -> R, such as `numpy.linalg.cholesky` or `square_root`.

    Returns:
      float64 (n, channels).
    """
    roots = []
    for values in (points, others):
        covariance = np.cov(values, rowvar=False, bias=True, dtype=np.float64)
        channels = values.shape[1]
        roots.append(root(covariance.reshape(channels, channels) + COLOUR_NOISE * np.eye(channels)))
    linear = roots[1] @ np.linalg.inv(roots[0])
    means = [values.mean(axis=0, dtype=np.float64) for values in (points, others)]
    return (points - means[0]) @ linear.T + means[1]


def square_root(covariance: np.ndarray) -> np.ndarray:
    """Returns the symmetric R with R R = a covariance that is positive definite."""
    variances, axes = np.linalg.eigh(covariance)
    return (axes * np.sqrt(variances)) @ axes.T


def _match_colours(
    style: np.ndarray, content: np.ndarray, root: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    return match_moments(style.reshape(-1, 3), content.reshape(-1, 3), root).reshape(style.shape)


def _match_luminance(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    own, others = (grey(image)[..., 0].reshape(-1, 1) for image in (style, content))
    return match_moments(own, others, np.sqrt).reshape(*style.shape[:2], 1).repeat(3, axis=-1)


_RECOLOURINGS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "matched_luminance": _match_luminance,
    "cholesky": lambda style, content: _match_colours(style, content, np.linalg.cholesky),
    "square_root": lambda style, content: _match_colours(style, content, square_root),
    "histogram": lambda style, content: match_histograms(style, content, channel_axis=-1),
}

#: Ways to keep the photograph's colours that show the network luminance alone.
OF_LUMINANCE = ("luminance", "matched_luminance")

#: What `recoloured` takes.
COLOURS = ("none", "luminance", *_RECOLOURINGS)
