"""A score of one's own: how much of the photograph's edges is where it was."""

from dataclasses import dataclass

import numpy as np
from skimage.color import rgb2gray
from skimage.filters import sobel
from skimage.transform import resize

from nstyle.scores import Score


@dataclass(frozen=True)
class Edges(Score):
    """Correlation of Sobel's edges with those of the photograph."""

    name = "edges"
    label = "edges in place"
    meaning = "correlation of edges with the photograph's, at most 1; higher is closer"
    against = "content"
    higher_is_better = True

    def __call__(self, image, other):
        """Returns the correlation; NaN where a picture has no edges."""
        other = resize(other, image.shape)
        edges = [sobel(rgb2gray(picture)).ravel() for picture in (image, other)]
        with np.errstate(invalid="ignore"):
            return float(np.corrcoef(*edges)[0, 1])
