"""Names of arrays, and the few operations on them that every room needs."""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Features = Float[Array, "h w c"]
Gram = Float[Array, "c c"]
Points = Float[Array, "n c"]
FeatureMaps = dict[str, Float[Array, "_ _ _"]]  # by layer; each has its own size
Image = Float[Array, "h w 3"]
Scalar = Float[Array, ""]
Number = Float[Array, ""] | float
PyTree: TypeAlias = Any  # arrays in tuples, lists and dictionaries, as JAX has them


def matrix_product(a: Float[Array, "... n k"], b: Float[Array, "k m"]) -> Float[Array, "... n m"]:
    """Returns a b; sums have at least float32, also of numbers with fewer bits, on every device."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST, preferred_element_type=_wide(a))


def at_least_float32(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns numbers with fewer bits as float32, others as they are."""
    return x.astype(_wide(x))


def _wide(x: Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)
