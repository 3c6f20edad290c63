"""Features as points, one for each position: their lengths, distances and samples."""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstyle.arrays import Features, Points, at_least_float32, matrix_product

#: Added to a squared length before its root, whose slope at zero is infinite.
LENGTH_FLOOR = 1e-8


def points_of(features: Features) -> Points:
    """Returns the features of every position, at least float32."""
    return at_least_float32(features.reshape(-1, features.shape[-1]))


def unit_rows(points: Points) -> Points:
    """Returns vectors over their lengths; those of zero, and all but so, stay short."""
    return points * jax.lax.rsqrt(jnp.sum(jnp.square(points), axis=1, keepdims=True) + LENGTH_FLOOR)


def squared_distances(
    first: Float[Array, "n c"], second: Float[Array, "m c"]
) -> Float[Array, "n m"]:
    """Returns |x - y|^2 of all pairs, in memory of that size."""
    lengths = [jnp.sum(jnp.square(points), axis=1) for points in (first, second)]
    products = matrix_product(first, second.T)
    return jnp.maximum(lengths[0][:, None] + lengths[1] - 2.0 * products, 0.0)


def grid_sample(features: Features, samples: int) -> Points:
    """Returns features at the positions of the finest square grid with at most so many of them."""
    height, width, channels = features.shape
    step = next(k for k in itertools.count(1) if -(-height // k) * -(-width // k) <= samples)
    top, left = (min(step // 2, (length - 1) // 2) for length in (height, width))
    return at_least_float32(features[top::step, left::step].reshape(-1, channels))
