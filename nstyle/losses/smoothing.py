"""Smoothing of features, before any loss sees them."""

from dataclasses import dataclass
from typing import ClassVar

import jax
from jaxtyping import Array, Float

from nstyle.arrays import Features, Number, at_least_float32
from nstyle.records import Record, number


@dataclass(frozen=True)
class Smoothing(Record):
    """What the features of a layer become before any loss.

    Attributes:
      is_identity: whether features stay as they are; tiles know no other smoothing.
    """

    group = "smoothing"
    is_identity: ClassVar[bool] = False

    def __call__(self, features: Features) -> Float[Array, "h w c"]:
        """Returns the smoothed features of one layer."""
        raise NotImplementedError


@dataclass(frozen=True)
class NoSmoothing(Smoothing):
    """Features as they are."""

    name = "none"
    is_identity = True

    def __call__(self, features: Features) -> Float[Array, "h w c"]:
        """Returns the features."""
        return features


@dataclass(frozen=True)
class Swag(Smoothing):
    """The softmax over all entries of a feature map, see `softmax_smoothing`.

    Attributes:
      temperature: T, in the units of the features.
    """

    name = "swag"
    temperature: float = number(10.0, 1e-3, 1e12, traced=True)

    def __call__(self, features: Features) -> Float[Array, "h w c"]:
        """Returns at least float32, none negative."""
        return softmax_smoothing(features, self.temperature)


def softmax_smoothing(features: Features, temperature: Number = 1.0) -> Features:
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
