"""Losses of a picture: content, style, total variation, and the smoothing of features before them.

Pure functions of arrays, and the records that choose among them. To add a loss of your own, make a
subclass of `StyleLoss` or `ContentLoss`.
"""

from nstyle.losses.content import (
    CONTENT_REDUCTIONS,
    ContentLoss,
    Contextual,
    Cosine,
    Euclidean,
    Rescaled,
    SelfSimilarity,
    content_loss,
)
from nstyle.losses.gram import (
    GRAM_NORMALIZATIONS,
    STYLE_REDUCTIONS,
    Covariance,
    CrossLayerGram,
    GramMatrix,
    gram_matrix,
    style_loss,
)
from nstyle.losses.moments import MMD, MeanStd, Wasserstein
from nstyle.losses.smoothing import NoSmoothing, Smoothing, Swag, softmax_smoothing
from nstyle.losses.style import MomentLoss, Moments, StyleLoss, moments
from nstyle.losses.total_variation import TOTAL_VARIATIONS, total_variation
from nstyle.losses.transport import Histogram, NearestNeighbour, RelaxedEMD, SlicedWasserstein

#: The losses of this package, by name.
CONTENT_LOSSES: dict[str, type[ContentLoss]] = {
    loss.name: loss for loss in (Euclidean, Rescaled, Cosine, SelfSimilarity, Contextual)
}
STYLE_LOSSES: dict[str, type[StyleLoss]] = {
    loss.name: loss
    for loss in (
        GramMatrix,
        Covariance,
        MeanStd,
        MMD,
        Wasserstein,
        SlicedWasserstein,
        Histogram,
        NearestNeighbour,
        RelaxedEMD,
        CrossLayerGram,
    )
}

__all__ = [
    "CONTENT_LOSSES",
    "CONTENT_REDUCTIONS",
    "GRAM_NORMALIZATIONS",
    "MMD",
    "STYLE_LOSSES",
    "STYLE_REDUCTIONS",
    "TOTAL_VARIATIONS",
    "ContentLoss",
    "Contextual",
    "Cosine",
    "Covariance",
    "CrossLayerGram",
    "Euclidean",
    "GramMatrix",
    "Histogram",
    "MeanStd",
    "MomentLoss",
    "Moments",
    "NearestNeighbour",
    "NoSmoothing",
    "RelaxedEMD",
    "Rescaled",
    "SelfSimilarity",
    "SlicedWasserstein",
    "Smoothing",
    "StyleLoss",
    "Swag",
    "Wasserstein",
    "content_loss",
    "gram_matrix",
    "moments",
    "softmax_smoothing",
    "style_loss",
    "total_variation",
]
