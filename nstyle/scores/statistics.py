"""Scores of the statistics of features, which know nothing of where things are."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nstyle.records import choice
from nstyle.scores.judges import JUDGES, Moments, layer_moments
from nstyle.scores.record import Picture, Score


@dataclass(frozen=True)
class GramDistance(Score):
    """See `gram_distance`.

    Attributes:
      network: which judges; VGG-16 takes about as long as a step of a run.
    """

    name = "style_gram"
    network: str = choice("alexnet", JUDGES)

    @property
    def judge(self) -> str:
        """See `Score`."""
        return self.network

    @property
    def label(self) -> str:
        """See `Score`."""
        return "Gram distance to style" + ("" if self.network == "alexnet" else " (VGG-16)")

    @property
    def meaning(self) -> str:
        """See `Score`."""
        judge = {"alexnet": "AlexNet", "vgg16": "VGG-16"}[self.network]
        return f"distance of {judge}'s Gram matrices to the style's; lower is closer"

    def __call__(self, image: Picture, other: Picture) -> float:
        """Returns the distance."""
        return gram_distance(image, other, self.network)


@dataclass(frozen=True)
class FrechetDistance(Score):
    """See `frechet_distance`."""

    name = "style_frechet"
    judge = "alexnet"
    label = "Fréchet distance to style"
    meaning = "Fréchet distance of AlexNet's features to the style's; lower is closer"

    def __call__(self, image: Picture, other: Picture) -> float:
        """Returns the distance."""
        return frechet_distance(image, other)


def gram_distance(image: Picture, style: Picture, network: str = "alexnet") -> float:
    """Returns how far a network's Gram matrices of two pictures lie apart, whatever their sizes.

    The mean over its five layers in `JUDGES` of |G - A| / |A|, with Frobenius norms and Gram
    matrices over their number of positions: 0 for identical pictures, 1 for a picture without any
    features. A Gram matrix knows nothing of where things are. A is of `style`: the two do not
    change places.

    Args:
      image: float (height, width, 3) in [0, 1].
      style: likewise, of any size.
      network: a key of `JUDGES`.
    """

    def relative(found: Moments, wanted: Moments) -> float:
        gram = _gram(wanted)
        return float(np.linalg.norm(_gram(found) - gram) / np.linalg.norm(gram))

    return _mean_over_layers(relative, image, style, network)


def frechet_distance(image: Picture, style: Picture) -> float:
    """Returns the Fréchet distance of AlexNet's features of two pictures, whatever their sizes.

    The mean over the five layers of `squared_frechet` between the features at all positions, each
    over the energy |mu|^2 + tr C of the style's: 0 for identical pictures, 1 for a picture without
    any features. Heusel et al. 2017 (arXiv 1706.08500) compare sets of pictures so, by Inception's
    last layer. Here the positions of one picture are the set: they are few, not independent, and
    a covariance of few positions is poor, so that only pictures of like sizes compare. Nothing
    beyond mean and covariance counts, nor where things are.

    Args:
      image: float (height, width, 3) in [0, 1].
      style: likewise, of any size.
    """

    def relative(found: Moments, wanted: Moments) -> float:
        energy = np.sum(np.square(wanted.mean)) + np.sum(np.square(wanted.root))
        return squared_frechet(found, wanted) / float(energy)

    return _mean_over_layers(relative, image, style)


def squared_frechet(first: Moments, second: Moments) -> float:
    """Returns the squared Fréchet (Wasserstein-2) distance of two Gaussians.

    |mu - nu|^2 + tr(C + D - 2 (C^1/2 D C^1/2)^1/2), Dowson and Landau 1982. The trace of the
    last root is the sum of the singular values of R S^T for any R, S with R^T R = C and S^T S = D:
    no product of covariances is rooted, and those of low rank are as good as others.
    """
    overlap = np.linalg.svd(first.root @ second.root.T, compute_uv=False).sum()
    spread = np.sum(np.square(first.root)) + np.sum(np.square(second.root))
    shift = np.sum(np.square(first.mean - second.mean))
    return float(shift + max(0.0, spread - 2 * overlap))


def _gram(of: Moments) -> np.ndarray:
    return of.root.T @ of.root + np.outer(of.mean, of.mean)


def _mean_over_layers(
    distance: Callable[[Moments, Moments], float],
    image: Picture,
    style: Picture,
    network: str = "alexnet",
) -> float:
    found = layer_moments(network, image, style)
    if found is None:
        return math.nan
    return float(np.mean([distance(*pair) for pair in zip(*found, strict=True)]))
