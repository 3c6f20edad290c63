"""Scores of the pixels themselves: structural similarity, colours, and fidelity of restoration."""

import math
from dataclasses import dataclass

import numpy as np

from nstyle.scores.record import Picture, Score, alike, checked

SSIM_WINDOW = 7
COLOUR_BINS = 8  # of each channel


@dataclass(frozen=True)
class SSIM(Score):
    """See `ssim`."""

    name = "ssim_content"
    label = "SSIM to content"
    meaning = "structural similarity to the content's luminance, at most 1; higher is closer"
    against = "content"
    higher_is_better = True

    def __call__(self, image: Picture, other: Picture) -> float:
        """Returns the similarity."""
        return ssim(image, other)


@dataclass(frozen=True)
class ColourHistogram(Score):
    """See `histogram_distance`."""

    name = "colour_histogram"
    label = "colours not of the style"
    meaning = "share of colours not in common with the style picture; lower is closer"

    def __call__(self, image: Picture, other: Picture) -> float:
        """Returns the distance."""
        return histogram_distance(image, other)


def ssim(image: Picture, other: Picture) -> float:
    """Returns the mean structural similarity of two pictures (Wang et al. 2004, equation 13).

    Of the luminance (Rec. 709 weights on sRGB values), since a style is meant to change colours,
    in scikit-image's uniform window of 7 x 7 pixels instead of the paper's Gaussian. It compares
    pixels at the same place: a stroke that moves an edge by a few pixels costs as much as one that
    removes it.

    Args:
      image: float (height, width, 3) in [0, 1].
      other: likewise; scaled to the shape of `image` if it has another.

    Returns:
      1 for identical pictures, near 0 for unrelated ones, at least -1.
    """
    from skimage.color import rgb2gray
    from skimage.metrics import structural_similarity

    luminances = [rgb2gray(x.astype(np.float64)) for x in alike(image, other)]
    if min(luminances[0].shape) < SSIM_WINDOW:
        return math.nan
    return float(structural_similarity(*luminances, win_size=SSIM_WINDOW, data_range=1))


def fidelity(image: Picture, original: Picture) -> dict[str, float]:
    """Returns how close a restored picture comes to the original, as super-resolution is judged.

    Of Y of YCbCr (ITU-R BT.601, from 16 to 235), as Johnson et al. 2016 (section 4.2) do, with 255
    as the peak: `psnr` = 10 log10(255^2 / mean squared error) in dB, inf where there is none, and
    `ssim` of Wang et al. 2004, the mean over where their Gaussian window (11 x 11 pixels, standard
    deviation 1.5) lies inside the picture. No border is cut off, nothing is rounded to 8 bits.

    Args:
      image: float (height, width, 3) in [0, 1], at least 11 x 11; clipped.
      original: likewise, of the same shape.
    """
    from skimage.color import rgb2ycbcr
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    restored, wanted = (rgb2ycbcr(checked(x).astype(np.float64))[..., 0] for x in (image, original))
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    with np.errstate(divide="ignore"):
        psnr = peak_signal_noise_ratio(wanted, restored, data_range=255)
    ssim = structural_similarity(wanted, restored, data_range=255, **window)
    return {"psnr": float(psnr), "ssim": float(ssim)}


def histogram_distance(image: Picture, style: Picture) -> float:
    """Returns 1 minus the intersection of two pictures' colour histograms, whatever their sizes.

    Swain and Ballard 1991 (Color Indexing), with shares of the pixels in 8 x 8 x 8 bins of RGB. It
    is symmetric. A bin knows no neighbours: a slight change of all colours across the edge of their
    bins counts as much as a great one.

    Args:
      image: float (height, width, 3) in [0, 1].
      style: likewise, of any size.

    Returns:
      0 for the same shares in each bin, 1 for no bin in common.
    """
    first, second = (_histogram(checked(x)) for x in (image, style))
    # The same number, for shares that sum to 1, and exactly 0 for identical pictures.
    return float(np.sum(np.abs(first - second)) / 2)


def _histogram(image: Picture) -> np.ndarray:
    pixels = image.reshape(-1, 3)
    counts, _ = np.histogramdd(pixels, bins=COLOUR_BINS, range=[(0, 1)] * 3)
    return counts / len(pixels)
