"""Scores of a finished picture by what was not optimised: AlexNet, similarity, colours.

Losses of different layers, poolings or networks do not compare; these scores do, between results of
one size. A network does not judge fairly what itself optimised: to compare results of both, look at
both. To add a score of your own, make a subclass of `Score`.

Every score is a float. It is NaN, in `score` None, where a picture is too small for it: a side of
which a network's deepest layer has no position (31 pixels for AlexNet, 16 for VGG-16), below
`SSIM_WINDOW` for structural similarity; or too large, above `VGG_MOST_PIXELS` for VGG-16.
"""

import math
from collections.abc import Mapping
from typing import TypedDict

from nstyle.scores.judges import JUDGES, VGG_MOST_PIXELS, Moments, moments
from nstyle.scores.perceptual import LPIPS, lpips
from nstyle.scores.pixels import (
    SSIM,
    SSIM_WINDOW,
    ColourHistogram,
    fidelity,
    histogram_distance,
    ssim,
)
from nstyle.scores.record import Picture, Score
from nstyle.scores.statistics import (
    FrechetDistance,
    GramDistance,
    frechet_distance,
    gram_distance,
    squared_frechet,
)

#: The scores of this package, by name.
SCORES: Mapping[str, Score] = {
    own.name: own for own in (LPIPS(), SSIM(), GramDistance(), FrechetDistance(), ColourHistogram())
} | {"style_gram_vgg16": GramDistance("vgg16")}


class Description(TypedDict):
    """What a score is, in words and plain values, for the record."""

    label: str
    meaning: str
    against: str
    higher_is_better: bool


def described(scores: Mapping[str, Score]) -> dict[str, Description]:
    """Returns what scores are, by name."""
    return {
        name: {
            "label": own.label,
            "meaning": own.meaning,
            "against": own.against,
            "higher_is_better": own.higher_is_better,
        }
        for name, own in scores.items()
    }


def score(
    image: Picture,
    content: Picture | None,
    style: Picture | None,
    scores: Mapping[str, Score] = SCORES,
) -> dict[str, float | None]:
    """Returns the scores of a picture, by name.

    Args:
      image: the result.
      content: the photograph; None leaves the scores against it None.
      style: the painting, of any size; None leaves the scores against it None.
      scores: by name; by default all of this package, VGG-16's too, which takes the most time.

    Raises:
      NstyleError: a picture is of another type or shape, or has values that are not finite.
    """
    others = {"content": content, "style": style}
    found: dict[str, float | None] = {}
    for name, measure in scores.items():
        other = others[measure.against]
        value = math.nan if other is None else float(measure(image, other))
        found[name] = None if math.isnan(value) else value
    return found


__all__ = [
    "JUDGES",
    "LPIPS",
    "SCORES",
    "SSIM",
    "SSIM_WINDOW",
    "VGG_MOST_PIXELS",
    "ColourHistogram",
    "Description",
    "FrechetDistance",
    "GramDistance",
    "Moments",
    "Picture",
    "Score",
    "described",
    "fidelity",
    "frechet_distance",
    "gram_distance",
    "histogram_distance",
    "lpips",
    "moments",
    "score",
    "squared_frechet",
    "ssim",
]
