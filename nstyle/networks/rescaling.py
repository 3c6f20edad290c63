"""Rescaled weights: every filter's mean activation over a fixed set of photographs is 1.

The photographs come with scikit-image, so that anyone gets the same numbers. Each is seen three
times, its channels rotated: few photographs have few colours, and a filter for a colour that none
has would be blown up. The mean activations are kept in the user's cache under a hash of weights,
pooling and photographs.
"""

import hashlib
import io
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import skimage.data

from nstyle import images
from nstyle.files import cache_dir, write_atomic
from nstyle.networks import Params, layer_names, mean_activations, pool_counts, rescale
from nstyle.networks.poolings import Pooling
from nstyle.networks.weights import Weights

#: Photographs of scikit-image, and the side of the square that is cut from the middle of each.
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
SIDE = 224


def photographs() -> list[np.ndarray]:
    """Returns the calibration pictures: short side scaled to `SIDE`, the middle square cut out.

    Each comes as it is and with its channels rotated once and twice.
    """
    folder = Path(skimage.data.__file__).parent
    squares = []
    for name in PHOTOGRAPHS:
        picture = images.load(folder / name, SIDE, "short")
        top, left = ((length - SIDE) // 2 for length in picture.shape[:2])
        square = picture[top : top + SIDE, left : left + SIDE]
        squares += [np.roll(square, turn, axis=2) for turn in range(3)]
    return squares


def activations(weights: Weights, pooling: Pooling) -> dict[str, np.ndarray]:
    """Returns the mean activation of every filter over the photographs, from the cache if there.

    Args:
      weights: a weight set.
      pooling: deeper layers depend on it. Of a user's own, whose code may change, nothing is kept.

    Returns:
      Layer name -> float32 array (channels,).

    Raises:
      NstyleError: of poolings for each pool there are fewer than the network has.
    """
    pictures = photographs()
    digest = hashlib.sha256(f"{weights.sha256} {weights.pixels} {pooling!r}".encode())
    for picture in pictures:
        digest.update(picture.tobytes())
    path = cache_dir() / "activations" / f"{weights.network}-{digest.hexdigest()[:16]}.npz"
    pooling.check_pools(*pool_counts(layer_names(weights.network), weights.network))
    is_ours = all(part.is_built_in for part in pooling.parts)
    kept = _kept(path) if is_ours else {}
    if kept.keys() == set(layer_names(weights.network)):
        return kept
    print(
        f"nstyle: measuring {weights.network}'s mean activations, once for these weights",
        file=sys.stderr,
    )
    means = mean_activations(
        weights.params,
        [jnp.asarray(picture) for picture in pictures],
        network=weights.network,
        pooling=pooling,
        pixels=weights.pixels,
    )
    found = {layer: np.asarray(means[layer]) for layer in layer_names(weights.network)}
    if is_ours:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **found)
        write_atomic(path, buffer.getvalue())
    return found


def _kept(path: Path) -> dict[str, np.ndarray]:
    """Returns what an earlier run stored; nothing if that is damaged."""
    try:
        with np.load(path) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return {}


def rescaled(weights: Weights, pooling: Pooling) -> Params:
    """Returns the parameters with every filter over its mean activation; see `networks.rescale`."""
    means: Mapping[str, jnp.ndarray] = {
        layer: jnp.asarray(mean) for layer, mean in activations(weights, pooling).items()
    }
    return rescale(weights.params, means, weights.network)
