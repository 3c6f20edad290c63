"""Pictures of leaves that hide one another, drawn at random, to learn from beside photographs.

The dead leaves model: where the density of radii falls with their third power, edges and contrasts
are those of photographs at any scale (Lee, Mumford and Huang 2001, "Occlusion models for natural
images"), and networks learn from them as from photographs (Achddou, Gousseau and Ladjal 2021,
"Synthetic images as a regularity prior for image restoration neural networks").
"""

import numpy as np

from nstyle import images

_LEAVES = 400

#: Radii, in parts of the picture's edge.
_SMALLEST, _LARGEST = 1 / 24, 1 / 2

#: Share of the leaves that have four corners; the others are ellipses.
_CORNERED = 0.3

#: Width over length of the narrowest leaf.
_NARROWEST = 0.4

#: Standard deviations at most: of lightness and hue, of the change along the picture, of grain.
_LIGHTNESS, _HUE, _SLOPE, _GRAIN = 0.6, 0.5, 0.5, 0.2

#: Points of an outline; a multiple of 8, so that corners are among them.
_POINTS = 32


def dead_leaves(size: int, random: np.random.Generator) -> np.ndarray:
    """Returns leaves on one another, each of a colour that changes along it, with grain.

    Args:
      size: edge in pixels.
      random: decides it all.

    Returns:
      A float32 array (size, size, 3), RGB in [0, 1].
    """
    radii = random.uniform(_LARGEST**-2, _SMALLEST**-2, (_LEAVES, 1)) ** -0.5
    centres = random.uniform(-radii, 1 + radii, (_LEAVES, 2))
    which = images.drawn(size * _outlines(radii, centres, random), size, size)
    places = np.stack(np.meshgrid(*2 * [np.arange(size) / size]), axis=-1)
    # The first colour is that of the ground, which shows between leaves.
    beside = places - np.concatenate([[[0.5, 0.5]], centres])[which]
    slopes = random.normal(0, random.uniform(0, _SLOPE), (_LEAVES + 1, 2))
    grains = random.uniform(0, random.uniform(0, _GRAIN), _LEAVES + 1)
    shade = np.sum(slopes[which] * beside, axis=-1)
    shade += grains[which] * random.standard_normal((size, size))
    picture = _colours(random)[which] + shade[..., None]
    return np.clip(picture, 0, 1).astype(np.float32)


def _colours(random: np.random.Generator) -> np.ndarray:
    """Returns colours, (leaves + 1, 3), that differ in lightness, and less in hue."""
    lightness = random.normal(0, random.uniform(0, _LIGHTNESS), (_LEAVES + 1, 1))
    common, own = (random.normal(0, random.uniform(0, _HUE), (n, 3)) for n in (1, _LEAVES + 1))
    return np.clip(random.uniform(0.2, 0.8) + common + lightness + own, 0, 1)


def _outlines(radii: np.ndarray, centres: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the points of leaves turned at random: x and y, (leaves, points, 2)."""
    angles = 2 * np.pi * np.arange(_POINTS) / _POINTS
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    square = circle / np.abs(circle).max(axis=-1, keepdims=True)
    cornered = random.random((len(radii), 1, 1)) < _CORNERED
    narrow = random.uniform(_NARROWEST, 1, (len(radii), 1))
    x, y = np.moveaxis(np.where(cornered, square, circle), -1, 0)
    y = narrow * y
    turn = random.uniform(0, np.pi, (len(radii), 1))
    x, y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    return centres[:, None] + radii[..., None] * np.stack([x, y], axis=-1)
